# SPDX-License-Identifier: Apache-2.0
"""Ranges of the fast frame pool: an offset for each time that a group is in fast memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ..formats.fields import Ints


_REPAIRS = 4  # times that blocks which found no range come first


def assign(begin: Ints, end: Ints, size: Ints, limit: int) -> Ints:
    """Return offsets below `limit` for blocks that live from `begin` to `end`, -1 where there is none.

    Blocks are disjoint while both live. Several orders are tried; the one that places most bytes wins.
    """
    life = np.maximum(end - begin, 1)
    orders = [np.lexsort(keys[::-1]) for keys in ((begin, -size), (-size, begin), (-size * life, begin))]
    best, best_order, most = np.full(len(size), -1, dtype=np.int64), orders[0], -1
    repairs = _REPAIRS
    while orders:
        order = orders.pop(0)
        offset = _place(begin, end, size, limit, order)
        placed = int((size * life)[offset >= 0].sum())
        better = placed > most
        if better:
            best, best_order, most = offset, order, placed
        if (best >= 0).all():
            break
        if not orders and repairs and (better or repairs == _REPAIRS):
            repairs -= 1
            orders.append(best_order[np.argsort(best[best_order] >= 0, kind="stable")])
    return best


def _place(begin: Ints, end: Ints, size: Ints, limit: int, order: Ints) -> Ints:
    """Place blocks in this order, each in the smallest gap that is free for its whole life."""
    offset = np.full(len(size), -1, dtype=np.int64)
    table = np.zeros((4, len(size)), dtype=np.int64)  # offset, its end, begin, end
    count = 0
    columns = (column[order].tolist() for column in (begin, end, size))
    for i, born, dead, length in zip(order.tolist(), *columns):
        low, high, births, deaths = table[:, :count]
        alive = np.flatnonzero((births < dead) & (deaths > born))
        low, high = low[alive], high[alive]
        by_offset = np.argsort(low, kind="stable")
        low, top = low[by_offset], np.maximum.accumulate(high[by_offset])
        starts = np.concatenate(([0], top))
        room = np.append(low, limit) - starts
        room = np.where(room >= length, room, np.iinfo(np.int64).max)
        k = int(room.argmin())
        if room[k] == np.iinfo(np.int64).max:
            continue
        offset[i] = starts[k]
        table[:, count] = starts[k], starts[k] + length, born, dead
        count += 1
    return offset
