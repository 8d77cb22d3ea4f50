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
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .problem import Problem
from .visits import Visits

if TYPE_CHECKING:
    from .fields import Bools

_MISFITS = 8  # candidates that are passed over at a position, for smaller ones that fit


class Rule(NamedTuple):
    """How to schedule. As published: never `keep`, no `headroom`, variables as everything else.

    A unit stays in fast memory after its visit if what its next visit saves, per byte and ns of the gap, is
    at least `keep`. With `headroom`, promotions leave room for what will be born until the end of their
    interval. With `still`, variables stay where they are when the step begins.
    """

    layers: int
    keep: float = float("inf")
    headroom: bool = False
    still: bool = False


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


class Tables:
    """A partition of the step into intervals, as lists by position: made once, used by many simulations."""

    def __init__(self, problem: Problem, visits: Visits) -> None:
        n, units, m = len(problem.profile.ops), problem.units, len(visits.starts)
        self.problem, self.visits = problem, visits
        self.starts: list[int] = visits.starts.tolist()
        self.births: list[list[int]] = [[] for _ in range(n)]
        self.deaths: list[list[int]] = [[] for _ in range(n + 1)]
        for unit in np.flatnonzero(~units.variable).tolist():
            self.births[units.birth[unit]].append(unit)
            self.deaths[units.death[unit]].append(unit)
        self.uses: list[list[tuple[int, float]]] = [[] for _ in range(n)]
        for unit, position, gain in zip(
            problem.use_unit.tolist(), problem.use_position.tolist(), problem.use_gain.tolist()
        ):
            self.uses[position].append((unit, gain))
        self.ends: list[list[int]] = [[] for _ in range(n + 1)]
        self.of_interval: list[list[int]] = [[] for _ in range(m + 1)]
        self.birth_gain = np.zeros(len(units))
        born_in = np.searchsorted(visits.starts, units.birth, side="right") - 1
        early = visits.interval == born_in[visits.unit]
        self.birth_gain[visits.unit[early]] = visits.gain[early]
        for v, (end, interval) in enumerate(zip((visits.last + 1).tolist(), visits.interval.tolist())):
            self.ends[end].append(v)
            self.of_interval[interval].append(v)
        # what variables are used for in the first interval of the next step is prepared for in the last of
        # this
        self.of_interval[m] = [v for v in self.of_interval[0] if units.variable[visits.unit[v]]]
        # the last visit of each variable, and the interval of the first of the next step
        last = np.flatnonzero((visits.next >= 0) & (visits.next <= np.arange(len(visits.unit))))
        self.wraps = list(zip(last.tolist(), visits.interval[visits.next[last]].tolist()))
        self.headroom = self._headroom(early)

    def _headroom(self, early: Bools) -> list[int]:
        """How much more than now the newly born will take, at most, until the end of the next interval."""
        units, v = self.problem.units, self.visits
        n = len(self.ends) - 1
        chosen = early & ~units.variable[v.unit] & (v.gain > 0)
        change = np.zeros(n + 1, dtype=np.int64)
        np.add.at(change, units.birth[v.unit[chosen]], units.size[v.unit[chosen]])
        np.add.at(change, v.last[chosen] + 1, -units.size[v.unit[chosen]])
        demand = np.cumsum(change)[:n]
        bounds = [*self.starts, n, n]
        room = np.zeros(n, dtype=np.int64)
        for a, b, c in zip(bounds, bounds[1:], bounds[2:]):
            later = np.maximum.accumulate(demand[a:c][::-1])[::-1][: b - a]
            room[a:b] = later - demand[a:b]
        return [int(value) for value in room]


def schedule(tables: Tables, rule: Rule, first: frozenset[int]) -> Schedule:
    """Schedule the step in its steady state: it ends as it began, for the next one to begin so.

    `first` is a guess of the variables in fast memory when the step begins; the step is gone through with
    those that it ended with until they are the same. If they do not settle, variables are left where they
    are.
    """
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


class _Step:
    """One step, position by position."""

    def __init__(self, tables: Tables, rule: Rule, first: frozenset[int]) -> None:
        problem, units = tables.problem, tables.problem.units
        self.tables, self.rule, self.first = tables, rule, first
        self.n = len(problem.profile.ops)
        self.room = problem.room
        self.size: list[int] = units.size.tolist()
        self.ready: list[int] = units.ready.tolist()
        self.death: list[int] = units.death.tolist()
        self.variable: list[bool] = units.variable.tolist()
        self.duration: list[list[float]] = [times.tolist() for times in problem.move_ns]
        v = tables.visits
        self.v_unit: list[int] = v.unit.tolist()
        self.v_gain: list[float] = v.gain.tolist()
        self.v_last: list[int] = v.last.tolist()
        self.v_interval: list[int] = v.interval.tolist()
        stays = (v.apart <= 1) & (v.next >= 0)
        if rule.keep != float("inf"):
            stays |= (v.next >= 0) & (v.stay >= rule.keep)
        self.stays: list[bool] = stays.tolist()
        self.has_next: list[bool] = (v.next >= 0).tolist()

        self.fast = bytearray(len(units))
        self.born_fast: list[int] = list(first)
        for unit in first:
            self.fast[unit] = 1
        self.occupied = sum(self.size[unit] for unit in first)
        self.moving: dict[int, _Job] = {}
        self.jobs: list[_Job] = []
        self.due: list[_Job] = []
        self.waits: list[int] = []
        helpers = problem.figures.helpers
        self.lane = (0, helpers - 1)  # of promotions and of demotions
        self.pending: list[deque[_Job]] = [deque() for _ in range(helpers)]
        self.free = [0.0] * helpers
        self.now = problem.costs.lead
        self.hot: list[tuple[float, int, float]] = []  # candidates: minus gain per byte, unit, gain
        self.released: dict[int, list[tuple[float, int, float]]] = {}
        self.full_at: int | None = None

    def run(self) -> None:
        tables = self.tables
        births, deaths, ends, uses = tables.births, tables.deaths, tables.ends, tables.uses
        slot: list[float] = tables.problem.slot.tolist()
        birth_gain: list[float] = tables.birth_gain.tolist()
        number = {start: i for i, start in enumerate(tables.starts)}
        bounds = [*tables.starts, self.n, self.n]
        interval, fast = 0, self.fast
        for p in range(self.n):
            self._arrive(p)
            for unit in deaths[p]:
                self._die(unit)
            starts = p in number
            if starts:
                self._settle(p)
            for visit in ends[p]:
                self._leave(visit, p, bounds[self.v_interval[visit] + 2])
            if starts:
                interval = number[p]
                self._collect(interval, p, bounds[interval + 1])
                if p == 0:
                    self._leave_at_start()
            for unit in births[p]:
                if birth_gain[unit] > 0 and self.occupied + self.size[unit] <= self.room:
                    fast[unit] = 1
                    self.occupied += self.size[unit]
                    self.born_fast.append(unit)
            end = self.now + slot[p]
            for unit, gain in uses[p]:
                if fast[unit]:
                    end -= gain
            if self.hot or p in self.released:
                self._promote(p, end, bounds[interval + 1])
            self.now = end
        self._arrive(self.n)
        self._settle(self.n)
        for lane in self.pending:
            for job in list(lane):
                if job.to == 1 and not job.dead:  # a variable: the next step begins with it where it is
                    self._cancel(job)
                    fast[job.unit] = 1

    def fast_variables(self) -> frozenset[int]:
        return frozenset(
            u for u in np.flatnonzero(self.tables.problem.units.variable).tolist() if self.fast[u]
        )

    def result(self) -> Schedule:
        moves = [UnitMove(j.unit, j.at, j.to, j.before) for j in self.jobs if not j.dead]
        dues = {move.before for move in moves if move.to == 0}
        return Schedule(frozenset(self.born_fast), moves, sorted(dues))

    def _give(self, unit: int, at: int, to: int, gain: float) -> _Job:
        """Give a move to its helper, which begins it when it has done those before it."""
        job = _Job(unit, at, to, gain)
        lane = self.lane[to]
        job.start = max(self.free[lane], self.now)
        job.finish = self.free[lane] = job.start + self.duration[to][unit]
        self.pending[lane].append(job)
        self.moving[unit] = job
        self.jobs.append(job)
        return job

    def _cancel(self, job: _Job) -> None:
        """Take a move out of the plan. Those behind it keep their times: they can only be earlier."""
        job.dead = True
        del self.moving[job.unit]
        if job.to == 0:
            self.occupied -= self.size[job.unit]
        lane = self.lane[job.to]
        if self.free[lane] == job.finish:
            self.free[lane] = job.start

    def _arrive(self, p: int) -> None:
        for lane in self.pending:
            while lane and (lane[0].dead or lane[0].finish <= self.now):
                job = lane.popleft()
                if job.to == 1 and not job.dead:
                    job.before = p
                    del self.moving[job.unit]
                    self.occupied -= self.size[job.unit]

    def _die(self, unit: int) -> None:
        job = self.moving.get(unit)
        if job is not None:  # it cannot be a promotion, for those are used after they are due
            self._cancel(job)
        if self.fast[unit] or job is not None:
            self.occupied -= self.size[unit]
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
        unit_of, gain_of = self.v_unit, self.v_gain
        here = {unit_of[v]: self.v_last[v] for v in self.tables.of_interval[interval]}
        for v in self.tables.of_interval[interval + 1]:
            unit, gain = unit_of[v], gain_of[v]
            job = self.moving.get(unit)
            if job is not None and job.to == 1:  # it would come back at once, or be under way when it is used
                self._cancel(job)
                self.fast[unit] = 1
            if self.fast[unit] or gain <= 0 or (self.rule.still and self.variable[unit]):
                continue
            release = max(p, self.ready[unit], here.get(unit, -1) + 1)
            if release < end:
                self.released.setdefault(release, []).append((-gain / self.size[unit], unit, gain))

    def _leave(self, v: int, p: int, next_end: int) -> None:
        """A visit is over: demote, unless the unit is needed in this interval or the next, or soon dead."""
        unit = self.v_unit[v]
        if not self.fast[unit] or self.stays[v] or p < self.ready[unit]:
            return
        if self.variable[unit]:
            if self.rule.still:
                return
        elif not self.has_next[v] and self.death[unit] <= next_end:
            return
        self.fast[unit] = 0
        self._give(unit, p, 1, 0.0)

    def _leave_at_start(self) -> None:
        """Variables that the step begins with, and that are not needed soon."""
        if self.rule.still:
            return
        for visit, interval in self.tables.wraps:
            unit = self.v_unit[visit]
            if interval >= 2 and self.fast[unit] and not self.stays[visit]:
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
            if busy and not (p + 1 == due and gain > self.duration[0][unit]):
                break
            candidate = heapq.heappop(self.hot)
            if self.fast[unit] or unit in self.moving:
                continue
            if self.occupied + self.size[unit] > room:
                passed.append(candidate)
                continue
            self.occupied += self.size[unit]
            self.due.append(self._give(unit, p, 0, gain))
        for candidate in passed:
            heapq.heappush(self.hot, candidate)
        self.full_at = self.occupied if passed else None
