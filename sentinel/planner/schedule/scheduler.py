# SPDX-License-Identifier: Apache-2.0
"""Promotions and demotions of one step, by going through it in order (paper, IV-C and IV-D).

At every position, in this order: moves that ended are taken note of; dead units free their pages; where an
interval begins, promotions for it that are not done are waited for or given up; units whose visit is over
are demoted; where an interval begins, candidates for the next one are collected; units are born; and
helpers that would be idle before the next position get the hottest candidates that fit. So nothing is
decided by what is not known yet but the visits, and fast memory is never over its limit: a move's
destination counts from `at`, its source until `before`.

Moves are carried out in the order in which they are given, one at a time by each helper.
"""

from __future__ import annotations

import heapq
from collections import deque
from typing import NamedTuple

from .tables import Positions, Tables

_MISFITS = 8  # candidates that are passed over at a position, for smaller ones that fit


class Rule(NamedTuple):
    """How to schedule. As published: never `keep`, no `headroom`, variables as everything else.

    A unit stays in fast memory after its visit if what its next visit saves, per byte and ns of the gap, is
    at least `keep`. With `headroom`, promotions leave room for what will be born until the end of their
    interval. With `still`, variables stay where they are when the step begins. The units
    `pinned` are in fast memory for all their life, in the `share` of the room that is theirs.
    """

    layers: int
    keep: float = float("inf")
    headroom: bool = False
    still: bool = False
    share: float = 0.0
    pinned: frozenset[int] = frozenset()

    @property
    def name(self) -> str:
        """What differs from the published rule."""
        differences = (
            f"keep {self.keep:.3g}" if self.keep < float("inf") else "",
            f"pinned {self.share:g}" if self.share else "",
            "headroom" if self.headroom else "",
            "still" if self.still else "",
        )
        return ", ".join(part for part in differences if part) or "as published"


class UnitMove(NamedTuple):
    unit: int
    at: int
    to: int
    before: int


class Schedule(NamedTuple):
    """Where units are when they are born (or the step begins), and the moves in order."""

    fast: frozenset[int]
    moves: list[UnitMove]
    waits: list[int]


class _Job:
    """A move that was given to a helper."""

    __slots__ = ("at", "before", "dead", "finish", "gain", "start", "to", "unit")

    def __init__(self, unit: int, at: int, to: int, gain: float) -> None:
        self.unit = unit
        self.at = at
        self.to = to
        self.gain = gain
        self.before = -1
        self.dead = False
        self.start = 0.0
        self.finish = 0.0


def schedule(tables: Tables, rule: Rule, first: frozenset[int]) -> Schedule:
    """Schedule the step in its steady state: it ends as it began, for the next one to begin so.

    `first` is a guess of the variables in fast memory when the step begins; the step is gone through with
    those that it ended with until they are the same. If they do not settle, variables are left where they
    are.
    """
    positions = tables.positions
    first -= rule.pinned
    if sum(positions.size[unit] for unit in first) > _room(positions, rule):
        first = frozenset()  # a guess for a rule that has more room
    for _ in range(4):
        step = _Step(tables, rule, first)
        step.run()
        last = step.fast_variables()
        if last == first:
            return step.result()
        first = last
    step = _Step(tables, rule._replace(still=True), first)
    step.run()
    return step.result()


def _room(positions: Positions, rule: Rule) -> int:
    """What pinned units leave of the room."""
    room = positions.problem.room
    return room - int(rule.share * room)


class _Step:
    """One step, position by position."""

    def __init__(self, tables: Tables, rule: Rule, first: frozenset[int]) -> None:
        positions, v = tables.positions, tables.visits
        problem = positions.problem
        self.tables, self.positions, self.rule, self.pinned = tables, positions, rule, rule.pinned
        self.n = len(problem.profile.ops)
        self.room = _room(positions, rule)
        self.v_unit: list[int] = v.unit.tolist()
        self.v_interval: list[int] = v.interval.tolist()
        self.has_next: list[bool] = (v.next >= 0).tolist()
        self.stays: list[bool] = ((v.next >= 0) & (v.stay >= rule.keep)).tolist()

        self.fast = bytearray(len(problem.units))
        self.born_fast: list[int] = [*first, *rule.pinned]
        for unit in self.born_fast:
            self.fast[unit] = positions.variable[unit]
        self.occupied = sum(positions.size[unit] for unit in first)
        self.moving: dict[int, _Job] = {}
        self.jobs: list[_Job] = []
        self.due: list[_Job] = []
        helpers = problem.figures.helpers
        self.lane = (0, helpers - 1)  # of promotions and of demotions
        self.pending: list[deque[_Job]] = [deque() for _ in range(helpers)]
        self.free = [0.0] * helpers
        self.now = problem.costs.lead
        self.hot: list[tuple[float, int, float]] = []  # candidates: minus heat, unit, gain
        self.released: dict[int, list[tuple[float, int, float]]] = {}
        self.full_at: int | None = None  # so much was taken when the last candidates did not fit

    def run(self) -> None:
        tables, positions = self.tables, self.positions
        birth_gain, size, unit_of = tables.birth_gain, positions.size, self.v_unit
        number = {start: i for i, start in enumerate(tables.starts)}
        bounds = [*tables.starts, self.n, self.n]
        due, fast, pinned = 0, self.fast, self.pinned
        first, last = self.pending[0], self.pending[-1]  # the same one if there is one helper
        columns = zip(positions.deaths, tables.ends, positions.births, positions.uses, positions.slot)
        for p, (deaths, ends, births, uses, slot) in enumerate(columns):
            if (first and first[0].finish <= self.now) or (last and last[0].finish <= self.now):
                self._arrive(p)
            for unit in deaths:
                self._die(unit)
            interval = number.get(p, -1)
            if interval >= 0:
                self._settle(p)
            for visit in ends:
                if fast[unit_of[visit]]:
                    self._leave(visit, p, bounds[self.v_interval[visit] + 2])
            if interval >= 0:
                due = bounds[interval + 1]
                self._collect(interval, p, due)
                if p == 0:
                    self._leave_at_start()
            for unit in births:
                if unit in pinned:
                    fast[unit] = 1
                elif birth_gain[unit] > 0 and self.occupied + size[unit] <= self.room:
                    fast[unit] = 1
                    self.occupied += size[unit]
                    self.born_fast.append(unit)
            end = self.now + slot
            for unit, gain in uses:
                if fast[unit]:
                    end -= gain
            if p in self.released or (self.hot and (self.free[0] < end or p + 1 == due)):
                self._promote(p, end, due)
            self.now = end
        self._arrive(self.n)
        self._settle(self.n)
        for lane in self.pending:
            for job in list(lane):
                if job.to == 1 and not job.dead:  # a variable: the next step begins with it where it is
                    self._cancel(job)
                    fast[job.unit] = 1

    def fast_variables(self) -> frozenset[int]:
        variable, pinned = self.positions.variable, self.pinned
        return frozenset(u for u, fast in enumerate(self.fast) if fast and variable[u] and u not in pinned)

    def result(self) -> Schedule:
        moves = [UnitMove(j.unit, j.at, j.to, j.before) for j in self.jobs if not j.dead]
        dues = {move.before for move in moves if move.to == 0}
        return Schedule(frozenset(self.born_fast), moves, sorted(dues))

    def _give(self, unit: int, at: int, to: int, gain: float) -> _Job:
        """Give a move to its helper, which begins it when it has done those before it."""
        job = _Job(unit, at, to, gain)
        lane = self.lane[to]
        job.start = max(self.free[lane], self.now)
        job.finish = self.free[lane] = job.start + self.positions.move_ns[to][unit]
        self.pending[lane].append(job)
        self.moving[unit] = job
        self.jobs.append(job)
        return job

    def _cancel(self, job: _Job) -> None:
        """Take a move out of the plan. Those behind it keep their times: they can only be earlier."""
        job.dead = True
        del self.moving[job.unit]
        if job.to == 0:
            self.occupied -= self.positions.size[job.unit]
        lane = self.lane[job.to]
        if self.pending[lane][-1] is job:
            self.pending[lane].pop()
            self.free[lane] = job.start

    def _arrive(self, p: int) -> None:
        for lane in self.pending:
            while lane and lane[0].finish <= self.now:
                job = lane.popleft()
                if job.to == 1 and not job.dead:
                    job.before = p
                    del self.moving[job.unit]
                    self.occupied -= self.positions.size[job.unit]

    def _die(self, unit: int) -> None:
        if unit in self.pinned:
            self.fast[unit] = 0
            return
        job = self.moving.get(unit)
        if job is not None:  # it cannot be a promotion, for those are used after they are due
            self._cancel(job)
        if self.fast[unit] or job is not None:
            self.occupied -= self.positions.size[unit]
            self.fast[unit] = 0

    def _settle(self, p: int) -> None:
        """Promotions for the interval that begins: late ones are waited for if that pays, or given up."""
        for job in self.due:
            late = job.finish - self.now
            if late > 0 and late >= job.gain:
                self._cancel(job)
                continue
            self.now = max(self.now, job.finish)
            job.before = p
            del self.moving[job.unit]
            self.fast[job.unit] = 1
        self.due = []
        self._arrive(p)

    def _collect(self, interval: int, p: int, end: int) -> None:
        """The candidates for the next interval, each from when it is no longer used in this one."""
        self.hot, self.released, self.full_at = [], {}, None
        moving, fast, still = self.moving, self.fast, self.rule.still
        for unit, heat, gain, release in self.tables.coming[interval + 1]:
            if fast[unit]:
                continue
            if unit in moving and moving[unit].to == 1:  # it would come back at once, or be used under way
                self._cancel(moving[unit])
                fast[unit] = 1
            elif gain > 0 and release < end and not (still and self.positions.variable[unit]):
                self.released.setdefault(max(p, release), []).append((-heat, unit, gain))

    def _leave(self, v: int, p: int, next_end: int) -> None:
        """A visit is over: demote, unless the unit is needed in this interval or the next, or soon dead."""
        unit = self.v_unit[v]
        if self.stays[v] or p < self.positions.ready[unit] or unit in self.pinned:
            return
        if self.positions.variable[unit]:
            if self.rule.still:
                return
        elif not self.has_next[v] and self.positions.death[unit] <= next_end:
            return
        self.fast[unit] = 0
        self._give(unit, p, 1, 0.0)

    def _leave_at_start(self) -> None:
        """Variables that the step begins with, and that are not needed soon."""
        if self.rule.still:
            return
        for visit, interval in self.tables.wraps:
            unit = self.v_unit[visit]
            if interval >= 2 and self.fast[unit] and not self.stays[visit] and unit not in self.pinned:
                self.fast[unit] = 0
                self._give(unit, 0, 1, 0.0)

    def _promote(self, p: int, end: float, due: int) -> None:
        for candidate in self.released.pop(p, ()):
            heapq.heappush(self.hot, candidate)
            self.full_at = None
        if not self.hot or (self.full_at is not None and self.occupied >= self.full_at):
            return
        lane = self.lane[0]
        room = self.room - (self.tables.headroom[p] if self.rule.headroom else 0)
        passed: list[tuple[float, int, float]] = []
        while self.hot and len(passed) < _MISFITS:
            _, unit, gain = self.hot[0]
            busy = max(self.free[lane], self.now) >= end
            if busy and not (p + 1 == due and gain > self.positions.move_ns[0][unit]):
                break
            candidate = heapq.heappop(self.hot)
            if self.fast[unit] or unit in self.moving:
                continue
            if self.occupied + self.positions.size[unit] > room:
                passed.append(candidate)
                continue
            self.occupied += self.positions.size[unit]
            self.due.append(self._give(unit, p, 0, gain))
        for candidate in passed:
            heapq.heappush(self.hot, candidate)
        self.full_at = self.occupied if passed else None
