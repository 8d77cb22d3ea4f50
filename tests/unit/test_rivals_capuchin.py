# SPDX-License-Identifier: Apache-2.0
"""Capuchin's plans: what is swapped, when it is back, and what stays in slow memory."""

from __future__ import annotations

from itertools import pairwise

import pytest

from sentinel.planner.check import check
from sentinel.planner.errors import BudgetError
from sentinel.planner.formats import profile_json
from sentinel.planner.formats.plan import Move, Plan
from sentinel.planner.formats.profile import Profile
from sentinel.planner.memory import classify
from sentinel.planner.problem import prepare
from sentinel.planner.simulate import simulate
from sentinel.rivals import capuchin
from tests.fakes import networks, profiles
from tests.fakes.profiles import BIG, OPTANE, written_then_read

MS = 10**6  # ns


def step_of(tensors: list[dict[str, object]], ns: int = MS) -> Profile:
    """A step of eleven operations, each of which is a layer."""
    return profiles.small(list(range(11)), [ns] * 11, tensors)


def plan_of(step: Profile, budget: int) -> Plan:
    """A plan that is sound, and whose tensors in fast memory are within the budget at every position."""
    plan = capuchin.make_plan(step, budget, OPTANE)
    assert check(step, plan) == []
    memory = simulate(step, plan).memory
    assert (memory["fast"] + memory["reserved"]).max() <= budget
    assert plan.made["policy"] == "capuchin"
    return plan


def moves_of(plan: Plan, tensor: int) -> list[Move]:
    return [move for move in plan.moves if move.offset == plan.tensors[tensor].offset]


# each is used in two operations in a row, and two of them live at any time
BUSY = [written_then_read(p, p + 1) for p in range(1, 8)]


def test_a_tensor_with_a_long_gap_is_moved_and_comes_back_before_its_use() -> None:
    step = step_of([written_then_read(0, 9), *BUSY])
    plan = plan_of(step, 2 * BIG)
    out, back = moves_of(plan, 0)
    assert (out.to, out.at) == (1, 1)
    assert (back.to, back.before) == (0, 9)
    assert out.before <= back.at < back.before
    assert plan.moves == [out, back]  # the tensors without a gap stay
    assert {tensor.node for tensor in plan.tensors} == {0}
    assert (plan.predicted["swaps"], plan.predicted["exposed_ns"]) == (1, 0)
    assert plan.predicted["step_ns"] < plan.predicted["candidates"][0]["step_ns"]  # without migration


def test_nothing_moves_if_everything_fits() -> None:
    step = step_of([written_then_read(0, 9), *BUSY])
    plan = plan_of(step, 3 * BIG)
    assert plan.moves == []
    assert {tensor.node for tensor in plan.tensors} == {0}


def test_the_tensor_with_most_free_time_is_moved() -> None:
    busy = [written_then_read(p, p + 1) for p in (4, 5)]
    step = step_of([written_then_read(1, 8), written_then_read(0, 9), written_then_read(2, 7), *busy])
    swaps = capuchin.find_swaps(prepare(step, 4 * BIG, OPTANE, pool_share=0.0, pieces=1))
    assert [swap.due for swap in swaps] == [9, 8, 7]
    assert [swap.free_ns for swap in swaps] == sorted((swap.free_ns for swap in swaps), reverse=True)
    assert {move.offset for move in plan_of(step, 4 * BIG).moves} == {
        plan_of(step, 4 * BIG).tensors[1].offset
    }


def test_a_gap_that_is_too_short_is_no_swap_and_the_tensor_that_loses_least_stays_in_slow_memory() -> None:
    often = {**written_then_read(0, *range(1, 10)), "reads": 9 * 160}
    step = step_of([written_then_read(0, 9), *BUSY, often], ns=8_000)
    assert capuchin.find_swaps(prepare(step, 3 * BIG, OPTANE, pool_share=0.0, pieces=1)) == []
    plan = plan_of(step, 3 * BIG)
    assert plan.moves == []
    assert plan.tensors[0].node == 1
    assert plan.tensors[-1].node == 0


def test_a_prefetch_that_is_late_begins_earlier_in_the_next_step() -> None:
    """Two tensors are due at once, and there is time for one between their in-triggers and the access."""
    busy = [written_then_read(p, p + 1) for p in range(3, 5)]
    step = step_of([written_then_read(0, 9), written_then_read(1, 9), *busy], ns=100_000)
    problem = prepare(step, 2 * BIG, OPTANE, pool_share=0.0, pieces=1)
    swaps = capuchin.find_swaps(problem)
    assert [swap.trigger for swap in swaps] == [8, 8]
    plan = plan_of(step, 2 * BIG)
    back = [move for move in plan.moves if move.to == 0]
    assert [(move.at, move.before) for move in back] == [(7, 9), (8, 9)]
    assert plan.predicted["exposed_ns"] == 0
    assert plan.predicted["feedback_steps"] > 1


def test_variables_are_moved_between_accesses_and_end_where_they_began() -> None:
    step = step_of([profiles.variable(0, 9, n=11), *BUSY])
    plan = plan_of(step, 2 * BIG)
    assert [(move.tensor, move.to) for move in plan.moves] == [(0, 1), (0, 0)]


def test_tensors_that_may_be_born_at_any_time_do_not_move() -> None:
    """Operations without inputs make them. They share pages, though they have different layers."""
    floating = [written_then_read(40, 58, size=BIG // 8), written_then_read(50, 59, size=BIG // 8)]
    chain = [p for p in range(1, 57) if p not in (40, 50)]
    busy = [written_then_read(p, after) for p, after in pairwise(chain)]
    step = profiles.small(list(range(61)), [MS] * 61, [written_then_read(0, 57), *floating, *busy])
    plan = plan_of(step, 2 * BIG + BIG // 4)
    assert len(moves_of(plan, 0)) == 2
    assert not moves_of(plan, 1)
    assert {tensor.node for tensor in plan.tensors} == {0}


@pytest.mark.parametrize("share", [0.1, 0.3, 0.6])
def test_networks_are_planned_within_the_budget(share: float) -> None:
    step = networks.resnet(blocks=2)
    plan = plan_of(step, int(share * classify.peak(step)))
    assert plan.predicted["swaps"] > 0
    assert plan.predicted["fast_ns"] <= plan.predicted["step_ns"] < plan.predicted["slow_ns"]


@pytest.mark.parametrize("seed", range(40))
def test_plans_of_random_steps_are_sound(seed: int) -> None:
    step = profile_json.parse(profiles.random_value(seed))
    planned = 0
    for share in (0.2, 0.5, 0.9):
        try:
            plan_of(step, int(share * classify.peak(step)))
            planned += 1
        except BudgetError as e:
            assert e.floor is not None
            assert e.floor <= 16 * step.page_bytes  # a budget of a few pages
    assert planned or classify.peak(step) < 20 * 16 * step.page_bytes
