# SPDX-License-Identifier: Apache-2.0
"""A problem as plain lists by position, for going through the step many times; made once."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..problem import Problem
from .visits import Visits

if TYPE_CHECKING:
    from ..formats.fields import Bools, Ints


class Coming(NamedTuple):
    """A visit of the next interval. `heat` is ns saved per byte; from `release` on the unit may move."""

    unit: int
    heat: float
    gain: float
    release: int


class Positions:
    """What does not depend on intervals."""

    def __init__(self, problem: Problem) -> None:
        n, units = len(problem.profile.ops), problem.units
        self.problem = problem
        self.slot: list[float] = problem.slot.tolist()
        self.size: list[int] = units.size.tolist()
        self.ready: list[int] = units.ready.tolist()
        self.death: list[int] = units.death.tolist()
        self.variable: list[bool] = units.variable.tolist()
        self.move_ns: list[list[float]] = [times.tolist() for times in problem.move_ns]
        self.births: list[list[int]] = [[] for _ in range(n)]
        self.deaths: list[list[int]] = [[] for _ in range(n + 1)]
        births, deaths = units.birth.tolist(), self.death
        for unit in np.flatnonzero(~units.variable).tolist():
            self.births[births[unit]].append(unit)
            self.deaths[deaths[unit]].append(unit)
        self.uses: list[list[tuple[int, float]]] = [[] for _ in range(n)]
        saving = problem.use_gain > 0
        for unit, position, gain in zip(
            problem.use_unit[saving].tolist(),
            problem.use_position[saving].tolist(),
            problem.use_gain[saving].tolist(),
        ):
            self.uses[position].append((unit, gain))


class Tables:
    """What does: a partition of the step into intervals.

    `ends` has for each position the visits that ended before it and whose units are not needed in the
    interval that follows theirs. `coming` has for each interval its visits, and one interval more: what
    variables are used for in the first interval of the next step is prepared for in the last of this one.
    """

    def __init__(self, positions: Positions, visits: Visits) -> None:
        problem, units = positions.problem, positions.problem.units
        n, m, count = len(problem.profile.ops), len(visits.starts), len(visits.unit)
        self.positions, self.visits = positions, visits
        self.starts: list[int] = visits.starts.tolist()
        born_in = np.searchsorted(visits.starts, units.birth, side="right") - 1
        early = visits.interval == born_in[visits.unit]
        saved = np.zeros(len(units))
        saved[visits.unit[early]] = visits.gain[early]
        self.birth_gain: list[float] = saved.tolist()

        near = (visits.next >= 0) & (visits.apart <= 1)
        self.ends: list[list[int]] = [[] for _ in range(n + 1)]
        leaving = np.flatnonzero(~near)
        for v, end in zip(leaving.tolist(), (visits.last[leaving] + 1).tolist()):
            self.ends[end].append(v)

        before = np.full(count, -1, dtype=np.int64)  # the last use in the interval before
        followed = np.flatnonzero(near & (visits.next > np.arange(count)))
        before[visits.next[followed]] = visits.last[followed]
        self.coming: list[list[Coming]] = [[] for _ in range(m + 1)]
        self._come(np.arange(count), visits.interval, before)
        # the last visit of each variable, and the interval of its first in the next step
        last = np.flatnonzero((visits.next >= 0) & (visits.next <= np.arange(count)))
        first = visits.next[last]
        self.wraps: list[tuple[int, int]] = list(zip(last.tolist(), visits.interval[first].tolist()))
        again = visits.interval[first] == 0
        latest = np.where(visits.interval[last] == m - 1, visits.last[last], -1)
        self._come(first[again], np.full(int(again.sum()), m), latest[again])
        self.headroom = self._headroom(early)

    def _come(self, visit: Ints, interval: Ints, before: Ints) -> None:
        units, unit = self.positions.problem.units, self.visits.unit[visit]
        gain = self.visits.gain[visit]
        release = np.maximum(before + 1, units.ready[unit])
        columns = (interval, unit, gain / units.size[unit], gain, release)
        for i, *row in zip(*(column.tolist() for column in columns)):
            self.coming[i].append(Coming(*row))

    def _headroom(self, early: Bools) -> list[int]:
        """How much more than now the newly born will take, at most, until the end of the next interval."""
        units, v = self.positions.problem.units, self.visits
        n = len(self.ends) - 1
        chosen = early & ~units.variable[v.unit] & (v.gain > 0)
        change = np.zeros(n + 1, dtype=np.int64)
        np.add.at(change, units.birth[v.unit[chosen]], units.size[v.unit[chosen]])
        np.add.at(change, v.last[chosen] + 1, -units.size[v.unit[chosen]])
        demand = np.cumsum(change)[:n]
        bounds = [*self.starts, n, n]
        room: list[int] = []
        for a, b, c in zip(bounds, bounds[1:], bounds[2:]):
            later = np.maximum.accumulate(demand[a:c][::-1])[::-1][: b - a]
            room += (later - demand[a:b]).tolist()
        return room
