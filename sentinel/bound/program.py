# SPDX-License-Identifier: Apache-2.0
"""The linear program of the bound: the placement problem, relaxed until it has an optimum that can be proven.

Its variables are y by use, k and c by gap, and the us of stretches and waits: see `sentinel.bound`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from sentinel.planner.errors import PlannerError
from sentinel.planner.formats.figures import Figures
from sentinel.planner.formats.profile import Profile
from sentinel.planner.memory.arena import MIN_OWN_PAGES
from sentinel.planner.policy import Mechanism
from sentinel.planner.schedule.shares import Relaxed
from sentinel.planner.timing.cores import CHUNK, Cores, copy_ns_of, divide
from sentinel.planner.timing.cost import Costs

from .migrations import Migrations, Row
from .tables import collect_gaps, collect_uses, runs, stretch_edges

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from sentinel.planner.formats.fields import Floats, Ints

_TOLERANCE = 1e-4  # of the budget: smaller excesses are left
_MIB, _US = float(1 << 20), 1e3  # scale the program's coefficients


class Relaxation:
    """The linear program for a profile, a budget, a machine and a mechanism.

    With `op_ns`, how long operations take about, the program is stricter: its solutions are closer to
    schedules, but its value is no bound. Migrations take as long as a unit's do, computation loses as much by
    them as it does on average, variables do not move, and a tensor occupies memory until it dies, also after
    the last use that saves time.
    """

    def __init__(
        self,
        profile: Profile,
        costs: Costs,
        budget: int,
        figures: Figures,
        mechanism: Mechanism,
        op_ns: Floats | None = None,
    ) -> None:
        self._n, self._costs, self._budget, self._figures = len(profile.ops), costs, budget, figures
        self._frames = mechanism == "frames"
        self._stricter = op_ns is not None
        self._uses = collect_uses(profile, costs, with_writes=self._frames, whole=self._stricter)
        self._gaps = collect_gaps(profile, self._uses, eager=self._frames)
        self._bytes = profile.tensors.resident_bytes.astype(np.float64)[self._uses.tensor]
        self._migrations = Migrations(
            profile, self._uses, self._gaps, self._bytes, budget, figures, frames=self._frames
        )
        self._cores = Cores(figures, profile.page_bytes)
        self._edges = stretch_edges(costs)
        self._first, self._last = (self._uses.position[use] for use in (self._gaps.before, self._gaps.after))
        # between them, y before, then k, then y after is in fast memory
        self._left, self._back = self._first + 1, self._last
        if op_ns is None:
            op_ns = np.maximum(costs.op_ns - costs.op_saved_ns, 0.0)
        else:
            self._migrate_in(op_ns)
        self._op_ns = op_ns

    @property
    def _width(self) -> int:
        gaps = len(self._gaps.before)
        return len(self._uses.tensor) + gaps * (2 if self._frames else 1) + 2 * (len(self._edges) - 1)

    @property
    def _times(self) -> int:
        """The first column of the stretches' times."""
        return self._width - 2 * (len(self._edges) - 1)

    def first_positions(self) -> Ints:
        """Return the position of most bytes in use in each stretch."""
        in_use = np.bincount(self._uses.position, weights=self._bytes, minlength=self._n)
        spans = pairwise(self._edges.tolist())
        return np.unique([a + int(np.argmax(in_use[a:b])) for a, b in spans])

    def all_fast(self) -> Floats:
        """Return the solution without a budget."""
        return np.ones(self._width)

    def relaxed(self, solution: Floats) -> Relaxed:
        """Return what the solution has in fast memory."""
        uses = len(self._uses.tensor)
        kept = np.zeros(uses)
        kept[self._gaps.before] = solution[uses : uses + len(self._gaps.before)]
        return Relaxed(self._uses.tensor, self._uses.position, solution[:uses], kept)

    def op_ns(self, solution: Floats) -> Floats:
        """Return how long operations take with what the solution has in fast memory."""
        uses = self._uses
        saved_ns = np.bincount(
            uses.position, weights=uses.saved_ns * solution[: len(uses.tensor)], minlength=self._n
        )
        return np.maximum(self._costs.op_ns - saved_ns, 0.0)

    def _migrate_in(self, op_ns: Floats) -> None:
        """Let migrations in gaps take time: what leaves or comes occupies memory meanwhile."""
        uses = self._uses
        clock = np.concatenate(([0.0], np.cumsum(op_ns)))
        size = self._bytes[self._gaps.before]
        down_ns, up_ns = (
            self._cores.move_ns(to, CHUNK) + 0.5 * size * self._cores.fluid_ns(to) for to in (1, 0)
        )
        written = np.where(self._gaps.write >= 0, uses.position[self._gaps.write], self._first)
        left_ns = np.maximum(clock[written + 1] + down_ns, clock[self._first + 1] + self._cores.remap_ns(0))
        back_ns = clock[self._last] - up_ns
        self._short = (left_ns >= back_ns) & ~self._gaps.wraps
        within = ~self._short & ~self._gaps.wraps
        left = np.searchsorted(clock, left_ns)
        back = np.searchsorted(clock, back_ns, side="right") - 1
        within &= left <= back
        self._left = np.where(within, np.maximum(left, self._first + 1), self._first + 1)
        self._back = np.where(within, np.minimum(back, self._last), self._last)

    def solve(self, positions: Ints, time_limit_s: float | None) -> tuple[float, Floats] | None:
        """Return a proven lower bound in ns, and the solution, with the budget kept at `positions`.

        None if the time is over.
        """
        from scipy.optimize import linprog
        from scipy.sparse import csr_matrix, vstack

        if time_limit_s is not None and time_limit_s <= 0:
            return None
        uses, stretches, width = len(self._uses.tensor), len(self._edges) - 1, self._width
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
                    np.concatenate((np.arange(uses), self._times + np.arange(stretches))),
                ),
            ),
            shape=(stretches, width),
        )
        slow_ns = np.add.reduceat(self._costs.op_ns, self._edges[:-1])
        slow_ns[0] += self._costs.prologue_ns
        objective = self._objective()
        longest = self._costs.slow_ns / _US
        upper = np.concatenate((np.ones(self._times), np.full(2 * stretches, longest)))
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

    def _objective(self) -> Floats:
        """Return the ns by variable: of stretches, of waits, and those that computation loses by copies.

        Nothing is lost by what is copied in a wait, so a wait counts less by what it could copy.
        """
        objective = np.zeros(self._width)
        objective[self._times :] = 1.0
        waits = np.arange(self._width) >= self._times + len(self._edges) - 1
        if not self._frames:
            return objective
        parts = divide(self._costs, self._op_ns)
        total = np.array([float(part.sum()) for part in parts])
        shares = total / max(float(total.sum()), 1e-9)
        gap = np.flatnonzero(~self._migrations.variable[self._gaps.before])
        for to in (0, 1):
            least_ns = self._cores.least_lost_ns(to)
            lost_ns = self._cores.lost_ns(to, *shares.tolist()) if self._stricter else least_ns
            per_byte = np.full(len(self._gaps.before), lost_ns / _US)
            for columns, ns in self._migrations.moved(gap, to, per_byte):
                np.add.at(objective, columns, ns)
            # at least one remap each way for a tensor that has pages of its own
            size = self._bytes[self._gaps.before]
            own = gap if self._stricter else gap[size[gap] >= MIN_OWN_PAGES * self._cores.page_bytes]
            remapped = (
                self._migrations.piece_bytes[self._gaps.before] if self._stricter else np.maximum(size, 1.0)
            )
            for columns, ns in self._migrations.remapped(
                own, to, self._figures.shootdown_ns / _US / remapped
            ):
                np.add.at(objective, columns, ns)
            if self._stricter:
                of_variable = np.flatnonzero(self._migrations.variable[self._gaps.before])
                dear = self._costs.slow_ns / _US / np.maximum(self._bytes[self._gaps.before], 1.0)
                for columns, ns in self._migrations.moved(of_variable, to, dear):
                    np.add.at(objective, columns, ns)
            most = self._figures.migration_cores / copy_ns_of(self._figures, to)
            objective[waits] -= min(0.5, least_ns * most)
        return np.maximum(objective, 0.0, out=objective, where=waits)

    def exceeded(self, solution: Floats) -> Ints:
        """Return the position of the largest excess over the budget in each stretch that has one."""
        uses = len(self._uses.tensor)
        change = np.zeros(self._n + 1)
        in_use = np.bincount(self._uses.position, weights=self._bytes * solution[:uses], minlength=self._n)
        before, after, wraps = self._gaps.before, self._gaps.after, self._gaps.wraps
        kept = solution[uses : uses + len(before)]
        size = self._bytes[before]
        once = ~wraps
        for share, begin, end in (
            (solution[before], self._first + 1, self._left),
            (kept, self._left, self._back),
            (solution[after], self._back, self._last),
        ):
            np.add.at(change, begin[once], (share * size)[once])
            np.add.at(change, end[once], -(share * size)[once])
        held = (kept * size)[wraps]
        np.add.at(change, self._first[wraps] + 1, held)
        change[0] += held.sum()
        np.add.at(change, self._last[wraps], -held)
        excess = in_use + np.cumsum(change)[:-1] - self._budget * (1 + _TOLERANCE)
        worst = [a + int(np.argmax(excess[a:b])) for a, b in pairwise(self._edges.tolist())]
        return np.array([p for p in worst if excess[p] > 0], dtype=np.int64)

    def moved_bytes(self, solution: Floats) -> tuple[float, float]:
        """Return the bytes that the solution promotes and demotes."""
        before, after = self._gaps.before, self._gaps.after
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
        if self._stricter:
            rows += [
                (np.array([use, uses + gap]), np.array([1.0, -1.0]))
                for gap in np.flatnonzero(self._short).tolist()
                for use in (self._gaps.before[gap], self._gaps.after[gap])
            ]
        rows += self._migrations.copies()
        rows += self._migration_limits()
        return _matrix(rows, self._width)

    def _occupancy(self, position: int) -> Row:
        """Return the columns of all that occupies fast memory at `position`, and their bytes."""
        uses, size = len(self._uses.tensor), self._bytes[self._gaps.before]
        use = np.flatnonzero(self._uses.position == position)
        begun, open_ = self._first < position, position < self._last
        spans = np.where(self._gaps.wraps, begun | open_, begun & open_)
        leaving = np.flatnonzero(spans & begun & (position < self._left) & ~self._gaps.wraps)
        coming = np.flatnonzero(spans & open_ & (position >= self._back) & ~self._gaps.wraps)
        spans[leaving] = spans[coming] = False
        gap = np.flatnonzero(spans)
        columns = (use, self._gaps.before[leaving], self._gaps.after[coming], uses + gap)
        weights = (self._bytes[use], size[leaving], size[coming], size[gap])
        return np.concatenate(columns), np.concatenate(weights)

    def _migration_limits(self) -> Iterator[Row]:
        """Yield columns and weights: migrations that must be within a run of stretches, less its time."""
        stretches, wraps = len(self._edges) - 1, self._gaps.wraps
        begin = np.searchsorted(self._edges, self._gaps.begin, side="right") - 1
        end = np.searchsorted(self._edges, self._last, side="left")
        for first, last in runs(stretches):
            whole = last - first == stretches
            gap = np.flatnonzero((begin >= first) & (end <= last) & ~wraps | whole)
            if not len(gap):
                continue
            times = self._times + np.concatenate((np.arange(first, last), stretches + np.arange(first, last)))
            for cores, byte_ns in self._migrations.limits():
                columns, weights = [times], [np.full(len(times), -cores)]
                for to, ns in enumerate(byte_ns):
                    if ns is not None:
                        for column, us in self._migrations.moved(gap, to, ns[self._gaps.before] / _US):
                            columns.append(column)
                            weights.append(us)
                yield np.concatenate(columns), np.concatenate(weights)


def _matrix(rows: Sequence[Row], width: int) -> csr_matrix:
    """Return a sparse matrix of rows, each columns and values; values in the same column add up."""
    from scipy.sparse import csr_matrix

    row = np.repeat(np.arange(len(rows)), [len(columns) for columns, _ in rows])
    columns, values = (np.concatenate([[], *(part[i] for part in rows)]) for i in (0, 1))
    return csr_matrix((values, (row, columns)), shape=(len(rows), width))
