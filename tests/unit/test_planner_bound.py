# SPDX-License-Identifier: Apache-2.0
"""The lower bound: its value by hand, and that no schedule is faster."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from sentinel.bound import lower_bound
from sentinel.planner.errors import BudgetError
from sentinel.planner.formats import profile_json
from sentinel.planner.formats.figures import Figures
from sentinel.planner.formats.profile import Profile
from sentinel.planner.memory import classify
from sentinel.planner.moves import Schedule, UnitMove
from sentinel.planner.placement.place import predict
from sentinel.planner.problem import Problem, prepare
from sentinel.planner.search import make_plan
from tests.fakes import networks, profiles
from tests.fakes.profiles import BIG, CHEAP, LAYERS, MEGA, OPTANE, SIMPLE, variable, written_then_read

SLOW_NS = 7 * 10**6
WRITE_NS, READ_NS = 8, 3  # saved per byte in fast memory
DEAR = dataclasses.replace(SIMPLE, page_move_ns=1e9)


def bound_ns(tensors: list[dict[str, Any]], budget: int, figures: Figures = SIMPLE) -> float:
    bound = lower_bound(profiles.small(LAYERS, MEGA, tensors), budget, figures)
    assert bound.slow_ns == SLOW_NS
    assert bound.fast_ns <= bound.step_ns <= bound.slow_ns * (1 + 1e-9)
    return bound.step_ns


def test_bound_is_the_fast_step_if_all_fits_and_the_slow_step_if_nothing_does() -> None:
    tensors = [written_then_read(0, 5), variable(1, 2, n=7)]
    saved_ns = BIG * (WRITE_NS + 3 * READ_NS)
    assert bound_ns(tensors, 2 * BIG) == pytest.approx(SLOW_NS - saved_ns)
    assert bound_ns(tensors, 0) == pytest.approx(SLOW_NS)
    assert bound_ns([], BIG) == pytest.approx(SLOW_NS)


def test_a_tensor_may_be_partly_in_fast_memory() -> None:
    assert bound_ns([variable(1, 2, n=7)], BIG // 2, DEAR) == pytest.approx(SLOW_NS - BIG / 2 * 2 * READ_NS)


def test_a_tensor_makes_way_for_another_if_there_is_time() -> None:
    tensors = [written_then_read(0, 5), written_then_read(2, 3)]
    all_saved_ns = 2 * BIG * (WRITE_NS + READ_NS)
    assert bound_ns(tensors, BIG) == pytest.approx(SLOW_NS - all_saved_ns)
    assert bound_ns(tensors, BIG, DEAR) == pytest.approx(SLOW_NS - all_saved_ns / 2, rel=1e-3)


def test_waits_for_migrations_count() -> None:
    """The only time to promote the variables is one operation, and half of them fits into it."""
    page_move_ns = 2e6 / (BIG / profiles.PAGE)
    figures = dataclasses.replace(SIMPLE, page_move_ns=page_move_ns)
    tensors = [written_then_read(0, 2), written_then_read(2, 4)]
    step_ns = bound_ns(tensors, BIG, figures)
    assert SLOW_NS - 2 * BIG * (WRITE_NS + READ_NS) < step_ns < SLOW_NS - BIG * (WRITE_NS + READ_NS)


def test_gap_and_fraction() -> None:
    bound = lower_bound(profiles.small(LAYERS, MEGA, [variable(1, n=7)]), BIG, SIMPLE)
    assert bound.fraction == pytest.approx(1)
    assert bound.gap(1.02 * bound.step_ns) == pytest.approx(0.02)


def schedules(problem: Problem) -> Iterator[Schedule]:
    """All schedules with at most two migrations of each unit that keep the budget."""
    n = len(problem.op_ns)
    choices = [list(_histories(problem, unit, n)) for unit in range(len(problem.units))]
    for histories in itertools.product(*choices):
        moves = sorted((move for _, moves in histories for move in moves), key=lambda m: m.at)
        if all(_occupied(problem, histories, p) <= problem.unit_budget for p in range(n)):
            waits = sorted({move.before for move in moves if move.to == 0})
            yield Schedule(frozenset(u for u, (fast, _) in enumerate(histories) if fast), moves, waits)


def _histories(problem: Problem, unit: int, n: int) -> Iterator[tuple[bool, list[UnitMove]]]:
    ready = int(problem.units.ready[unit])
    spans = [(a, b) for a in range(ready, n) for b in range(a + 1, n + 1)]
    for fast in (False, True):
        yield fast, []
        for a, b in spans:
            first = UnitMove(unit, a, int(fast), b)
            if not problem.units.variable[unit]:
                yield fast, [first]
            for c, d in spans:
                if c >= b:
                    yield fast, [first, UnitMove(unit, c, int(not fast), d)]


def _occupied(problem: Problem, histories: tuple[tuple[bool, list[UnitMove]], ...], position: int) -> int:
    total = 0
    for unit, (fast, moves) in enumerate(histories):
        if not problem.units.birth[unit] <= position < problem.units.death[unit]:
            continue
        node = int(not fast)
        for move in moves:
            if move.at <= position and (move.to == 0 or move.before <= position):
                node = move.to
        total += int(problem.units.size[unit]) * (node == 0)
    return total


@pytest.mark.parametrize("page_move_ns", [1e3, 2e4, 1e5])
@pytest.mark.parametrize("threads", [1, 2])
def test_no_schedule_is_faster(page_move_ns: float, threads: int) -> None:
    """Brute force over a step with a variable and two tensors that do not fit together."""
    figures = dataclasses.replace(SIMPLE, page_move_ns=page_move_ns, migration_cores=threads)
    tensors = [variable(0, 4, n=5), written_then_read(1, 3)]
    step = profiles.small([0, 1, 2, 3, 4], [10**6] * 5, tensors)
    problem = prepare(step, BIG, figures)
    bound = lower_bound(step, BIG, figures)
    times_ns = [predict(problem, schedule).step_ns for schedule in schedules(problem)]
    assert len(times_ns) > 100
    assert bound.step_ns <= min(times_ns) * (1 + 1e-9)
    assert min(times_ns) < problem.costs.slow_ns


@pytest.mark.parametrize("figures", [SIMPLE, OPTANE, CHEAP])
@pytest.mark.parametrize("seed", range(8))
def test_no_plan_is_predicted_to_be_faster(seed: int, figures: Figures) -> None:
    step: Profile = profile_json.parse(profiles.random_value(seed))
    for share in (0.2, 0.6):
        budget = int(share * classify.peak(step))
        bound = lower_bound(step, budget, figures)
        try:
            plan = make_plan(step, budget, figures, spill=True, min_gain=0.0)
        except BudgetError:
            continue
        assert bound.gap(plan.predicted["step_ns"] + 1) >= -1e-9


def test_a_stopped_solver_still_gives_a_bound() -> None:
    step = networks.lstm()
    budget = classify.peak(step) // 5
    best = lower_bound(step, budget, OPTANE)
    early = lower_bound(step, budget, OPTANE, time_limit_s=1e-3)
    assert early.fast_ns <= early.step_ns <= best.step_ns * (1 + 1e-9)
