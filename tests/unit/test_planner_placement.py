# SPDX-License-Identifier: Apache-2.0
"""Addresses for what never moves, and plans with them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.planner.formats import profile
from sentinel.planner.formats.figures import Figures, Memory
from sentinel.planner.memory.classify import LONG, VARIABLES
from sentinel.planner.placement.layout import ORDERS, Layout, in_time, layout
from sentinel.planner.placement.place import place
from sentinel.planner.problem import Problem, prepare
from sentinel.planner.schedule.scheduler import Schedule, UnitMove
from sentinel.planner.search import make
from tests.fakes import profiles

PAGE = profiles.PAGE
SIMPLE = Figures(nodes=(Memory(1, 1, 0.5), Memory(1, 0.25, 0.1)), cache=0, page=1000)
SLOT = 10**9  # ns: nothing here is bound by it


def tensor(pages: float, birth: int, death: int, reads: int = 1) -> dict[str, Any]:
    """Written at its birth, read as often as `reads` says in the last operation of its life."""
    uses = [[birth, 0, 1], [death - 1, 1, 0]] if death > birth + 1 else [[birth, 1, 1]]
    size = int(pages * PAGE)
    return {"size": size, "birth": birth, "death": death, "uses": uses, "reads": reads * -(-size // PAGE)}


def problem_of(n: int, tensors: list[dict[str, Any]], budget: int = 1 << 30) -> Problem:
    return prepare(profiles.small([0] * n, [SLOT] * n, tensors), budget, SIMPLE, spill=0.0)


def laid_out(n: int, limit: int, *tensors: dict[str, Any]) -> Layout:
    problem = problem_of(n, list(tensors))
    return layout(problem, np.ones(len(tensors), dtype=bool), limit * PAGE)


def test_the_hottest_are_below_the_limit_and_one_crosses_it() -> None:
    made = laid_out(2, 4, tensor(2, 0, 2, 1), tensor(2, 0, 2, 9), tensor(2, 0, 2, 5), tensor(3, 0, 2, 7))
    assert (made.offset // PAGE).tolist() == [5, 0, 7, 2]
    assert made.fast.tolist() == pytest.approx([0, 1, 0, 2 / 3])
    assert (made.fast_bytes, made.size) == (4 * PAGE, 9 * PAGE)


def test_what_does_not_live_at_once_shares_addresses() -> None:
    made = laid_out(4, 2, tensor(2, 0, 2, 9), tensor(2, 2, 4, 8), tensor(2, 1, 3, 7), tensor(1, 3, 4, 6))
    assert (made.offset // PAGE).tolist() == [0, 0, 2, 2]
    assert made.fast.tolist() == [1, 1, 0, 0]


def test_small_ones_share_pages() -> None:
    made = laid_out(2, 1, tensor(0.01, 0, 2), tensor(0.02, 0, 2, 9))
    assert made.offset.tolist() == [128, 0]
    assert made.fast_bytes == PAGE


def test_untouched_ends_are_beyond_the_limit() -> None:
    """Two of ten pages are touched; another tensor lives at the same time, and one before."""
    scratch = {**tensor(10, 1, 2, 9), "touched": 2 * PAGE}
    made = laid_out(2, 4, scratch, tensor(2, 0, 2, 5), tensor(2, 0, 1, 5))
    assert (made.offset // PAGE).tolist() == [2, 0, 2]
    assert made.fast.tolist() == [1, 1, 1]
    assert made.fast_bytes == 4 * PAGE
    crowded = laid_out(2, 3, scratch, tensor(3, 0, 2, 5))
    assert (crowded.offset // PAGE).tolist() == [1, 11]  # the end is in the way of crossing
    crossing = laid_out(2, 3, {**scratch, "reads": 2, "writes": 2}, tensor(2, 0, 2, 5))
    assert (crossing.offset // PAGE).tolist() == [2, 0]
    assert crossing.fast.tolist() == [0.5, 1]


def test_variables_take_room_and_no_addresses() -> None:
    variable = {"size": 2 * PAGE, "birth": -1, "death": 2, "uses": [[0, 1, 0]], "reads": 18}
    made = laid_out(2, 3, variable, tensor(2, 0, 2, 1))
    assert made.fast.tolist() == [1, 0.5]
    assert made.fast_bytes == PAGE
    assert made.size == 4 * PAGE
    assert laid_out(2, 1, variable, tensor(1, 0, 2, 1)).fast.tolist() == [0, 1]  # all of it, or nothing


def test_in_time_as_an_allocator() -> None:
    sizes, births, deaths = ([2, 1, 2, 1, 3], [0, 0, 1, 2, 3], [2, 4, 3, 4, 5])
    assert in_time(*(np.array(x) for x in (sizes, births, deaths))).tolist() == [0, 2, 3, 0, 3]


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 40), st.sampled_from(ORDERS))
def test_nothing_overlaps_while_it_lives(seed: int, limit: int, order: Any) -> None:
    made = profile.parse(profiles.random_value(seed))
    problem = prepare(made, 1 << 40, SIMPLE)
    chosen = (problem.classes == LONG) | (problem.classes == VARIABLES)
    found = layout(problem, chosen, limit * PAGE, order)
    t = made.tensors
    rows = [
        (offset, offset + int(t.size[i]), max(0, int(t.birth[i])), int(t.death[i]))
        for i, offset in zip(found.tensors.tolist(), found.offset.tolist(), strict=True)
        if problem.classes[i] != VARIABLES or found.fast[list(found.tensors).index(i)]
    ]
    for k, (begin, end, born, dead) in enumerate(rows):
        for other_begin, other_end, other_born, other_dead in rows[:k]:
            assert end <= other_begin or other_end <= begin or dead <= other_born or other_dead <= born
    fast = (problem.classes[found.tensors] == VARIABLES) & (found.fast == 1)
    variables = int((-(-t.size[found.tensors[fast]] // PAGE) * PAGE).sum())
    assert found.fast_bytes + variables <= limit * PAGE
    assert set(np.unique(found.fast[problem.classes[found.tensors] == VARIABLES])) <= {0, 1}


def test_what_moves_has_its_own_pages_and_the_rest_what_that_leaves() -> None:
    big = 16
    problem = problem_of(7, [tensor(big, 0, 6), tensor(big, 2, 4), tensor(big, 0, 6, 5)], 3 * big * PAGE)
    away = Schedule(frozenset({0, 1, 2}), [UnitMove(0, 1, 1, 2), UnitMove(0, 4, 0, 5)], [5])
    shared = place(problem, away, np.ones(3, dtype=bool))
    assert shared is not None
    assert shared.own.tolist() == [True, False, False]
    assert (shared.fixed.limit, shared.moved_bytes) == (2 * big * PAGE, 2 * big * PAGE)
    alone = place(problem, away, np.zeros(3, dtype=bool))
    assert alone is not None
    assert alone.own.tolist() == [True] * 3
    assert alone.keep.tolist() == [False] * 3
    assert alone.fixed.limit == big * PAGE
    # the same placement, but for new pages in every step
    assert alone.timeline.step_ns - shared.timeline.step_ns == pytest.approx(2 * big * PAGE * 2)


def test_a_schedule_that_takes_more_than_there_is_has_no_place() -> None:
    problem = problem_of(3, [tensor(16, 0, 2), tensor(16, 0, 2)], 16 * PAGE)
    both = Schedule(frozenset({0, 1}), [], [])
    assert place(problem, both, np.zeros(2, dtype=bool)) is None
    assert place(problem, both, np.ones(2, dtype=bool)) is not None


@pytest.mark.parametrize(("ns", "moves"), [(10**6, True), (10**8, False)])
def test_moves_that_save_little_of_the_step_are_not_made(ns: int, moves: bool) -> None:
    """A leaves for B and comes back: that saves as much in a long step as in a short one."""
    big = [tensor(16, 0, 6), tensor(16, 2, 4)]
    made = make(profiles.small([0, 0, 1, 2, 2, 3, 3], [ns] * 7, big), 16 * PAGE, SIMPLE)
    assert bool(made.moves) is moves
