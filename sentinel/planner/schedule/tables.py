# SPDX-License-Identifier: Apache-2.0
"""A problem as plain lists by position and interval, which the scheduler walks many times."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..problem import Problem
from .visits import Visits

if TYPE_CHECKING:
    from ..formats.fields import Bools, Ints


class Upcoming(NamedTuple):
    """A visit of the next interval. `heat` is ns saved per byte; the unit can migrate from `release` on."""

    unit: int
    heat: float
    saved_ns: float
    release: int


class StepTables:
    """Births, deaths and uses by position, and properties of units. They do not depend on the intervals."""

    def __init__(self, problem: Problem) -> None:
        n, units = len(problem.profile.ops), problem.units
        self.problem = problem
        self.op_ns: list[float] = problem.op_ns.tolist()
        self.size: list[int] = units.size.tolist()
        self.ready: list[int] = units.ready.tolist()
        self.death: list[int] = units.death.tolist()
        self.variable: list[bool] = units.variable.tolist()
        self.move_ns: list[list[float]] = [ns.tolist() for ns in problem.move_ns]
        self.births: list[list[int]] = [[] for _ in range(n)]
        self.deaths: list[list[int]] = [[] for _ in range(n + 1)]
        births, deaths = units.birth.tolist(), self.death
        for unit in np.flatnonzero(~units.variable).tolist():
            self.births[births[unit]].append(unit)
            self.deaths[deaths[unit]].append(unit)
        self.uses: list[list[tuple[int, float]]] = [[] for _ in range(n)]
        saves = problem.use_saved_ns > 0
        for unit, position, saved_ns in zip(
            problem.use_unit[saves].tolist(),
            problem.use_position[saves].tolist(),
            problem.use_saved_ns[saves].tolist(),
        ):
            self.uses[position].append((unit, saved_ns))


class IntervalTables:
    """Visits by position and interval, for one partition of the step into intervals.

    `ends` has for each position the visits that ended before it, except those whose unit has another visit in
    the next interval. `upcoming` has the visits of each interval; one more entry has the visits of variables
    in the first interval of the next step, which the last interval prepares. `wraps` has the last visit of
    each variable and the interval of its first one. `birth_saved_ns` is what each unit saves in the interval
    of its birth. `headroom` is by position: the bytes by which the demand of new units rises until the end of
    the next interval.
    """

    def __init__(self, step: StepTables, visits: Visits) -> None:
        units = step.problem.units
        n, intervals, count = len(step.op_ns), len(visits.starts), len(visits.unit)
        self.step, self.visits = step, visits
        self.starts: list[int] = visits.starts.tolist()
        birth_interval = np.searchsorted(visits.starts, units.birth, side="right") - 1
        at_birth = visits.interval == birth_interval[visits.unit]
        birth_saved_ns = np.zeros(len(units))
        birth_saved_ns[visits.unit[at_birth]] = visits.saved_ns[at_birth]
        self.birth_saved_ns: list[float] = birth_saved_ns.tolist()

        consecutive = (visits.next >= 0) & (visits.distance <= 1)
        self.ends: list[list[int]] = [[] for _ in range(n + 1)]
        leaving = np.flatnonzero(~consecutive)
        for visit, end in zip(leaving.tolist(), (visits.last[leaving] + 1).tolist()):
            self.ends[end].append(visit)

        previous_use = np.full(count, -1, dtype=np.int64)  # the last use in the previous interval
        followed = np.flatnonzero(consecutive & (visits.next > np.arange(count)))
        previous_use[visits.next[followed]] = visits.last[followed]
        self.upcoming: list[list[Upcoming]] = [[] for _ in range(intervals + 1)]
        self._add_upcoming(np.arange(count), visits.interval, previous_use)
        last = np.flatnonzero((visits.next >= 0) & (visits.next <= np.arange(count)))
        first = visits.next[last]
        self.wraps: list[tuple[int, int]] = list(zip(last.tolist(), visits.interval[first].tolist()))
        early = visits.interval[first] == 0
        previous_use = np.where(visits.interval[last] == intervals - 1, visits.last[last], -1)
        next_step = np.full(int(early.sum()), intervals)
        self._add_upcoming(first[early], next_step, previous_use[early])
        self.headroom = self._headroom(at_birth)

    def _add_upcoming(self, visit: Ints, interval: Ints, previous_use: Ints) -> None:
        units, unit = self.step.problem.units, self.visits.unit[visit]
        saved_ns = self.visits.saved_ns[visit]
        release = np.maximum(previous_use + 1, units.ready[unit])
        columns = (interval, unit, saved_ns / units.size[unit], saved_ns, release)
        for i, *row in zip(*(column.tolist() for column in columns)):
            self.upcoming[i].append(Upcoming(*row))

    def _headroom(self, at_birth: Bools) -> list[int]:
        units, v = self.step.problem.units, self.visits
        n = len(self.ends) - 1
        born = at_birth & ~units.variable[v.unit] & (v.saved_ns > 0)
        change = np.zeros(n + 1, dtype=np.int64)
        np.add.at(change, units.birth[v.unit[born]], units.size[v.unit[born]])
        np.add.at(change, v.last[born] + 1, -units.size[v.unit[born]])
        demand = np.cumsum(change)[:n]
        bounds = [*self.starts, n, n]
        headroom: list[int] = []
        for a, b, c in zip(bounds, bounds[1:], bounds[2:]):
            max_demand = np.maximum.accumulate(demand[a:c][::-1])[::-1][: b - a]
            headroom += (max_demand - demand[a:b]).tolist()
        return headroom
