# SPDX-License-Identifier: Apache-2.0
"""Ranges of the fast frame pool: an offset for each time that a group is in fast memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ..formats.fields import Ints


def assign(begin: Ints, end: Ints, size: Ints, limit: int) -> Ints:
    """Return offsets below `limit` for blocks that live from `begin` to `end`, -1 where there is none.

    Blocks are disjoint while both live. Several orders are tried; the one that places most bytes wins.
    """
    life = np.maximum(end - begin, 1)
    orders = ((begin, -size), (-size, begin), (-size * life, begin), (-life, begin))
    best, most = np.full(len(size), -1, dtype=np.int64), -1
    for keys in orders:
        offset = _place(begin, end, size, limit, np.lexsort(keys[::-1]))
        placed = int((size * life)[offset >= 0].sum())
        if placed > most:
            best, most = offset, placed
        if (offset >= 0).all():
            break
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
