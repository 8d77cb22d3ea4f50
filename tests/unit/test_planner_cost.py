# SPDX-License-Identifier: Apache-2.0
"""What fast memory saves and moves cost, against sums done by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.planner.errors import PlannerError
from sentinel.planner.formats import profile
from sentinel.planner.formats.figures import Figures, Memory
from sentinel.planner.schedule.scheduler import UnitMove
from sentinel.planner.timing.cost import costs
from sentinel.planner.timing.replay import contention, replay
from tests.fakes import profiles

# a byte read takes 1 and 4 ns, a byte written 2 and 10; nothing is bound by latency, and there is no cache
FIGURES = Figures(nodes=(Memory(1, 1, 0.5), Memory(1, 0.25, 0.1)), cache=0)
SIZE = 8192


def gains(profile: profile.Profile, figures: Figures = FIGURES) -> list[float]:
    return costs(profile, figures).gain.tolist()  # type: ignore[no-any-return]


def test_a_byte_costs_latency_or_bandwidth() -> None:
    figures = Figures(nodes=(Memory(100, 105, 85), Memory(305, 39.4, 13.9)), line=64)
    assert figures.read_ns(1, 240) == pytest.approx(1 / 39.4)  # 305 ns / 240 are shorter than a line's share
    assert figures.read_ns(1, 10) == pytest.approx(305 / 640)
    assert figures.write_ns(1) == pytest.approx(1 / 13.9)
    assert figures.move_ns(0, 4096) == pytest.approx(1500 + 4096 * 305 / 640)
    assert figures.move_ns(1, 4096) == pytest.approx(1500 + 4096 * 100 / 640)


def test_a_use_saves_what_its_bytes_do() -> None:
    made = profiles.small(
        [0, 0],
        [10**6] * 2,
        [{"size": SIZE, "birth": 0, "death": 2, "uses": [[0, 0, 1], [1, 1, 0]], "reads": 2, "writes": 2}],
    )
    assert gains(made) == [SIZE * 8.0, SIZE * 3.0]
    assert costs(made, FIGURES).slow_ns == 2e6
    assert costs(made, FIGURES).fast_ns == 2e6 - SIZE * 11


def test_what_is_slow_memorys_shrinks_with_what_is_saved() -> None:
    made = profiles.small(
        [0, 0],
        [10**6] * 2,
        [{"size": SIZE, "birth": 0, "death": 2, "uses": [[0, 0, 1], [1, 1, 0]], "reads": 2, "writes": 2}],
    )
    cost = costs(made, FIGURES)
    assert cost.saved.tolist() == [SIZE * 8.0, SIZE * 3.0]
    assert cost.at_slow(cost.slot).tolist() == [SIZE * 10.0, SIZE * 4.0]
    assert cost.at_slow(cost.slot - cost.saved / 2).tolist() == [SIZE * 5.0, SIZE * 2.0]
    assert cost.at_slow(cost.slot - cost.saved).tolist() == [0.0, 0.0]


def test_copies_take_slow_memorys_time_from_who_is_there() -> None:
    """A byte that is demoted takes 10 ns of it, one that is promoted 4; operations of 100 ns."""
    slot, at_slow = np.full(4, 100.0), np.array([100.0, 50.0, 0.0, 20.0])
    size = np.array([8, 16])

    def lost(*moves: tuple[int, int, int, int]) -> list[float]:
        found = contention(at_slow, slot, [UnitMove(*move) for move in moves], size, FIGURES)
        return found.tolist()  # type: ignore[no-any-return]

    assert lost() == [0.0] * 4
    assert lost((0, 0, 1, 1)) == [80.0, 0.0, 0.0, 0.0]  # beside one that is there all the time
    assert lost((0, 2, 1, 3)) == [0.0] * 4  # beside one that is not
    assert lost((1, 1, 0, 3)) == [0.0, 64 * 0.25, 0.0, 0.0]
    assert lost((1, 0, 1, 2), (0, 0, 1, 4)) == [160 * 0.75 + 80 * 0.425, 0.0, 0.0, 0.0]
    assert lost((0, -1, 0, 1), (0, 3, 1, 4)) == [32.0, 0.0, 0.0, 16.0]  # from the step before; to its end
    assert contention(np.zeros(1), np.zeros(1), [UnitMove(0, 0, 1, 1)], size, FIGURES).tolist() == [0.0]


@pytest.mark.parametrize(("reads", "passes"), [(0, 0.0), (1, 0.25), (4, 1.0), (12, 3.0)])
def test_accesses_say_how_often_a_tensor_was_gone_through(reads: int, passes: float) -> None:
    """Two uses of two pages: four accesses are once each, if each had as many."""
    tensor = {"size": SIZE, "birth": 0, "death": 3, "uses": [[1, 1, 0], [2, 1, 0]], "reads": reads}
    made = profiles.small([0] * 3, [10**6] * 3, [tensor])
    assert gains(made) == [SIZE * 3 * passes] * 2
    fits = dataclasses.replace(FIGURES, cache=SIZE)
    assert gains(made, fits)[0] == SIZE * 3 * min(1, passes)


def test_accesses_are_those_of_the_operation_in_which_they_were_counted() -> None:
    tensor = {"size": SIZE, "birth": 0, "death": 3, "uses": [[1, 2, 0], [2, 6, 0]], "reads": 8}
    made = profiles.small([0] * 3, [10**6] * 3, [tensor])
    assert gains(made) == [SIZE * 3, SIZE * 3 * 3]


def test_what_was_made_just_now_is_in_the_cache() -> None:
    tensor = {"size": SIZE, "birth": 0, "death": 1, "uses": [[0, 1, 1]]}
    made = profiles.small([0], [10**6], [tensor])
    assert gains(made) == [SIZE * 11.0]
    assert gains(made, dataclasses.replace(FIGURES, cache=SIZE)) == [SIZE * 8.0]


def test_what_was_just_touched_is_in_the_cache() -> None:
    uses = [[0, 1, 0], [1, 1, 0], [3, 1, 0]]
    made = profiles.small(
        [0] * 4,
        [10**6] * 4,
        [
            {"size": SIZE, "birth": 0, "death": 4, "uses": uses},
            {"size": SIZE, "birth": 2, "death": 3, "uses": [[2, 1, 0]]},
        ],
    )
    for cache, expected in ((0, [3, 3, 3]), (SIZE, [0, 0, 3]), (2 * SIZE, [0, 0, 0])):
        found = gains(made, dataclasses.replace(FIGURES, cache=cache))
        assert found[:3] == [SIZE * ns for ns in expected]


def test_memory_takes_no_longer_than_the_operation() -> None:
    """4 ns a byte would be 32768 ns; in an operation of 8192 ns a quarter of it is believed."""
    made = profiles.small([0], [8192], [{"size": SIZE, "birth": 0, "death": 1, "uses": [[0, 1, 0]]}])
    cost = costs(made, FIGURES)
    assert cost.memory.tolist() == [8192]
    assert cost.gain.tolist() == [SIZE * 3 / 4]
    assert cost.fast_ns == 2048


def test_gaps_belong_to_the_operation_before_and_are_no_memory() -> None:
    value = profiles.value([0, 0], [10, 10], [{"size": SIZE, "birth": 0, "death": 1, "uses": [[0, 1, 0]]}])
    value["ops"].update(begin_ns=[1000, 1500], end_ns=[1010, 1600])
    value["step_ns"] = 1600  # of which 1000 are before anything began
    cost = costs(profile.parse(value), FIGURES)
    assert cost.slot.tolist() == [500, 100]
    assert cost.lead == 1000
    assert cost.memory.tolist() == [10, 0]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6))
def test_a_step_is_never_faster_than_its_computing(seed: int) -> None:
    made = profile.parse(profiles.random_value(seed))
    cost = costs(made, FIGURES)
    assert (cost.gain >= 0).all()
    assert (cost.memory <= cost.slot * (1 + 1e-9)).all()
    assert cost.slow_ns >= cost.fast_ns >= cost.slow_ns - cost.memory.sum() - 1e-6


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.3, 1))
def test_a_known_time_in_fast_memory_is_met(seed: int, share: float) -> None:
    made = profile.parse(profiles.random_value(seed))
    free = costs(made, FIGURES)
    most = free.slow_ns - costs(made, FIGURES, 0.0).fast_ns  # what a factor can explain at all
    target = free.slow_ns - share * most
    assert costs(made, FIGURES, target).fast_ns == pytest.approx(target, rel=1e-6, abs=1e-6 * free.slow_ns)
    assert (costs(made, FIGURES, target).gain == free.gain).all()


def test_a_second_node_that_is_faster_costs_no_negative_time() -> None:
    made = profiles.small([0], [10], [{"size": SIZE, "birth": 0, "death": 1, "uses": [[0, 0, 1]]}])
    cost = costs(made, dataclasses.replace(FIGURES, nodes=FIGURES.nodes[::-1]), 1.0)
    assert cost.slot.tolist() == [0]
    assert cost.fast_ns > cost.slow_ns == 0


@pytest.mark.parametrize("ns", [float("nan"), float("inf"), -1.0])
def test_a_time_in_fast_memory_that_is_none_is_refused(ns: float) -> None:
    with pytest.raises(PlannerError, match="fast_step_ns: must be a number from 0 to 2"):
        costs(profiles.small([0], [10], []), FIGURES, ns)


def test_a_step_of_centuries_is_refused() -> None:
    tensor = {"size": SIZE, "birth": 0, "death": 1, "uses": [[0, 0, 1]], "writes": 1 << 60}
    with pytest.raises(PlannerError, match=r"estimated to take .* the profile's accesses or the machine's"):
        costs(profiles.small([0], [10], [tensor]), FIGURES, 10.0)


def times(
    moves: list[tuple[int, int, int, float]], waits: list[int], *, helpers: int = 1
) -> tuple[list[float], dict[int, float], list[tuple[float, float]], list[int]]:
    """Four operations of 10 ns; moves are (at, to, before, ns)."""
    given = [UnitMove(i, at, to, before) for i, (at, to, before, _) in enumerate(moves)]
    figures = dataclasses.replace(FIGURES, helpers=helpers)
    found = replay(np.full(4, 10.0), 5.0, given, [ns for *_, ns in moves], waits, figures)
    return found.begin.tolist(), found.exposed, found.spans, found.late


def test_moves_in_time_cost_nothing() -> None:
    begin, exposed, spans, late = times([(0, 0, 1, 10), (1, 1, 3, 12)], [1])
    assert begin == [5, 15, 25, 35, 45]
    assert (exposed, spans, late) == ({}, [(5, 15), (15, 27)], [])


def test_promotions_are_waited_for_and_shift_what_follows() -> None:
    begin, exposed, spans, late = times([(0, 0, 1, 14), (1, 0, 2, 13)], [1, 2])
    assert exposed == {1: 4, 2: 3}
    assert begin == [5, 19, 32, 42, 52]
    assert (spans, late) == ([(5, 19), (19, 32)], [])


def test_a_helper_does_one_after_the_other_and_two_do_not() -> None:
    moves = [(0, 1, 1, 8.0), (0, 0, 1, 8.0)]
    assert times(moves, [1])[1] == {1: 6}
    assert times(moves, [1], helpers=2)[1] == {}


def test_demotions_are_not_waited_for_but_told() -> None:
    begin, exposed, _, late = times([(0, 1, 1, 14)], [1])
    assert (begin[1], exposed, late) == (15, {}, [0])
