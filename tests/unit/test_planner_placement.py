# SPDX-License-Identifier: Apache-2.0
"""Addresses for tensors that never migrate, and placements of schedules."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.planner.formats import profile_json
from sentinel.planner.formats.figures import Figures, Memory
from sentinel.planner.memory.classify import LONG, VARIABLES
from sentinel.planner.moves import Schedule, UnitMove
from sentinel.planner.placement.layout import ORDERS, Layout, first_fit, lay_out
from sentinel.planner.placement.place import place
from sentinel.planner.problem import Problem, prepare
from sentinel.planner.search import make_plan
from tests.fakes import profiles

PAGE = profiles.PAGE
SIMPLE = Figures(nodes=(Memory(1, 1, 0.5), Memory(1, 0.25, 0.1)), cache_bytes=0, page_move_ns=1000)
OP_NS = 10**9  # long enough not to limit any savings


def tensor(pages: float, birth: int, death: int, reads: int = 1) -> dict[str, Any]:
    """A tensor written at its birth and read `reads` times by the last operation of its lifetime."""
    uses = [[birth, 0, 1], [death - 1, 1, 0]] if death > birth + 1 else [[birth, 1, 1]]
    size = int(pages * PAGE)
    return {"size": size, "birth": birth, "death": death, "uses": uses, "reads": reads * -(-size // PAGE)}


def problem_of(n: int, tensors: list[dict[str, Any]], budget: int = 1 << 30) -> Problem:
    return prepare(profiles.small([0] * n, [OP_NS] * n, tensors), budget, SIMPLE, pool_share=0.0)


def laid_out(n: int, limit: int, *tensors: dict[str, Any]) -> Layout:
    problem = problem_of(n, list(tensors))
    return lay_out(problem, np.ones(len(tensors), dtype=bool), limit * PAGE)


def test_hottest_tensors_lie_below_the_limit() -> None:
    result = laid_out(2, 4, tensor(2, 0, 2, 1), tensor(2, 0, 2, 9), tensor(2, 0, 2, 5), tensor(3, 0, 2, 7))
    assert (result.offset // PAGE).tolist() == [5, 0, 7, 2]
    assert result.fast_share.tolist() == pytest.approx([0, 1, 0, 2 / 3])
    assert (result.fast_bytes, result.size) == (4 * PAGE, 9 * PAGE)


def test_disjoint_lifetimes_share_addresses() -> None:
    result = laid_out(4, 2, tensor(2, 0, 2, 9), tensor(2, 2, 4, 8), tensor(2, 1, 3, 7), tensor(1, 3, 4, 6))
    assert (result.offset // PAGE).tolist() == [0, 0, 2, 2]
    assert result.fast_share.tolist() == [1, 1, 0, 0]


def test_small_tensors_share_pages() -> None:
    result = laid_out(2, 1, tensor(0.01, 0, 2), tensor(0.02, 0, 2, 9))
    assert result.offset.tolist() == [128, 0]
    assert result.fast_bytes == PAGE


def test_untouched_ends_lie_beyond_the_limit() -> None:
    """Two of ten pages are touched; one tensor lives at the same time, one before."""
    scratch = {**tensor(10, 1, 2, 9), "touched": 2 * PAGE}
    result = laid_out(2, 4, scratch, tensor(2, 0, 2, 5), tensor(2, 0, 1, 5))
    assert (result.offset // PAGE).tolist() == [2, 0, 2]
    assert result.fast_share.tolist() == [1, 1, 1]
    assert result.fast_bytes == 4 * PAGE
    crowded = laid_out(2, 3, scratch, tensor(3, 0, 2, 5))
    assert (crowded.offset // PAGE).tolist() == [1, 11]  # the untouched end blocks the crossing
    crossing = laid_out(2, 3, {**scratch, "reads": 2, "writes": 2}, tensor(2, 0, 2, 5))
    assert (crossing.offset // PAGE).tolist() == [2, 0]
    assert crossing.fast_share.tolist() == [0.5, 1]


def test_variables_use_the_budget_but_no_addresses() -> None:
    variable = {"size": 2 * PAGE, "birth": -1, "death": 2, "uses": [[0, 1, 0]], "reads": 18}
    result = laid_out(2, 3, variable, tensor(2, 0, 2, 1))
    assert result.fast_share.tolist() == [1, 0.5]
    assert result.fast_bytes == PAGE
    assert result.size == 4 * PAGE
    assert laid_out(2, 1, variable, tensor(1, 0, 2, 1)).fast_share.tolist() == [0, 1]  # whole or not at all


def test_first_fit_in_birth_order() -> None:
    sizes, births, deaths = ([2, 1, 2, 1, 3], [0, 0, 1, 2, 3], [2, 4, 3, 4, 5])
    assert first_fit(*(np.array(x) for x in (sizes, births, deaths))).tolist() == [0, 2, 3, 0, 3]


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 40), st.sampled_from(ORDERS))
def test_live_tensors_do_not_overlap(seed: int, limit: int, order: Any) -> None:
    step = profile_json.parse(profiles.random_value(seed))
    problem = prepare(step, 1 << 40, SIMPLE)
    included = (problem.classes == LONG) | (problem.classes == VARIABLES)
    result = lay_out(problem, included, limit * PAGE, order)
    t = step.tensors
    rows = [
        (offset, offset + int(t.size[i]), max(0, int(t.birth[i])), int(t.death[i]))
        for i, offset in zip(result.tensors.tolist(), result.offset.tolist(), strict=True)
        if problem.classes[i] != VARIABLES or result.fast_share[list(result.tensors).index(i)]
    ]
    for k, (begin, end, born, dead) in enumerate(rows):
        for other_begin, other_end, other_born, other_dead in rows[:k]:
            assert end <= other_begin or other_end <= begin or dead <= other_born or other_dead <= born
    fast_variables = (problem.classes[result.tensors] == VARIABLES) & (result.fast_share == 1)
    variable_bytes = int((-(-t.size[result.tensors[fast_variables]] // PAGE) * PAGE).sum())
    assert result.fast_bytes + variable_bytes <= limit * PAGE
    assert set(np.unique(result.fast_share[problem.classes[result.tensors] == VARIABLES])) <= {0, 1}


def test_migrating_units_have_their_own_pages() -> None:
    big = 16
    problem = problem_of(7, [tensor(big, 0, 6), tensor(big, 2, 4), tensor(big, 0, 6, 5)], 3 * big * PAGE)
    schedule = Schedule(frozenset({0, 1, 2}), [UnitMove(0, 1, 1, 2), UnitMove(0, 4, 0, 5)], [5])
    shared = place(problem, schedule, np.ones(3, dtype=bool))
    assert shared is not None
    assert shared.own.tolist() == [True, False, False]
    assert (shared.layout.fast_limit, shared.moved_bytes) == (2 * big * PAGE, 2 * big * PAGE)
    separate = place(problem, schedule, np.zeros(3, dtype=bool))
    assert separate is not None
    assert separate.own.tolist() == [True] * 3
    assert separate.keep.tolist() == [False] * 3
    assert separate.layout.fast_limit == big * PAGE
    # the difference is the cost of new pages in every step
    assert separate.timeline.step_ns - shared.timeline.step_ns == pytest.approx(2 * big * PAGE * 2)


def test_schedule_beyond_the_budget_has_no_placement() -> None:
    problem = problem_of(3, [tensor(16, 0, 2), tensor(16, 0, 2)], 16 * PAGE)
    both = Schedule(frozenset({0, 1}), [], [])
    assert place(problem, both, np.zeros(2, dtype=bool)) is None
    assert place(problem, both, np.ones(2, dtype=bool)) is not None


@pytest.mark.parametrize(("ns", "moves"), [(10**6, True), (10**8, False)])
def test_migrations_below_the_minimum_gain_are_dropped(ns: int, moves: bool) -> None:
    """A makes way for B and returns. The saving is the same in ns, but not as a share of the step."""
    big = [tensor(16, 0, 6), tensor(16, 2, 4)]
    plan = make_plan(profiles.small([0, 0, 1, 2, 2, 3, 3], [ns] * 7, big), 16 * PAGE, SIMPLE)
    assert bool(plan.moves) is moves
