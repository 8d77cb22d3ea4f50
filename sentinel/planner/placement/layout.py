# SPDX-License-Identifier: Apache-2.0
"""Addresses for what never moves: one range, of which the beginning is in fast memory.

The tensors that save most per byte come first, each at the lowest address that is free during its whole life.
So the hottest are below the limit, what is not used at the same time shares addresses (which a cache likes
as much as a small memory does), pages are there from the first step on and stay, and the one tensor that
crosses the limit is in both memories. Placing by heat is the greedy rule for a knapsack, whose items share
room over time here; some more orders are tried beside it.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..memory.classify import VARIABLES
from ..memory.pool import aligned, covered
from ..problem import Problem

if TYPE_CHECKING:
    from ..formats.fields import Bools, Floats, Ints


class Order(NamedTuple):
    """What comes first: by ns saved, per byte to this power, and per position of its life to that."""

    byte: float = 1.0
    life: float = 0.0


HEAT = Order()
ORDERS = (HEAT, Order(0.9), Order(0.75), Order(0.5), Order(0.0), Order(1.0, 0.1), Order(1.0, 0.25))


@dataclass(frozen=True)
class Layout:
    """Offsets of `tensors` (ascending indices), of which those below `limit` are in fast memory.

    `fast` is the share of each tensor's touched bytes that is. Variables have addresses elsewhere: theirs
    here are left free, so that the limit holds for everything together. They are in one memory or the other.
    `fast_bytes` is what all others take of fast memory, `size` the range they need, both in whole pages.
    """

    tensors: Ints
    offset: Ints
    fast: Floats
    limit: int
    size: int
    fast_bytes: int

    def shares(self, count: int) -> Floats:
        """`fast` of all `count` tensors of the profile, 0 for those that are not here."""
        shares = np.zeros(count)
        shares[self.tensors] = self.fast
        return shares


def layout(problem: Problem, chosen: Bools, limit: int, order: Order = HEAT) -> Layout:
    """Lay out the `chosen` tensors, with `limit` bytes (whole pages) in fast memory."""
    profile = problem.profile
    page, t = profile.page, profile.tensors
    tensors = np.flatnonzero(chosen)
    gain = np.bincount(profile.uses.tensor, weights=problem.costs.gain, minlength=len(t))[tensors]
    touched = t.bytes[tensors]
    variable = problem.classes[tensors] == VARIABLES
    size = np.where(variable, -(-t.size[tensors] // page) * page, aligned(t.size[tensors]))
    partly = ~variable & (touched <= size - page)
    birth, death = np.maximum(t.birth[tensors], 0), t.death[tensors]
    heat = gain / np.maximum(touched, 1) ** order.byte / (death - birth) ** order.life
    offset = np.full(len(tensors), -1, dtype=np.int64)
    fast = _Range(limit, len(tensors))
    ranked = np.lexsort((tensors, -heat))
    prefix = np.where(partly, -(-touched // page) * page, 0)
    columns = (column[ranked].tolist() for column in (size, birth, death, prefix, variable))
    for i, length, born, dead, first, whole in zip(ranked.tolist(), *columns):
        where = fast.find(length, born, dead, first, align=page if whole else 1)
        if where >= 0 and not (whole and where + length > limit):
            offset[i] = where
            fast.take(where, length, born, dead)
    slow = np.flatnonzero((offset < 0) & ~variable)
    begin = -(-max(limit, fast.top) // page) * page
    offset[slow] = begin + in_time(size[slow], birth[slow], death[slow])
    below = np.where(offset >= 0, np.clip(limit - offset, 0, touched), 0)
    held = ~variable & (below > 0)
    top = int(np.max(np.where(variable, 0, offset + size), initial=0))
    return Layout(
        tensors=tensors,
        offset=offset,
        fast=np.divide(below, touched, out=np.zeros(len(tensors)), where=touched > 0),
        limit=limit,
        size=-(-top // page) * page,
        fast_bytes=covered(offset[held], (offset + below)[held], page),
    )


class _Range:
    """Addresses from 0 on that are taken for some time each; those that begin before the limit."""

    def __init__(self, limit: int, most: int) -> None:
        self._limit = limit
        self.top = 0
        self._count = 0
        # begin (ascending), end, birth, death
        self._table = np.zeros((4, most), dtype=np.int64)

    def find(self, size: int, birth: int, death: int, prefix: int, *, align: int) -> int:
        """The lowest offset below the limit of `size` bytes that are free from birth to death; -1 if there
        is none. Of something that is only touched in its `prefix`, if that is not 0, the prefix is to end at
        the limit: so the rest is in nobody's way.
        """
        begin, end, births, deaths = self._table[:, : self._count]
        alive = np.flatnonzero((births < death) & (deaths > birth))
        begin, after = begin[alive], np.maximum.accumulate(end[alive])
        if prefix:
            start = max(0, self._limit - prefix, int(after.max(initial=0, where=begin < self._limit)))
            blocked = begin.searchsorted(self._limit) < len(begin)  # by another's rest, or what crosses
            if start < self._limit and not blocked:
                return start
        starts = np.concatenate(([0], -(-after // align) * align))
        fits = np.append(begin, np.iinfo(np.int64).max) - starts >= size
        start = int(starts[int(fits.argmax())])
        return start if start < self._limit else -1

    def take(self, start: int, size: int, birth: int, death: int) -> None:
        place, count = int(self._table[0, : self._count].searchsorted(start)), self._count
        self._table[:, place + 1 : count + 1] = self._table[:, place:count]
        self._table[:, place] = start, start + size, birth, death
        self._count += 1
        self.top = max(self.top, start + size)


def in_time(size: Ints, birth: Ints, death: Ints) -> Ints:
    """Offsets as an allocator would give them: in order of birth, each the lowest that is free then."""
    offset = np.zeros(len(size), dtype=np.int64)
    free = [(0, 1 << 62)]  # (begin, end), ascending, with gaps
    order = np.argsort(birth, kind="stable")
    sizes, deaths = size.tolist(), death.tolist()
    living: list[tuple[int, int, int]] = []  # (death, begin, end)
    for i, born in zip(order.tolist(), birth[order].tolist()):
        while living and living[0][0] <= born:
            _, begin, end = heapq.heappop(living)
            _give_back(free, begin, end)
        k = next(k for k, (begin, end) in enumerate(free) if end - begin >= sizes[i])
        begin, end = free[k]
        offset[i] = begin
        free[k : k + 1] = [(begin + sizes[i], end)] if end - begin > sizes[i] else []
        heapq.heappush(living, (deaths[i], begin, begin + sizes[i]))
    return offset


def _give_back(free: list[tuple[int, int]], begin: int, end: int) -> None:
    k = bisect_left(free, (begin, end))
    if k < len(free) and free[k][0] == end:
        end = free.pop(k)[1]
    if k and free[k - 1][1] == begin:
        k -= 1
        begin = free.pop(k)[0]
    free.insert(k, (begin, end))
