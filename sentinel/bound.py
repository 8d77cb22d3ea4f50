# SPDX-License-Identifier: Apache-2.0
"""A lower bound on the step under any placement and any migration schedule, within the cost model.

A linear program relaxes the problem until it has an optimum that can be proven. Every schedule that the cost
model can predict is a solution of it:

- A tensor may be partly in fast memory: `y` is its share at a use, `k` the smallest share between two uses.
- At every position the shares of the tensors in use, and the `k` of all others that live, fit the budget.
  Sizes are touched bytes: no rounding to pages, no address layout, no reserved pool.
- Between two uses y - k is demoted and y' - k promoted. If these uses are both within a stretch of the step,
  so is the migration: migrations within any stretch take no longer than it does, waits included. A migrating
  page occupies one node, not both, and promotion and demotion may be instantaneous otherwise.
- New pages, and contention of copies and computation, cost nothing.

As in plans, tensors of the class `OUTSIDE` stay in slow memory. The bound is the value of the dual solution,
which holds even if the solver stops early; it is exact up to rounding.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sentinel.planner.errors import PlannerError
from sentinel.planner.formats.figures import Figures
from sentinel.planner.formats.plan import Plan
from sentinel.planner.formats.profile import Profile
from sentinel.planner.memory.classify import OUTSIDE, classify
from sentinel.planner.timing.cost import Costs, estimate_costs

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from sentinel.planner.formats.fields import Bools, Floats, Ints

STRETCHES = 64  # of the step, equally long; a power of two
BOUND_SECONDS = 60.0  # for the bound of a plan
_ROUNDS = 12  # of adding positions at which the solution exceeds the budget
_TOLERANCE = 1e-4  # of the budget: smaller excesses are left
_MIB, _US = float(1 << 20), 1e3  # scale the program's coefficients


@dataclass(frozen=True)
class Bound:
    """Times in ns: the bound, and the step with all tensors in fast and in slow memory.

    `promoted_bytes` and `demoted_bytes` are what the solution of the relaxation migrates.
    """

    step_ns: float
    fast_ns: float
    slow_ns: float
    promoted_bytes: float
    demoted_bytes: float

    @property
    def fraction(self) -> float:
        """The most speed that any schedule has, as a share of the speed with fast memory only."""
        return self.fast_ns / self.step_ns

    def gap(self, step_ns: float) -> float:
        """How much longer a step is than the bound: 0.02 for 2 %."""
        return step_ns / self.step_ns - 1

    def recorded_in(self, plan: Plan) -> Plan:
        """Return the plan with the bound in its prediction."""
        return replace(plan, predicted={**plan.predicted, "bound_ns": round(self.step_ns)})


def lower_bound(
    profile: Profile,
    budget: int,
    figures: Figures,
    fast_step_ns: float | None = None,
    *,
    time_limit_s: float | None = None,
) -> Bound:
    """Return the bound of a profiled step for `budget` bytes of fast memory.

    `fast_step_ns` is as for `search.make_plan`. The solver is stopped after `time_limit_s`; the bound is then
    lower than it could be, at worst the step with all tensors in fast memory.
    """
    costs = estimate_costs(profile, figures, fast_step_ns)
    relaxation = _Relaxation(profile, costs, budget, figures)
    positions = relaxation.first_positions()
    best, solution = costs.fast_ns, relaxation.all_fast()
    deadline = None if time_limit_s is None else time.monotonic() + time_limit_s
    for _ in range(_ROUNDS):
        solved = relaxation.solve(positions, None if deadline is None else deadline - time.monotonic())
        if solved is None:
            break
        value, solution = solved
        best = max(best, value)
        excess = relaxation.exceeded(solution)
        if not len(excess):
            break
        positions = np.union1d(positions, excess)
    promoted, demoted = relaxation.moved_bytes(solution)
    return Bound(best, costs.fast_ns, costs.slow_ns, promoted, demoted)


class _Uses(NamedTuple):
    """Uses that save time, sorted by tensor and position: rows of the profile merged."""

    tensor: Ints
    position: Ints
    saved_ns: Floats


class _Gaps(NamedTuple):
    """Between a use and the next one of the same tensor: indices of both uses.

    `wraps`: from the last use of a variable to its first one in the next step.
    """

    before: Ints
    after: Ints
    wraps: Bools


class _Relaxation:
    """The linear program. Its variables are y by use, k by gap, then the us of stretches and of waits."""

    def __init__(self, profile: Profile, costs: Costs, budget: int, figures: Figures) -> None:
        self._n, self._costs, self._budget, self._figures = len(profile.ops), costs, budget, figures
        self._uses = _saving_uses(profile, costs)
        self._gaps = _gaps(profile, self._uses)
        self._bytes = profile.tensors.resident_bytes.astype(np.float64)[self._uses.tensor]
        self._move_ns = [figures.migration_ns(to, profile.page_bytes) / profile.page_bytes for to in (0, 1)]
        self._edges = _stretch_edges(costs)
        self._begin, self._end = (self._uses.position[use] for use in (self._gaps.before, self._gaps.after))

    def first_positions(self) -> Ints:
        """Return the position of most bytes in use in each stretch."""
        in_use = np.bincount(self._uses.position, weights=self._bytes, minlength=self._n)
        spans = pairwise(self._edges.tolist())
        return np.unique([a + int(np.argmax(in_use[a:b])) for a, b in spans])

    def all_fast(self) -> Floats:
        """Return the solution without a budget."""
        return np.ones(len(self._uses.tensor) + len(self._gaps.before) + 2 * (len(self._edges) - 1))

    def solve(self, positions: Ints, time_limit_s: float | None) -> tuple[float, Floats] | None:
        """Return a proven lower bound in ns, and the solution, with the budget kept at `positions`.

        None if the time is over.
        """
        from scipy.optimize import linprog
        from scipy.sparse import csr_matrix, vstack

        uses, gaps, stretches = len(self._uses.tensor), len(self._gaps.before), len(self._edges) - 1
        width = uses + gaps + 2 * stretches
        occupied = [
            (columns, weights / _MIB) for columns, weights in map(self._occupancy, positions.tolist())
        ]
        matrix = vstack((self._unbudgeted, _matrix(occupied, width)))
        limits = np.repeat([0.0, self._budget / _MIB], [self._unbudgeted.shape[0], len(occupied)])
        stretch = np.searchsorted(self._edges, self._uses.position, side="right") - 1
        times = csr_matrix(
            (
                np.concatenate((self._uses.saved_ns / _US, np.ones(stretches))),
                (
                    np.concatenate((stretch, np.arange(stretches))),
                    np.concatenate((np.arange(uses), uses + gaps + np.arange(stretches))),
                ),
            ),
            shape=(stretches, width),
        )
        slow_ns = np.add.reduceat(self._costs.op_ns, self._edges[:-1])
        slow_ns[0] += self._costs.prologue_ns
        objective = np.zeros(width)
        objective[uses + gaps :] = 1.0
        longest = self._costs.slow_ns / _US
        upper = np.concatenate((np.ones(uses + gaps), np.full(2 * stretches, longest)))
        if time_limit_s is not None and time_limit_s <= 0:
            return None
        options = {} if time_limit_s is None else {"time_limit": time_limit_s}
        result = linprog(
            objective,
            A_ub=matrix,
            b_ub=limits,
            A_eq=times,
            b_eq=slow_ns / _US,
            bounds=np.column_stack((np.zeros(width), upper)),
            method="highs",
            options=options,
        )
        if result.x is None or result.ineqlin.marginals is None:
            if time_limit_s is not None:
                return None
            raise PlannerError(f"no bound: {result.message}")
        # Any multipliers of the right sign prove a bound: the smallest Lagrangian over the variables' ranges.
        duals = np.concatenate((np.minimum(result.ineqlin.marginals, 0.0), result.eqlin.marginals))
        reduced = objective - vstack((matrix, times)).T @ duals
        value = duals @ np.concatenate((limits, slow_ns / _US)) + np.minimum(reduced * upper, 0.0).sum()
        return float(value) * _US, result.x

    def exceeded(self, solution: Floats) -> Ints:
        """Return the position of the largest excess over the budget in each stretch that has one."""
        uses = len(self._uses.tensor)
        change = np.zeros(self._n + 1)
        in_use = np.bincount(self._uses.position, weights=self._bytes * solution[:uses], minlength=self._n)
        before, _, wraps = self._gaps
        held = self._bytes[before] * solution[uses : uses + len(before)]
        begin, end = self._begin + 1, self._end
        np.add.at(change, begin, held)
        np.add.at(change, np.where(wraps, self._n, end), -held)
        np.add.at(change, np.zeros(int(wraps.sum()), dtype=np.int64), held[wraps])
        np.add.at(change, end[wraps], -held[wraps])
        excess = in_use + np.cumsum(change)[:-1] - self._budget * (1 + _TOLERANCE)
        worst = [a + int(np.argmax(excess[a:b])) for a, b in pairwise(self._edges.tolist())]
        return np.array([p for p in worst if excess[p] > 0], dtype=np.int64)

    def moved_bytes(self, solution: Floats) -> tuple[float, float]:
        """Return the bytes that the solution promotes and demotes."""
        before, after, _ = self._gaps
        kept = solution[len(self._uses.tensor) :][: len(before)]
        size = self._bytes[before]
        return float(size @ (solution[after] - kept)), float(size @ (solution[before] - kept))

    @cached_property
    def _unbudgeted(self) -> csr_matrix:
        """The rows that do not depend on positions; their products are at most 0."""
        uses, gaps = len(self._uses.tensor), len(self._gaps.before)
        k = np.arange(uses, uses + gaps)
        rows = [  # k is at most both shares
            (np.array(columns), np.array([1.0, -1.0]))
            for use in (self._gaps.before, self._gaps.after)
            for columns in zip(k.tolist(), use.tolist(), strict=True)
        ]
        rows += self._migration_limits(uses + gaps)
        return _matrix(rows, len(self.all_fast()))

    def _occupancy(self, position: int) -> tuple[Ints, Floats]:
        """Return the columns of all that occupies fast memory at `position`, and their bytes."""
        use = np.flatnonzero(self._uses.position == position)
        begun, open_ = self._begin < position, position < self._end
        within, around = begun & open_, begun | open_
        gap = np.flatnonzero(np.where(self._gaps.wraps, around, within))
        columns = np.concatenate((use, len(self._uses.tensor) + gap))
        return columns, np.concatenate((self._bytes[use], self._bytes[self._gaps.before[gap]]))

    def _migration_limits(self, first_time: int) -> Iterator[tuple[Ints, Floats]]:
        """Yield columns and weights: migrations that must be within a run of stretches, less its time."""
        uses, stretches = len(self._uses.tensor), len(self._edges) - 1
        before, after, wraps = self._gaps
        begin = np.searchsorted(self._edges, self._begin, side="right") - 1
        end = np.searchsorted(self._edges, self._end, side="left")
        threads = min(2, self._figures.migration_cores)
        directions = ((0, 1),) if threads == 1 else ((0,), (1,))
        for first, last in _runs(stretches):
            whole = last - first == stretches
            gap = np.flatnonzero((begin >= first) & (end <= last) & ~wraps | whole)
            if not len(gap):
                continue
            times = np.concatenate((np.arange(first, last), stretches + np.arange(first, last)))
            for direction in directions:
                columns, weights = [first_time + times], [-np.ones(len(times))]
                for to in direction:
                    us = self._bytes[before[gap]] * self._move_ns[to] / _US
                    columns += [after[gap] if to == 0 else before[gap], uses + gap]
                    weights += [us, -us]
                yield np.concatenate(columns), np.concatenate(weights)


def _matrix(rows: Sequence[tuple[Ints, Floats]], width: int) -> csr_matrix:
    """Return a sparse matrix of rows, each columns and values; values in the same column add up."""
    from scipy.sparse import csr_matrix

    row = np.repeat(np.arange(len(rows)), [len(columns) for columns, _ in rows])
    columns, values = (np.concatenate([[], *(part[i] for part in rows)]) for i in (0, 1))
    return csr_matrix((values, (row, columns)), shape=(len(rows), width))


def _saving_uses(profile: Profile, costs: Costs) -> _Uses:
    """Merge the uses of a tensor at a position, and drop those that save nothing."""
    u, n = profile.uses, len(profile.ops)
    inside = classify(profile)[u.tensor] != OUTSIDE
    keys, inverse = np.unique(u.tensor[inside] * n + u.position[inside], return_inverse=True)
    saved_ns: Floats = np.bincount(inverse, weights=costs.saved_ns[inside], minlength=len(keys)).astype(
        np.float64
    )
    keys, saved_ns = keys[saved_ns > 0], saved_ns[saved_ns > 0]
    return _Uses(keys // n, keys % n, saved_ns)


def _gaps(profile: Profile, uses: _Uses) -> _Gaps:
    """Return the gaps between uses; those that wrap come last."""
    starts = np.diff(uses.tensor, prepend=-1) != 0
    first = np.flatnonzero(starts)
    last = np.append(first[1:], len(starts)) - 1 if len(first) else first
    before = np.flatnonzero(~starts) - 1
    variable = profile.tensors.birth[uses.tensor[first]] < 0
    wraps = np.repeat([False, True], [len(before), int(variable.sum())])
    return _Gaps(
        np.concatenate((before, last[variable])), np.concatenate((before + 1, first[variable])), wraps
    )


def _stretch_edges(costs: Costs) -> Ints:
    """Return the first position of each stretch, and the number of positions."""
    clock = np.concatenate(([0.0], np.cumsum(costs.op_ns)))
    edges = np.searchsorted(clock, np.linspace(0, clock[-1], STRETCHES + 1))
    edges[0], edges[-1] = 0, len(costs.op_ns)
    return np.unique(edges)


def _runs(count: int) -> Iterator[tuple[int, int]]:
    """Yield runs of stretches, first and last + 1: lengths are powers of two, neighbours overlap by half."""
    length = 1
    while length < count:
        for first in range(0, count - length + 1, max(1, length // 2)):
            yield first, first + length
        length *= 2
    yield 0, count
