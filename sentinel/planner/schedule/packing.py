# SPDX-License-Identifier: Apache-2.0
"""Packing of stays: what is in fast memory when, within the budget and the time of the migration cores.

A stay is a time of a unit in fast memory, from its birth or a promotion to its death or a demotion. It takes
up memory at every position, and time of the migration cores around both ends: a promotion as late as
possible before the first use, a demotion as early as possible after the last write.
"""

from __future__ import annotations

import copy
from bisect import bisect_left
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..problem import Problem
from ..timing.cores import CHUNK, Cores, divide

if TYPE_CHECKING:
    from ..formats.fields import Floats

_WINDOW = 64  # positions that are searched first for the time of a move


class Move(NamedTuple):
    """A move of a unit: positions as in a plan."""

    at: int
    map: int
    before: int
    copy: bool


@dataclass(frozen=True)
class Stay:
    """A unit in fast memory at its uses `first` to `last`, which are rows of the problem.

    It takes up memory at the positions [begin, end).
    """

    unit: int
    first: int
    last: int
    begin: int
    end: int
    promotion: Move | None
    demotion: Move | None
    taken: tuple[tuple[int, int, Floats], ...]  # of the cores' time: from, to, ns by position


class Packing:
    """Stays that fit together. `capacity` is in bytes, `op_ns` how long operations take about.

    `margin` makes moves longer than predicted; demotions should end `slack_ns` before they are due. `eager`:
    demotions begin after the last write, as opposed to the last use.
    """

    def __init__(
        self,
        problem: Problem,
        cores: Cores,
        op_ns: Floats,
        capacity: int,
        *,
        margin: float = 1.0,
        eager: bool = True,
    ) -> None:
        units, n = problem.units, len(op_ns)
        self.problem, self.cores, self.capacity, self.n = problem, cores, capacity, n
        self.op_ns, self._eager = op_ns, eager
        self.occupied = np.zeros(n, dtype=np.int64)
        self.stays: dict[int, list[Stay]] = {}
        self.size: list[int] = units.size.tolist()
        self.rows: list[int] = np.searchsorted(problem.use_unit, np.arange(len(units) + 1)).tolist()
        self.position: list[int] = problem.use_position.tolist()
        self.saved_ns: list[float] = problem.use_saved_ns.tolist()
        self.total_saved_ns = np.concatenate(([0.0], np.cumsum(problem.use_saved_ns)))
        self._writes: list[bool] = problem.use_writes.tolist()
        self._birth: list[int] = units.birth.tolist()
        self._ready: list[int] = units.ready.tolist()
        self._death: list[int] = units.death.tolist()
        self._free = np.maximum(op_ns, 0.0).astype(np.float64)
        self._clock = np.concatenate(([0.0], np.cumsum(self._free)))
        count, figures = cores.figures.migration_cores, cores.figures
        fast_op_ns = np.maximum(problem.costs.op_ns - problem.costs.op_saved_ns, 0.0)
        parts = [float(part.sum()) for part in divide(problem.costs, fast_op_ns)]
        shares = [part / max(sum(parts), 1e-9) for part in parts]
        self._lost_ns = [cores.lost_ns(to, *shares) for to in (0, 1)]
        self._byte_ns = [margin * cores.fluid_ns(to) for to in (0, 1)]
        pages = units.size // problem.profile.page_bytes
        self._remap_ns: list[float] = ((figures.remap_ns + pages * figures.remap_page_ns) / count).tolist()
        # a last chunk is copied by one core, which was busy with another one
        longest = CHUNK * max(cores.byte_ns(0), cores.byte_ns(1)) if count else 0.0
        self._latency_ns = margin * (longest + figures.remap_ns)
        self.slack_ns = (margin - 1) * (longest + figures.remap_ns)

    def copy(self) -> Packing:
        """Return a packing that changes on its own."""
        other = copy.copy(self)
        other.occupied, other._free = self.occupied.copy(), self._free.copy()
        other.stays = {unit: list(stays) for unit, stays in self.stays.items()}
        return other

    def always(self, unit: int) -> bool:
        """Keep a unit in fast memory for its whole lifetime, if there is space."""
        begin, end = self._birth[unit], self._death[unit]
        if self.stays.get(unit) or not self._fits(unit, begin, end):
            return False
        self._put(Stay(unit, self.rows[unit], self.rows[unit + 1] - 1, begin, end, None, None, ()))
        return True

    def add(self, unit: int, first: int, last: int) -> bool:
        """Add a stay from one use to another, or one that merges with its neighbours, if there is space."""
        stays = self.stays.get(unit, [])
        k = bisect_left([stay.first for stay in stays], first)
        before = stays[k - 1] if k else None
        after = stays[k] if k < len(stays) else None
        if (before is not None and before.last >= first) or (after is not None and after.first <= last):
            return False
        earliest = before.end if before is not None else 0
        latest = after.begin if after is not None else self.n
        stay = self._find(unit, first, last, earliest, latest)
        if stay is not None:
            self._put(stay)
            return True
        for merged in ((before,), (after,), (before, after)):
            if None in merged:
                continue
            removed = [stay for stay in merged if stay is not None]
            if self._replace(unit, removed, min(first, removed[0].first), max(last, removed[-1].last)):
                return True
        return False

    def remove(self, stay: Stay) -> None:
        """Take a stay out again."""
        self.stays[stay.unit].remove(stay)
        self.occupied[stay.begin : stay.end] -= self.size[stay.unit]
        for a, b, ns in stay.taken:
            self._free[a:b] += ns

    def extend(self, stay: Stay, before: int) -> bool:
        """Let a demotion last until the position `before`, if there is space."""
        assert stay.demotion is not None  # noqa: S101 -- only demotions end before the group dies
        stays = self.stays[stay.unit]
        k = stays.index(stay)
        latest = stays[k + 1].begin if k + 1 < len(stays) else self.n
        if before > min(latest, self.position[stay.last + 1]) or not self._fits(stay.unit, stay.end, before):
            return False
        stays[k] = replace(stay, end=before, demotion=stay.demotion._replace(before=before))
        self.occupied[stay.end : before] += self.size[stay.unit]
        return True

    def remove_moves(self) -> None:
        """Take out all stays that begin or end with a move."""
        for stay in self.all_stays():
            if stay.promotion is not None or stay.demotion is not None:
                self.remove(stay)

    def all_stays(self) -> list[Stay]:
        """Return all stays by unit and time."""
        return [stay for unit in sorted(self.stays) for stay in self.stays[unit]]

    def lost_ns(self, to: int) -> float:
        """Return about the ns that computation loses by a byte that is copied."""
        return self._lost_ns[to]

    def value(self, first: int, last: int) -> float:
        """Return the ns that uses save."""
        return float(self.total_saved_ns[last + 1] - self.total_saved_ns[first])

    def _replace(self, unit: int, removed: list[Stay], first: int, last: int) -> bool:
        for stay in removed:
            self.remove(stay)
        stays = self.stays.get(unit, [])
        k = bisect_left([stay.first for stay in stays], first)
        earliest = stays[k - 1].end if k else 0
        latest = stays[k].begin if k < len(stays) else self.n
        merged = self._find(unit, first, last, earliest, latest)
        if merged is None:
            for stay in removed:
                self._put(stay)
            return False
        self._put(merged)
        return True

    def _put(self, stay: Stay) -> None:
        for a, b, ns in stay.taken:
            self._free[a:b] -= ns
        stays = self.stays.setdefault(stay.unit, [])
        stays.insert(bisect_left([other.first for other in stays], stay.first), stay)
        self.occupied[stay.begin : stay.end] += self.size[stay.unit]

    def _fits(self, unit: int, begin: int, end: int) -> bool:
        occupied = self.occupied[begin:end]
        return int(occupied.max(initial=0)) + self.size[unit] <= self.capacity

    def _find(self, unit: int, first: int, last: int, earliest: int, latest: int) -> Stay | None:
        """Return a stay that fits between the positions `earliest` and `latest`, or None."""
        rows, position, size = self.rows, self.position, self.size[unit]
        begin, promotion = self._birth[unit], None
        taken: list[tuple[int, int, Floats]] = []
        if first > rows[unit]:
            previous = self._last_write(unit, rows[unit], first - 1)
            release = max(earliest, self._ready[unit], previous + 1)
            need_ns = size * self._byte_ns[0] + self._remap_ns[unit]
            slot = self._latest(release, position[first], need_ns)
            if slot is None:
                return None
            begin = slot[0]
            promotion = Move(begin, max(begin, position[first - 1] + 1), position[first], True)
            taken.append(slot)
        if begin < earliest or not self._fits(unit, begin, position[last] + 1):
            return None
        while last + 1 < rows[unit + 1]:
            end = position[last] + 1
            written = self._last_write(unit, first, last)
            copy = promotion is None or written >= 0
            at = max(self._ready[unit], written + 1, promotion.before if promotion is not None else 0)
            need_ns = self._remap_ns[unit] + (size * self._byte_ns[1] if copy else 0.0)
            slot_end = self._earliest(
                at if copy and self._eager else end, min(latest, position[last + 1]), end, need_ns
            )
            if slot_end is not None:
                slot, before = slot_end
                if not self._fits(unit, begin, before):
                    return None
                demotion = Move(slot[0], max(slot[0], end), before, copy)
                return Stay(unit, first, last, begin, before, promotion, demotion, (*taken, slot))
            last += 1  # it is used again before it could have left
            if position[last] >= latest:
                return None
        end = self._death[unit]
        if end > latest or not self._fits(unit, begin, end):
            return None
        return Stay(unit, first, last, begin, end, promotion, None, tuple(taken))

    def _last_write(self, unit: int, first: int, last: int) -> int:
        """Return the last position from use `first` to `last` at which the unit is written, or -1."""
        for row in range(last, first - 1, -1):
            if self._writes[row] or self.position[row] < self._ready[unit]:
                return self.position[row]
        return -1

    def _latest(self, release: int, deadline: int, need_ns: float) -> tuple[int, int, Floats] | None:
        """Return the latest positions that have `need_ns` of the cores' time and end before the deadline."""
        if release >= deadline:
            return None
        window = _WINDOW
        while True:
            a = max(release, deadline - window)
            free = self._free[a:deadline][::-1]
            total = np.cumsum(free)
            k = int(np.searchsorted(total, need_ns))
            if k < len(free):
                break
            if a == release:
                return None
            window *= 4
        start = deadline - 1 - k
        latency = self._clock[deadline] - need_ns - self._latency_ns
        start = min(start, int(np.searchsorted(self._clock, latency, side="right")) - 1)
        if start < release:
            return None
        ns = self._free[start:deadline].copy()
        excess = float(ns.sum()) - need_ns  # begin in the middle of the first operation
        for i in range(len(ns)):
            cut = min(excess, float(ns[i]))
            ns[i] -= cut
            excess -= cut
            if excess <= 0:
                break
        return start, deadline, ns

    def _earliest(
        self, release: int, limit: int, mapped: int, need_ns: float
    ) -> tuple[tuple[int, int, Floats], int] | None:
        """Return the first positions that have `need_ns` of the cores' time, and when the window is remapped.

        That is not before `mapped`, and not after `limit`.
        """
        window = _WINDOW
        while True:
            b = min(limit, release + window)
            total = np.cumsum(self._free[release:b])
            k = int(np.searchsorted(total, need_ns))
            if k < len(total):
                break
            if b >= limit:
                return None
            window *= 4
        stop = release + k + 1
        ns = self._free[release:stop].copy()
        ns[-1] -= float(ns.sum()) - need_ns
        ready_ns = max(self._clock[stop], self._clock[mapped]) + self._latency_ns
        end = max(mapped + 1, int(np.searchsorted(self._clock, ready_ns)))
        if end > limit or stop > limit:
            return None
        return (release, stop, ns), end
