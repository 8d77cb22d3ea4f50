# SPDX-License-Identifier: Apache-2.0
"""Addresses for tensors that never migrate: one range, whose first bytes are in fast memory.

The tensors that save most per byte are placed first, each at the lowest address that is free for its whole
lifetime. So the hottest tensors lie below the limit of fast memory, tensors share addresses if their
lifetimes do not overlap (which also helps the cache), pages exist from the first step on, and the tensor that
crosses the limit is in both memories. Placing by heat is the greedy rule for a knapsack; other orders are
tried beside it, because lifetimes make the problem harder.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..memory.classify import VARIABLES
from ..memory.pool import align, covered_bytes
from ..problem import Problem

if TYPE_CHECKING:
    from ..formats.fields import Bools, Floats, Ints


class Order(NamedTuple):
    """A placement order: descending ns saved / bytes**`size_power` / positions lived**`lifetime_power`."""

    size_power: float = 1.0
    lifetime_power: float = 0.0

    def __str__(self) -> str:
        return f"size {self.size_power:g}, lifetime {self.lifetime_power:g}"

    def of(self, saved_ns: Floats | Ints, size: Ints, lifetime: Ints) -> Floats:
        """Return the number by which this order sorts."""
        heat: Floats = saved_ns / np.maximum(size, 1) ** self.size_power / lifetime**self.lifetime_power
        return heat


BY_HEAT = Order()
ORDERS = (BY_HEAT, *(Order(power) for power in (0.9, 0.75, 0.5, 0.0)), Order(1.0, 0.1), Order(1.0, 0.25))


class Blocks(NamedTuple):
    """Other users of fast memory: they live from `begin` to `end`, and save `saved_ns`.

    Sizes in bytes, and the offsets that blocks get, are multiples of `align`.
    """

    begin: Ints
    end: Ints
    size: Ints
    saved_ns: Floats
    align: int


@dataclass(frozen=True)
class Layout:
    """Offsets of `tensors` (ascending indices); bytes below `fast_limit` are in fast memory.

    `fast_share` is the share of each tensor's touched bytes there. Variables have addresses elsewhere. Their
    ranges here stay free, so that the limit holds for all tensors together; a variable is in one memory or
    the other. `fast_bytes` is the fast memory of all other tensors, `size` the whole range, both in whole
    pages. `block_offset` is that of each block, -1 if there was no place.
    """

    tensors: Ints
    offset: Ints
    fast_share: Floats
    fast_limit: int
    size: int
    fast_bytes: int
    block_offset: Ints

    def saved_ns(self, problem: Problem) -> Floats:
        """Return what the layout saves in each operation."""
        uses = problem.profile.uses
        share = np.zeros(len(problem.classes))
        share[self.tensors] = self.fast_share
        weights = problem.costs.saved_ns * share[uses.tensor]
        return np.bincount(uses.position, weights=weights, minlength=len(problem.op_ns)).astype(np.float64)


_NONE = np.zeros(0, dtype=np.int64)
NO_BLOCKS = Blocks(_NONE, _NONE, _NONE, np.zeros(0), 1)


def lay_out(
    problem: Problem,
    included: Bools,
    fast_limit: int,
    order: Order = BY_HEAT,
    preferred: Bools | None = None,
    blocks: Blocks = NO_BLOCKS,
) -> Layout:
    """Lay out the tensors `included`, with `fast_limit` bytes (whole pages) in fast memory.

    Those in `preferred` (by tensor of the profile) come first. Tensors that do not fit below the limit are
    placed first-fit in birth order. `blocks` compete with the tensors, and must lie below the limit.
    """
    profile = problem.profile
    page_bytes, t = profile.page_bytes, profile.tensors
    tensors = np.flatnonzero(included)
    saved_ns = np.bincount(profile.uses.tensor, weights=problem.costs.saved_ns, minlength=len(t))[tensors]
    touched = t.resident_bytes[tensors]
    variable = problem.classes[tensors] == VARIABLES
    size = np.where(variable, -(-t.size[tensors] // page_bytes) * page_bytes, align(t.size[tensors]))
    partly_touched = ~variable & (touched <= size - page_bytes)
    birth, death = problem.units.earliest[tensors], t.death[tensors]
    heat = order.of(saved_ns, touched, death - birth)
    block_heat = order.of(blocks.saved_ns, blocks.size, blocks.end - blocks.begin)
    offset = np.full(len(tensors), -1, dtype=np.int64)
    fast = _AddressRange(fast_limit, len(tensors) + len(blocks.size))
    last = np.zeros(len(tensors)) if preferred is None else ~preferred[tensors]
    prefix = np.where(partly_touched, -(-touched // page_bytes) * page_bytes, 0)
    none = np.zeros(len(blocks.size), dtype=np.int64)
    rows = [
        np.concatenate(pair)
        for pair in (
            (size, blocks.size),
            (birth, blocks.begin),
            (death, blocks.end),
            (prefix, none),
            (np.where(variable, page_bytes, 1), none + blocks.align),
            (variable, none == 0),  # must be below the limit as a whole
        )
    ]
    ranked = np.lexsort(
        (np.arange(len(rows[0])), -np.concatenate((heat, block_heat)), np.concatenate((last, none)))
    )
    placed = np.concatenate((offset, none - 1))
    columns = (column[ranked].tolist() for column in rows)
    for i, length, born, dead, touched_prefix, align_to, is_whole in zip(ranked.tolist(), *columns):
        start = fast.find(length, born, dead, touched_prefix, align=align_to)
        if start >= 0 and not (is_whole and start + length > fast_limit):
            placed[i] = start
            fast.occupy(start, length, born, dead)
    offset = placed[: len(tensors)]
    slow = np.flatnonzero((offset < 0) & ~variable)
    slow_start = -(-max(fast_limit, fast.top) // page_bytes) * page_bytes
    offset[slow] = slow_start + first_fit(size[slow], birth[slow], death[slow])
    below = np.where(offset >= 0, np.clip(fast_limit - offset, 0, touched), 0)
    in_fast = ~variable & (below > 0)
    top = int(np.max(np.where(variable, 0, offset + size), initial=0))
    return Layout(
        tensors=tensors,
        offset=offset,
        fast_share=np.divide(below, touched, out=np.zeros(len(tensors)), where=touched > 0),
        fast_limit=fast_limit,
        size=-(-top // page_bytes) * page_bytes,
        fast_bytes=covered_bytes(offset[in_fast], (offset + below)[in_fast], page_bytes),
        block_offset=placed[len(tensors) :],
    )


class _AddressRange:
    """Addresses from 0 on with the times at which they are occupied. Every entry begins below `limit`."""

    def __init__(self, limit: int, capacity: int) -> None:
        self._limit = limit
        self.top = 0
        self._count = 0
        self._table = np.zeros((4, capacity), dtype=np.int64)  # begin (ascending), end, birth, death

    def find(self, size: int, birth: int, death: int, prefix: int, *, align: int) -> int:
        """Return the lowest offset below the limit of `size` bytes that are free from birth to death, or -1.

        If `prefix` is not 0, only the first `prefix` bytes are ever touched. They should end at the
        limit, where the untouched rest blocks no other tensor.
        """
        begin, end, births, deaths = self._table[:, : self._count]
        alive = np.flatnonzero((births < death) & (deaths > birth))
        begin, end_so_far = begin[alive], np.maximum.accumulate(end[alive])
        if prefix:
            start = max(0, self._limit - prefix, int(end_so_far.max(initial=0, where=begin < self._limit)))
            blocked = begin.searchsorted(self._limit) < len(begin)  # by a tensor's untouched rest
            if start < self._limit and not blocked:
                return start
        starts = np.concatenate(([0], -(-end_so_far // align) * align))
        fits = np.append(begin, np.iinfo(np.int64).max) - starts >= size
        start = int(starts[int(fits.argmax())])
        return start if start < self._limit else -1

    def occupy(self, start: int, size: int, birth: int, death: int) -> None:
        row, count = int(self._table[0, : self._count].searchsorted(start)), self._count
        self._table[:, row + 1 : count + 1] = self._table[:, row:count]
        self._table[:, row] = start, start + size, birth, death
        self._count += 1
        self.top = max(self.top, start + size)


def first_fit(size: Ints, birth: Ints, death: Ints) -> Ints:
    """Return offsets as an allocator assigns them: in birth order, each the lowest free one."""
    offset = np.zeros(len(size), dtype=np.int64)
    gaps = [(0, 1 << 62)]  # (begin, end), ascending
    order = np.argsort(birth, kind="stable")
    sizes, deaths = size.tolist(), death.tolist()
    live: list[tuple[int, int, int]] = []  # heap of (death, begin, end)
    for i, born in zip(order.tolist(), birth[order].tolist()):
        while live and live[0][0] <= born:
            _, begin, end = heapq.heappop(live)
            _free(gaps, begin, end)
        k = next(k for k, (begin, end) in enumerate(gaps) if end - begin >= sizes[i])
        begin, end = gaps[k]
        offset[i] = begin
        gaps[k : k + 1] = [(begin + sizes[i], end)] if end - begin > sizes[i] else []
        heapq.heappush(live, (deaths[i], begin, begin + sizes[i]))
    return offset


def _free(gaps: list[tuple[int, int]], begin: int, end: int) -> None:
    """Add a gap, and merge it with its neighbours."""
    k = bisect_left(gaps, (begin, end))
    if k < len(gaps) and gaps[k][0] == end:
        end = gaps.pop(k)[1]
    if k and gaps[k - 1][1] == begin:
        k -= 1
        begin = gaps.pop(k)[0]
    gaps.insert(k, (begin, end))
