# SPDX-License-Identifier: Apache-2.0
"""The cost model and the timeline, against sums done by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.planner.errors import FormatError, PlannerError
from sentinel.planner.fast_times import with_fast_times
from sentinel.planner.formats import profile, profile_json
from sentinel.planner.formats.figures import Figures, Memory
from sentinel.planner.moves import UnitMove
from sentinel.planner.timing.cost import estimate_costs
from sentinel.planner.timing.timeline import contention, replay
from tests.fakes import profiles

# 1 and 4 ns to read a byte, 2 and 10 to write one; bandwidth bounds everything, and there is no cache
FIGURES = Figures(nodes=(Memory(1, 1, 0.5), Memory(1, 0.25, 0.1)), cache_bytes=0)
SIZE = 8192


def saved_ns(profile: profile.Profile, figures: Figures = FIGURES) -> list[float]:
    return estimate_costs(profile, figures).saved_ns.tolist()  # type: ignore[no-any-return]


def test_a_byte_costs_latency_or_bandwidth() -> None:
    figures = Figures(nodes=(Memory(100, 105, 85), Memory(305, 39.4, 13.9)), line_bytes=64)
    assert figures.read_ns(1, 240) == pytest.approx(1 / 39.4)  # bandwidth: 305 ns / 240 is less
    assert figures.read_ns(1, 10) == pytest.approx(305 / 640)
    assert figures.write_ns(1) == pytest.approx(1 / 13.9)
    assert figures.migration_ns(0, 4096) == pytest.approx(1500 + 4096 * 305 / 640)
    assert figures.migration_ns(1, 4096) == pytest.approx(1500 + 4096 * 100 / 640)


def test_use_saves_difference_between_nodes() -> None:
    step = profiles.small(
        [0, 0],
        [10**6] * 2,
        [{"size": SIZE, "birth": 0, "death": 2, "uses": [[0, 0, 1], [1, 1, 0]], "reads": 2, "writes": 2}],
    )
    assert saved_ns(step) == [SIZE * 8.0, SIZE * 3.0]
    assert estimate_costs(step, FIGURES).slow_ns == 2e6
    assert estimate_costs(step, FIGURES).fast_ns == 2e6 - SIZE * 11


def test_slow_memory_time_shrinks_with_savings() -> None:
    step = profiles.small(
        [0, 0],
        [10**6] * 2,
        [{"size": SIZE, "birth": 0, "death": 2, "uses": [[0, 0, 1], [1, 1, 0]], "reads": 2, "writes": 2}],
    )
    costs = estimate_costs(step, FIGURES)
    assert costs.op_saved_ns.tolist() == [SIZE * 8.0, SIZE * 3.0]
    assert costs.remaining_slow_memory_ns(costs.op_ns).tolist() == [SIZE * 10.0, SIZE * 4.0]
    assert costs.remaining_slow_memory_ns(costs.op_ns - costs.op_saved_ns / 2).tolist() == [
        SIZE * 5.0,
        SIZE * 2.0,
    ]
    assert costs.remaining_slow_memory_ns(costs.op_ns - costs.op_saved_ns).tolist() == [0.0, 0.0]


def test_copies_delay_operations_in_slow_memory() -> None:
    """Each demoted byte occupies slow memory for 10 ns, each promoted byte for 4; operations take 100 ns."""
    op_ns, slow_memory_ns = np.full(4, 100.0), np.array([100.0, 50.0, 0.0, 20.0])
    size = np.array([8, 16])

    def lost(*moves: tuple[int, int, int, int]) -> list[float]:
        lost_ns = contention(slow_memory_ns, op_ns, [UnitMove(*move) for move in moves], size, FIGURES)
        return lost_ns.tolist()  # type: ignore[no-any-return]

    assert lost() == [0.0] * 4
    assert lost((0, 0, 1, 1)) == [80.0, 0.0, 0.0, 0.0]  # an operation that is always in slow memory
    assert lost((0, 2, 1, 3)) == [0.0] * 4  # one that is never there
    assert lost((1, 1, 0, 3)) == [0.0, 64 * 0.25, 0.0, 0.0]
    assert lost((1, 0, 1, 2), (0, 0, 1, 4)) == [160 * 0.75 + 80 * 0.425, 0.0, 0.0, 0.0]
    assert lost((0, -1, 0, 1), (0, 3, 1, 4)) == [32.0, 0.0, 0.0, 16.0]  # before the step, and until its end
    assert contention(np.zeros(1), np.zeros(1), [UnitMove(0, 0, 1, 1)], size, FIGURES).tolist() == [0.0]


@pytest.mark.parametrize(("reads", "passes"), [(0, 0.0), (1, 0.25), (4, 1.0), (12, 3.0)])
def test_accesses_determine_passes_over_a_tensor(reads: int, passes: float) -> None:
    """Two uses of two pages: four accesses are one pass per use."""
    tensor = {"size": SIZE, "birth": 0, "death": 3, "uses": [[1, 1, 0], [2, 1, 0]], "reads": reads}
    step = profiles.small([0] * 3, [10**6] * 3, [tensor])
    assert saved_ns(step) == [SIZE * 3 * passes] * 2
    fits = dataclasses.replace(FIGURES, cache_bytes=SIZE)
    assert saved_ns(step, fits)[0] == SIZE * 3 * min(1, passes)


def test_accesses_belong_to_the_operation_that_made_them() -> None:
    tensor = {"size": SIZE, "birth": 0, "death": 3, "uses": [[1, 2, 0], [2, 6, 0]], "reads": 8}
    step = profiles.small([0] * 3, [10**6] * 3, [tensor])
    assert saved_ns(step) == [SIZE * 3, SIZE * 3 * 3]


def test_reads_of_own_results_hit_the_cache() -> None:
    tensor = {"size": SIZE, "birth": 0, "death": 1, "uses": [[0, 1, 1]]}
    step = profiles.small([0], [10**6], [tensor])
    assert saved_ns(step) == [SIZE * 11.0]
    assert saved_ns(step, dataclasses.replace(FIGURES, cache_bytes=SIZE)) == [SIZE * 8.0]


def test_reads_within_the_reuse_distance_hit_the_cache() -> None:
    uses = [[0, 1, 0], [1, 1, 0], [3, 1, 0]]
    step = profiles.small(
        [0] * 4,
        [10**6] * 4,
        [
            {"size": SIZE, "birth": 0, "death": 4, "uses": uses},
            {"size": SIZE, "birth": 2, "death": 3, "uses": [[2, 1, 0]]},
        ],
    )
    for cache, expected in ((0, [3, 3, 3]), (SIZE, [0, 0, 3]), (2 * SIZE, [0, 0, 0])):
        saved = saved_ns(step, dataclasses.replace(FIGURES, cache_bytes=cache))
        assert saved[:3] == [SIZE * ns for ns in expected]


def test_reads_take_no_longer_than_the_operation() -> None:
    """4 ns per byte would be 32768 ns: in an operation of 8192 ns they count as a quarter."""
    step = profiles.small([0], [8192], [{"size": SIZE, "birth": 0, "death": 1, "uses": [[0, 1, 0]]}])
    costs = estimate_costs(step, FIGURES)
    assert costs.slow_memory_ns.tolist() == [8192]
    assert costs.saved_ns.tolist() == [SIZE * 3 / 4]
    assert costs.fast_ns == 2048


def test_gaps_belong_to_the_previous_operation_but_not_to_memory() -> None:
    value = profiles.value([0, 0], [10, 10], [{"size": SIZE, "birth": 0, "death": 1, "uses": [[0, 1, 0]]}])
    value["ops"].update(begin_ns=[1000, 1500], end_ns=[1010, 1600])
    value["step_ns"] = 1600  # of which 1000 are the prologue
    costs = estimate_costs(profile_json.parse(value), FIGURES)
    assert costs.op_ns.tolist() == [500, 100]
    assert costs.prologue_ns == 1000
    assert costs.slow_memory_ns.tolist() == [10, 0]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6))
def test_step_is_never_faster_than_its_compute_time(seed: int) -> None:
    step = profile_json.parse(profiles.random_value(seed))
    costs = estimate_costs(step, FIGURES)
    assert (costs.saved_ns >= 0).all()
    assert (costs.slow_memory_ns <= costs.op_ns * (1 + 1e-9)).all()
    assert costs.slow_ns >= costs.fast_ns >= costs.slow_ns - costs.slow_memory_ns.sum() - 1e-6


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.3, 1))
def test_known_step_in_fast_memory_is_predicted(seed: int, share: float) -> None:
    step = profile_json.parse(profiles.random_value(seed))
    uncalibrated = estimate_costs(step, FIGURES)
    largest_saving = uncalibrated.slow_ns - estimate_costs(step, FIGURES, 0.0).fast_ns
    target = uncalibrated.slow_ns - share * largest_saving
    assert estimate_costs(step, FIGURES, target).fast_ns == pytest.approx(
        target, rel=1e-6, abs=1e-6 * uncalibrated.slow_ns
    )
    assert (estimate_costs(step, FIGURES, target).saved_ns == uncalibrated.saved_ns).all()


def test_faster_second_node_gives_no_negative_run_replay() -> None:
    step = profiles.small([0], [10], [{"size": SIZE, "birth": 0, "death": 1, "uses": [[0, 0, 1]]}])
    costs = estimate_costs(step, dataclasses.replace(FIGURES, nodes=FIGURES.nodes[::-1]), 1.0)
    assert costs.op_ns.tolist() == [0]
    assert costs.fast_ns > costs.slow_ns == 0


@pytest.mark.parametrize("ns", [float("nan"), float("inf"), -1.0])
def test_invalid_fast_step_is_refused(ns: float) -> None:
    with pytest.raises(PlannerError, match="fast_step_ns: must be a number from 0 to 2"):
        estimate_costs(profiles.small([0], [10], []), FIGURES, ns)


def test_step_out_of_range_is_refused() -> None:
    tensor = {"size": SIZE, "birth": 0, "death": 1, "uses": [[0, 0, 1]], "writes": 1 << 60}
    with pytest.raises(
        PlannerError, match=r"estimated step of .* is out of range: check the profile's accesses"
    ):
        estimate_costs(profiles.small([0], [10], [tensor]), FIGURES, 10.0)


def run_replay(
    moves: list[tuple[int, int, int, float]], waits: list[int], *, threads: int = 1
) -> tuple[list[float], dict[int, float], list[tuple[float, float]], list[int]]:
    """Replay four operations of 10 ns after a prologue of 5. Moves are (at, to, before, ns)."""
    unit_moves = [UnitMove(i, at, to, before) for i, (at, to, before, _) in enumerate(moves)]
    move_ns = [ns for *_, ns in moves]
    timeline = replay(np.full(4, 10.0), 5.0, unit_moves, move_ns, waits, migration_threads=threads)
    return timeline.begin.tolist(), timeline.exposed, timeline.spans, timeline.late


def test_moves_on_time_expose_nothing() -> None:
    begin, exposed, spans, late = run_replay([(0, 0, 1, 10), (1, 1, 3, 12)], [1])
    assert begin == [5, 15, 25, 35, 45]
    assert (exposed, spans, late) == ({}, [(5, 15), (15, 27)], [])


def test_late_promotions_delay_the_step() -> None:
    begin, exposed, spans, late = run_replay([(0, 0, 1, 14), (1, 0, 2, 13)], [1, 2])
    assert exposed == {1: 4, 2: 3}
    assert begin == [5, 19, 32, 42, 52]
    assert (spans, late) == ([(5, 19), (19, 32)], [])


def test_two_threads_migrate_in_parallel() -> None:
    moves = [(0, 1, 1, 8.0), (0, 0, 1, 8.0)]
    assert run_replay(moves, [1])[1] == {1: 6}
    assert run_replay(moves, [1], threads=2)[1] == {}


def test_late_demotions_are_reported_but_not_waited_for() -> None:
    begin, exposed, _, late = run_replay([(0, 1, 1, 14)], [1])
    assert (begin[1], exposed, late) == (15, {}, [0])


def test_times_in_both_memories_replace_the_estimates() -> None:
    """The first operation saves 30,000 ns: the written tensor's share of the estimates is 8 of 11."""
    tensors = [
        {"size": SIZE, "birth": 0, "death": 2, "uses": [[0, 0, 1], [1, 1, 0]], "reads": 2, "writes": 2},
        {"size": SIZE, "birth": -1, "death": 2, "uses": [[0, 1, 0]], "reads": 2},
    ]
    value = profiles.value([0, 0], [10**6] * 2, tensors)
    value["ops"]["fast_ns"] = [970_000, -1]
    step = profile_json.parse(value)
    assert profile_json.encode(step)["ops"]["fast_ns"] == [970_000, -1]
    written, read, variable = saved_ns(step)
    assert [written, variable] == pytest.approx([30_000 * 8 / 11, 30_000 * 3 / 11])
    assert read == SIZE * 3.0  # as estimated: its time in fast memory is not known
    costs = estimate_costs(step, FIGURES)
    assert costs.slow_ns == pytest.approx(2e6)
    assert costs.fast_ns == pytest.approx(2e6 - 30_000 - SIZE * 3)


def test_fast_times_are_matched_by_operation() -> None:
    """The step in fast memory began its operations in another order, and ran one more."""
    tensors = [{"size": SIZE, "birth": 0, "death": 2, "uses": [[0, 0, 1]], "writes": 2}]
    step = profiles.small([0, 0], [100, 200], tensors)
    value = profiles.value([0, 0], [70, 80], tensors)
    value["ops"]["name"].reverse()
    fast = profile_json.parse(value)
    with_times = with_fast_times(step, fast)
    assert with_times.ops.fast_ns is not None
    assert with_times.ops.fast_ns.tolist() == [80, 70]
    with pytest.raises(PlannerError, match="another graph"):
        with_fast_times(step, profiles.small([0], [1], []))


@pytest.mark.parametrize("times", [[1], [1, -2], [1, "x"]])
def test_wrong_fast_times_are_refused(times: list[object]) -> None:
    value = profiles.value([0, 0], [1, 1], [])
    value["ops"]["fast_ns"] = times
    with pytest.raises(FormatError, match="fast_ns"):
        profile_json.parse(value)
