# SPDX-License-Identifier: Apache-2.0
"""Fractional schedules without a linear program: every position has a price for a byte of fast memory.

With prices given, each unit by itself decides where it is at each use, and whether it stays between two uses
(dynamic programming over its uses). Prices rise where the units together exceed the budget, and fall where
they do not (a subgradient method). The mean of the decisions approaches a solution of the linear program.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..problem import Problem
from ..timing.cores import CHUNK, Cores, divide
from .shares import Shares

if TYPE_CHECKING:
    from ..formats.fields import Bools, Floats, Ints

_ROUNDS = 80
_SKIPPED = 30  # first rounds, which do not count for the mean


def priced_shares(problem: Problem, cores: Cores, capacity: int) -> Shares:
    """Return the share of each use of a unit that is in fast memory, in `capacity` bytes."""
    if not len(problem.use_unit):
        return Shares(np.zeros(0), np.zeros(0))
    market = _Market(problem, cores)
    n = len(problem.op_ns)
    price = np.zeros(n)
    scale = float(problem.use_saved_ns.sum()) / max(1, capacity * n)
    fast_sum, kept_sum, weight = np.zeros(len(problem.use_unit)), np.zeros(len(problem.use_unit)), 0
    for i in range(_ROUNDS):
        fast, kept = market.decide(price)
        excess = market.occupied(fast, kept) / max(1, capacity) - 1
        price = np.maximum(0.0, price + 3 * scale / np.sqrt(i + 1) * np.clip(excess, -1.0, 3.0))
        if i >= _SKIPPED:
            fast_sum, kept_sum, weight = fast_sum + fast, kept_sum + kept, weight + 1
    return Shares(fast_sum / weight, kept_sum / weight)


class _Row(NamedTuple):
    """The k-th use of all units that have one: rows of the problem, and which of them have another one."""

    rows: Ints
    followed: Bools


class _Market:
    """Decisions of all units. A variable never moves: it is in fast memory for the whole step, or never."""

    def __init__(self, problem: Problem, cores: Cores) -> None:
        units, unit = problem.units, problem.use_unit
        n, figures = len(problem.op_ns), cores.figures
        self.problem, self.n = problem, n
        self.size = np.where(units.share > 0, units.size, 0).astype(np.float64)
        self.variable = units.variable[unit]
        starts = np.flatnonzero(np.diff(unit, prepend=-1))
        counts = np.diff(np.append(starts, len(unit)))
        index = np.arange(len(unit)) - np.repeat(starts, counts)
        self.last = np.append(np.diff(unit) != 0, True)
        by_index = np.lexsort((np.arange(len(unit)), index))
        by_index = by_index[~self.variable[by_index]]
        bounds = np.searchsorted(index[by_index], np.arange(int(index.max(initial=0)) + 2))
        self.levels = [
            _Row(rows, ~self.last[rows])
            for rows in (by_index[a:b] for a, b in zip(bounds.tolist(), bounds[1:].tolist()))
            if len(rows)
        ]
        position, following = problem.use_position, np.append(problem.use_position[1:], 0)
        self.begin, self.end = position + 1, np.where(self.last, position + 1, following)
        fast_op_ns = np.maximum(problem.costs.op_ns - problem.costs.op_saved_ns, 0.0)
        parts = np.array([float(part.sum()) for part in divide(problem.costs, fast_op_ns)])
        parts = parts / max(float(parts.sum()), 1e-9)
        row_size = self.size[unit]
        self.down_ns, self.up_ns = (
            row_size * cores.lost_ns(to, *parts.tolist()) + figures.shootdown_ns for to in (1, 0)
        )
        clock = np.concatenate(([0.0], np.cumsum(problem.op_ns)))
        # as fast as the step will be about, between all in slow and all in fast memory
        clock *= 0.5 * (1 + problem.costs.fast_ns / max(problem.costs.slow_ns, 1e-9))
        first = np.repeat(starts, counts)
        written = np.maximum.accumulate(np.where(problem.use_writes, np.arange(len(unit)), first))
        left_ns = np.maximum(
            clock[position[written] + 1] + cores.move_ns(1, CHUNK) + row_size * cores.fluid_ns(1) / 2,
            clock[self.begin] + figures.remap_ns,
        )
        back_ns = clock[self.end] - cores.move_ns(0, CHUNK) - row_size * cores.fluid_ns(0) / 2
        left, back = np.searchsorted(clock, left_ns), np.searchsorted(clock, back_ns, side="right") - 1
        self.bound = (left > back) | (following < units.ready[unit]) | self.last
        self.left = np.where(self.bound, self.begin, np.maximum(left, self.begin))
        self.back = np.where(self.bound, self.end, np.minimum(back, self.end))

    def decide(self, price: Floats) -> tuple[Bools, Bools]:
        """Return which uses are in fast memory, and after which of them the unit stays there."""
        problem, unit = self.problem, self.problem.use_unit
        total = np.concatenate(([0.0], np.cumsum(price)))
        size = self.size[unit]
        gain = problem.use_saved_ns - size * price[problem.use_position]
        hold = size * (total[self.end] - total[self.begin])
        never = np.where(self.bound, np.inf, 0.0)
        down = self.down_ns + size * (total[self.left] - total[self.begin]) + never
        up = self.up_ns + size * (total[self.end] - total[self.back]) + never
        stay_ns = np.minimum(hold, down + up)
        count = len(unit)
        fast_value, slow_value = np.zeros(count), np.zeros(count)
        to_fast, to_slow = (
            np.zeros(count, dtype=bool),
            np.zeros(count, dtype=bool),
        )  # after a use in fast, slow
        for rows, followed in reversed(self.levels):
            here, after = rows[followed], rows[followed] + 1
            stays, leaves = fast_value[after] - stay_ns[here], slow_value[after] - down[here]
            returns, remains = fast_value[after] - up[here], slow_value[after]
            to_fast[here], to_slow[here] = stays >= leaves, returns > remains
            fast_value[rows], slow_value[rows] = gain[rows], 0.0
            fast_value[here] += np.maximum(stays, leaves)
            slow_value[here] += np.maximum(returns, remains)
        fast = np.zeros(count, dtype=bool)
        for k, (rows, followed) in enumerate(self.levels):
            if k == 0:
                fast[rows] = fast_value[rows] > slow_value[rows]
            here = rows[followed]
            fast[here + 1] = np.where(fast[here], to_fast[here], to_slow[here])
        kept = fast & ~self.last & np.append(fast[1:], False) & (hold <= down + up)
        saved_ns = np.bincount(unit, weights=problem.use_saved_ns, minlength=len(self.size))
        resident = self.problem.units.variable & (saved_ns > self.size * total[-1])
        fast |= resident[unit]
        return fast, kept | resident[unit]

    def occupied(self, fast: Bools, kept: Bools) -> Floats:
        """Return the bytes in fast memory at each position."""
        unit, units = self.problem.use_unit, self.problem.units
        change = np.zeros(self.n + 1)
        size = np.where(self.variable, 0.0, self.size[unit])
        used = np.where(fast, size, 0.0)
        np.add.at(change, self.problem.use_position, used)
        np.add.at(change, self.problem.use_position + 1, -used)
        following = np.append(fast[1:], False) & ~self.last
        for share, begin, end in (
            (fast & ~kept, self.begin, self.left),
            (kept, self.begin, self.end),
            (following & ~kept, self.back, self.end),
        ):
            held = np.where(share & ~self.last, size, 0.0)
            np.add.at(change, begin, held)
            np.add.at(change, end, -held)
        variables = np.zeros(len(self.size), dtype=bool)
        variables[unit[fast & self.variable]] = True
        resident_bytes = float(self.size[variables & units.variable].sum())
        return np.cumsum(change)[:-1] + resident_bytes
