# SPDX-License-Identifier: Apache-2.0
"""The predicted timeline of a step: operations, migration threads and waits.

`predict_timeline` serves schedules under construction and finished plans alike, so that both have the same
timing.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..formats.figures import Figures
from ..moves import UnitMove
from .cost import Costs

if TYPE_CHECKING:
    from ..formats.fields import Bools, Floats, Ints


@dataclass(frozen=True)
class Timeline:
    """Times in ns from the start of the step.

    `begin` has the begin of each operation and the end of the step. `spans` has for each move when its
    migration thread works on it. `exposed` has the exposed time at each position. `late` lists the moves that
    are not finished at their deadline; these are demotions, because promotions are waited for.
    """

    begin: Floats
    spans: list[tuple[float, float]]
    exposed: dict[int, float]
    late: list[int]

    @property
    def step_ns(self) -> float:
        return float(self.begin[-1])

    @property
    def exposed_ns(self) -> float:
        return sum(self.exposed.values())


def predict_timeline(
    costs: Costs,
    op_ns: Floats,
    extra_ns: Floats,
    moves: Sequence[UnitMove],
    waits: Sequence[int],
    size: Ints,
    *,
    page_bytes: int,
    figures: Figures,
) -> Timeline:
    """Predict a step in which operations take `op_ns` with their tensors, and `extra_ns` on top.

    `size` is the size of each unit in bytes.
    """
    slow_memory_ns = costs.remaining_slow_memory_ns(op_ns)
    op_ns = op_ns + extra_ns + contention(slow_memory_ns, op_ns, moves, size, figures)
    page_ns = [figures.migration_ns(to, page_bytes) for to in (0, 1)]
    move_ns = [int(size[move.unit]) // page_bytes * page_ns[move.to] for move in moves]
    threads = min(2, figures.migration_cores)  # one for each direction
    return replay(op_ns, costs.prologue_ns, moves, move_ns, waits, migration_threads=threads)


def in_fast_memory(unit: Ints, position: Ints, born_fast: Bools, moves: Sequence[UnitMove]) -> Bools:
    """Return for each use, sorted by `unit` and `position`, whether the unit is in fast memory then.

    A promotion takes effect at its `before`, a demotion at its `at`.
    """
    fast = born_fast[unit].copy()
    positions: list[int] = position.tolist()
    bounds: list[int] = np.searchsorted(unit, np.arange(len(born_fast) + 1)).tolist()
    for moved, at, to, before in moves:  # in order, so that later moves override earlier ones
        end = bounds[moved + 1]
        fast[bisect_left(positions, before if to == 0 else at, bounds[moved], end) : end] = to == 0
    return fast


def contention(
    slow_memory_ns: Floats, op_ns: Floats, moves: Sequence[UnitMove], size: Ints, figures: Figures
) -> Floats:
    """Return the ns that operations lose to copies; the operation at its `at` is charged for a move.

    A copy occupies slow memory to write a demoted page or to read a promoted one. Computation loses that time
    in proportion to the share of `slow_memory_ns` in `op_ns` (both by operation) between the ends of the
    move. The copies' share of fast memory is left out: fast memory is faster, and serves most of the
    computation.
    """
    n, slow = len(op_ns), figures.nodes[1]
    if not moves:
        return np.zeros(n)
    unit, at, to, before = np.array(moves, dtype=np.int64).T
    begin = np.clip(at, 0, n - 1)
    end = np.clip(before, begin + 1, n)
    slow_memory_clock, clock = (np.concatenate(([0.0], np.cumsum(ns))) for ns in (slow_memory_ns, op_ns))
    span = clock[end] - clock[begin]
    busy = slow_memory_clock[end] - slow_memory_clock[begin]
    share = np.divide(busy, span, out=np.zeros(len(unit)), where=span > 0)
    copy_ns = size[unit] / np.where(to == 1, slow.write_bandwidth, slow.read_bandwidth)
    return np.bincount(begin, weights=copy_ns * share, minlength=n).astype(np.float64)


def replay(
    op_ns: Floats,
    prologue_ns: float,
    moves: Sequence[UnitMove],
    move_ns: Sequence[float],
    waits: Sequence[int],
    *,
    migration_threads: int,
) -> Timeline:
    """Run a step with the given times of operations and moves.

    A migration thread executes its moves one at a time, in order, from their `at` on. At the positions
    `waits` the step waits for the promotions that are due there.
    """
    n = len(op_ns)
    clock = np.concatenate(([0.0], np.cumsum(op_ns))) + prologue_ns
    thread_of = (0, migration_threads - 1)  # of promotions and demotions
    free_at = [0.0] * migration_threads
    spans: list[tuple[float, float]] = []
    exposed: dict[int, float] = {}
    due: dict[int, float] = {}  # position: end of the last promotion that is due there
    delay = np.zeros(n + 1)
    total_delay = 0.0
    started = 0
    for p in sorted({move.at for move in moves} | set(waits)):
        if p in due and p in waits:
            wait = due[p] - (float(clock[p]) + total_delay)
            if wait > 0:
                exposed[p] = delay[p] = wait
                total_delay += wait
        while started < len(moves) and moves[started].at == p:
            move = moves[started]
            thread = thread_of[move.to]
            begin_ns = max(free_at[thread], float(clock[p]) + total_delay)
            free_at[thread] = begin_ns + move_ns[started]
            spans.append((begin_ns, free_at[thread]))
            if move.to == 0:
                due[move.before] = max(due.get(move.before, 0.0), free_at[thread])
            started += 1
    begin = clock + np.cumsum(delay)
    late = [
        i
        for i, move in enumerate(moves)
        # two sums of the same times may differ by rounding
        if move.to == 1 and spans[i][1] > float(begin[move.before]) * (1 + 1e-9)
    ]
    return Timeline(begin, spans, exposed, late)
