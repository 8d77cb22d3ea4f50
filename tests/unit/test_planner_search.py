# SPDX-License-Identifier: Apache-2.0
"""Plans: small ones by hand, and what must hold for any profile, budget and machine."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sentinel.planner import budget, explain, search
from sentinel.planner.check import check
from sentinel.planner.errors import BudgetError, PlannerError
from sentinel.planner.formats import plan, profile
from sentinel.planner.formats.figures import Figures, Memory
from sentinel.planner.formats.plan import Group, Move
from sentinel.planner.memory import classify
from sentinel.planner.placement.place import Placement, place
from sentinel.planner.problem import Problem, prepare
from sentinel.planner.schedule import intervals
from sentinel.planner.schedule.scheduler import Rule, Schedule, schedule
from sentinel.planner.schedule.tables import Positions, Tables
from sentinel.planner.schedule.visits import visits
from sentinel.planner.search import Candidate, assemble, candidate, candidates, make
from tests.fakes import profiles

OPTANE = Figures(nodes=(Memory(100, 105, 85), Memory(305, 39.4, 13.9)))
# a byte read takes 1 and 4 ns, a byte written 2 and 10; so does copying it
SIMPLE = Figures(nodes=(Memory(1, 1, 0.5), Memory(1, 0.25, 0.1)), cache=0, page=1000)
CHEAP = dataclasses.replace(OPTANE, page=10, helper=240, helpers=2)
BIG = 16 * profiles.PAGE  # is a group of its own


def written_then_read(birth: int, *reads: int, size: int = BIG) -> dict[str, Any]:
    """Born where it is written, dead after its last reading."""
    uses = [[birth, 0, 1], *([p, 1, 0] for p in reads)]
    return {"size": size, "birth": birth, "death": max((birth, *reads)) + 1, "uses": uses}


def variable(*reads: int, n: int, size: int = BIG) -> dict[str, Any]:
    return {"size": size, "birth": -1, "death": n, "uses": [[p, 1, 0] for p in reads]}


@pytest.fixture(scope="module", autouse=True)
def moves_are_worth_it_whatever_they_save() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sentinel.planner.search._WORTH", 0.0)
        yield


LAYERS = [0, 0, 1, 2, 2, 3, 3]
MEGA = [10**6] * 7
NEW = 2  # ns a byte: new pages are written once, with zeros


def test_one_makes_room_for_another_and_comes_back() -> None:
    """A is written in layer 0 and read in layer 3, B lives between; there is room for one."""
    made = make(profiles.small(LAYERS, MEGA, [written_then_read(0, 5), written_then_read(2, 3)]), BIG, SIMPLE)
    assert (made.reserved, made.arena) == (0, 2 * BIG)
    assert made.groups == [Group(0, BIG, 0, False), Group(BIG, BIG, 0, False)]
    assert [t.offset for t in made.tensors] == [0, BIG]
    assert (made.interval_layers, made.intervals) == (1, [0, 2, 3, 5])
    assert made.moves == [Move(1, 1, 2, 0, BIG, None), Move(4, 0, 5, 0, BIG, None)]
    assert made.waits == [5]
    assert made.predicted["fast_ns"] == 7 * 10**6 - 2 * BIG * (8 + 3)
    assert made.predicted["step_ns"] == made.predicted["fast_ns"] + 2 * BIG * NEW
    assert made.predicted["moved_bytes"] == 2 * BIG
    assert made.predicted["rule"] == "as published"
    assert check(profiles.small(LAYERS, MEGA, [written_then_read(0, 5), written_then_read(2, 3)]), made) == []


def test_with_room_for_both_nothing_moves() -> None:
    made = make(
        profiles.small(LAYERS, MEGA, [written_then_read(0, 5), written_then_read(2, 3)]), 2 * BIG, SIMPLE
    )
    assert (made.moves, made.waits, made.predicted["rule"]) == ([], [], "static")
    assert made.groups == [Group(0, 2 * BIG, 0, True)]
    assert made.predicted["why"].startswith("no plan with migration is predicted to be faster")


def test_if_moving_takes_longer_than_there_is_the_hotter_one_stays() -> None:
    """B saves less than A only by what it is not read: it is A that is in fast memory for all its life."""
    dear = dataclasses.replace(SIMPLE, page=10**6)
    made = make(profiles.small(LAYERS, MEGA, [written_then_read(0, 5), written_then_read(2, 3)]), BIG, dear)
    assert made.moves == []
    assert [group.node for group in made.groups] == [0, 1]
    assert made.predicted["step_ns"] == 7 * 10**6 - BIG * (8 + 3)


def test_a_wait_is_planned_if_it_pays() -> None:
    """A comes back in 16 x 1000 + 4 x BIG ns; the operation in which it does takes longer or not as long."""
    tensors = [written_then_read(0, 5), written_then_read(2, 3)]
    promotion = 16_000 + 4 * BIG

    def exposed(ns: int) -> int:
        made = make(profiles.small(LAYERS, [*MEGA[:4], ns, *MEGA[5:]], tensors), BIG, SIMPLE)
        assert ((Move(4, 0, 5, 0, BIG, None) in made.moves), made.waits) in ((True, [5]), (False, []))
        return int(made.predicted["exposed_ns"]) if made.waits else -1

    assert exposed(promotion) == 0
    assert exposed(promotion - 100_000) == 100_000
    assert exposed(promotion - 3 * BIG + 1) == 3 * BIG - 1
    assert exposed(promotion - 3 * BIG) == -1  # it saves no more than what is waited


def test_a_variable_is_at_the_steps_end_where_it_began() -> None:
    """V is used at both ends of the step, B between: V leaves, and comes back."""
    made = make(profiles.small(LAYERS, MEGA, [variable(0, 5, n=7), written_then_read(2, 3)]), BIG, SIMPLE)
    assert [(t.name, t.offset, t.node) for t in made.tensors] == [("v0", None, 0), (None, 0, 0)]
    assert made.moves == [Move(1, 1, 2, None, BIG, 0), Move(4, 0, 5, None, BIG, 0)]
    assert made.predicted["step_ns"] == made.predicted["fast_ns"] + BIG * NEW


def test_a_variable_of_the_first_layer_comes_back_at_the_steps_end() -> None:
    made = make(profiles.small(LAYERS, MEGA, [variable(0, n=7), written_then_read(2, 3)]), BIG, SIMPLE)
    assert made.moves == [Move(1, 1, 2, None, BIG, 0), Move(5, 0, 7, None, BIG, 0)]
    assert made.waits == [7]
    assert made.tensors[0].node == 0
    assert made.predicted["step_ns"] == made.predicted["fast_ns"] + BIG * NEW


def test_a_variable_of_the_last_layer_begins_and_ends_in_slow_memory() -> None:
    made = make(profiles.small(LAYERS, MEGA, [written_then_read(0, 2), variable(5, n=7)]), BIG, SIMPLE)
    assert made.moves == [Move(3, 0, 5, None, BIG, 1), Move(6, 1, 7, None, BIG, 1)]
    assert [t.node for t in made.tensors] == [0, 1]
    assert made.predicted["step_ns"] == made.predicted["fast_ns"] + BIG * NEW


def test_hotter_ones_are_promoted_first() -> None:
    """Time for one of two: the one that is read more often."""
    ns = [10**6, 2 * 10**6, 10**6, 10**6, 280_000, 10**6, 10**6]
    cold, hot = written_then_read(0, 5), written_then_read(0, 5)
    between = written_then_read(2, 3, size=2 * BIG)
    hot["reads"] = 64
    made = make(profiles.small(LAYERS, ns, [cold, hot, between]), 2 * BIG, SIMPLE)
    assert [move.offset for move in made.moves if move.to == 0] == [made.tensors[1].offset]


def test_without_tensors_there_is_an_empty_plan() -> None:
    made = make(profiles.small([0, 1], [5, 5], []), 1, OPTANE)
    assert (made.tensors, made.groups, made.moves, made.reserved, made.arena) == ([], [], [], 0, 0)
    assert made.predicted["step_ns"] == 10


def test_below_the_floor_there_is_none_and_the_floor_is_told() -> None:
    tensors = [written_then_read(0, 5), written_then_read(2, size=100), variable(1, n=7, size=BIG + 1)]
    tensors.append(written_then_read(3))
    made = profiles.small(LAYERS, MEGA, tensors)
    floor = BIG + (17 * profiles.PAGE)
    with pytest.raises(BudgetError, match=rf"budget of {floor - 1} bytes is below the floor of {floor}") as e:
        make(made, floor - 1, OPTANE)
    assert e.value.floor == floor
    assert check(made, make(made, floor, OPTANE)) == []


def test_what_is_not_touched_counts_neither_for_the_floor_nor_for_the_budget() -> None:
    scratch = {"size": 99 * BIG, "birth": 2, "death": 3, "uses": [], "kind": "scratch", "touched": 4096}
    tensors = [written_then_read(0, 5), {**scratch, "reads": 5, "writes": 1}]
    profile_ = profiles.small(LAYERS, MEGA, tensors)
    made = make(profile_, BIG + 4096, SIMPLE)
    assert check(profile_, made) == []
    assert (made.reserved, made.predicted["pool_bytes"]) == (99 * BIG, 4096)
    assert [group.node for group in made.groups] == [0]
    with pytest.raises(BudgetError, match=rf"floor of {BIG + 4096}"):
        make(profile_, BIG + 4095, SIMPLE)


def test_spilling_goes_below_the_floor() -> None:
    """Two short-lived tensors live at once; with room for one, both are placed as if they were long-lived."""
    tensors = [
        written_then_read(0, 5),
        {**written_then_read(2), "death": 3},
        {**written_then_read(2), "death": 3},
    ]
    profile_ = profiles.small(LAYERS, MEGA, tensors)
    with pytest.raises(BudgetError) as e:
        make(profile_, BIG, SIMPLE)
    assert e.value.floor == 3 * BIG
    assert make(profile_, 3 * BIG, SIMPLE, spill=True) == make(profile_, 3 * BIG, SIMPLE)
    made = make(profile_, BIG, SIMPLE, spill=True)
    assert check(profile_, made) == []
    assert [t.pool for t in made.tensors] == ["long"] * 3
    with pytest.raises(BudgetError, match=rf"floor of {BIG}: 0 for short-lived tensors"):
        make(profile_, BIG - 1, SIMPLE, spill=True)


def test_spilling_puts_as_much_of_scratch_into_fast_memory_as_there_is_room_for() -> None:
    scratch = {"size": 9 * BIG, "birth": 2, "death": 3, "uses": [], "kind": "scratch", "touched": 2 * BIG}
    profile_ = profiles.small(LAYERS, MEGA, [written_then_read(0, 5), {**scratch, "reads": 48}])
    fits = make(profile_, 3 * BIG, SIMPLE, spill=True)
    assert [t.pool for t in fits.tensors] == ["long", "short"]
    made = make(profile_, BIG, SIMPLE, spill=True)
    assert [t.pool for t in made.tensors] == ["long", "long"]
    own, kept = [Group(n * BIG, BIG, n // 2, n == 2) for n in range(3)], Group(3 * BIG, 7 * BIG, 1, True)
    assert made.groups == [*own, kept]
    assert [(move.offset, move.to) for move in made.moves] == [(0, 1), (0, 0)]  # the other one makes room
    assert check(profile_, made) == []
    assert made.predicted["step_ns"] == fits.predicted["step_ns"] + 4.5 * BIG + 2 * BIG * NEW


def test_only_operations_that_wait_for_others_tell_how_far_a_step_has_come() -> None:
    """What is made at 0 waits for nothing, what is made at 3 for that."""
    tensors = [written_then_read(0, 3), written_then_read(3, 5)]
    made = make(profiles.small(LAYERS, MEGA, tensors), 4 * BIG, SIMPLE)
    assert [t.position for t in made.tensors] == [None, 3]


def test_what_is_allocated_while_another_thread_begins_an_operation_is_born_with_its_own() -> None:
    """Operation 3 allocates when 4 has begun, and its own use of the tensor is before that."""
    late = {**written_then_read(3, 5), "op": 3, "birth": 4}
    profile_ = profiles.small(LAYERS, MEGA, [written_then_read(0, 3), late])
    assert profile_.tensors.birth.tolist() == [0, 3]
    made = make(profile_, 4 * BIG, SIMPLE)
    assert [t.position for t in made.tensors] == [None, 3]
    assert check(profile_, made) == []


wild_figures = st.sampled_from(
    [
        OPTANE,
        CHEAP,
        dataclasses.replace(OPTANE, nodes=OPTANE.nodes[::-1]),
        dataclasses.replace(OPTANE, nodes=OPTANE.nodes[:1] * 2),
        Figures(nodes=(Memory(1e-6, 1e6, 1e6), Memory(1e9, 1e-6, 1e-6)), cache=0, page=1e-9),
    ]
)


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 10**6),
    wild_figures,
    st.sampled_from([0.05, 0.5, 1.0, 2.0]),
    st.sampled_from([None, 1.0, 1e9]),
    st.booleans(),
    st.sampled_from(search.POLICIES),
)
def test_any_profile_gives_a_sound_plan_or_is_refused(
    seed: int, figures: Figures, share: float, fast_step_ns: float | None, spill: bool, policy: search.Policy
) -> None:
    """Several threads, clocks that jump, ties, no accesses and very many, tensors of terabytes."""
    profile_ = profile.parse(profiles.wild_value(seed))
    size = max(1, int(share * classify.peak(profile_)))
    options: dict[str, Any] = {"fast_step_ns": fast_step_ns, "spill": spill, "policy": policy}
    try:
        try:
            made = make(profile_, size, figures, **options)
        except BudgetError as e:
            assert e.floor > size
            made = make(profile_, e.floor, figures, **options)
    except PlannerError as e:
        assert "the profile's accesses or the machine's figures cannot be right" in str(e)
        return
    assert check(profile_, made) == []
    assert plan.parse(plan.encode(made)) == made
    assert explain.course(profile_, made).timeline.step_ns >= 0


def test_few_of_the_wild_profiles_are_refused() -> None:
    makeable = 0
    for seed in range(100):
        profile_ = profile.parse(profiles.wild_value(seed))
        with contextlib.suppress(PlannerError):
            makeable += bool(make(profile_, 2 * classify.peak(profile_) + BIG, OPTANE))
    assert makeable > 80


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.3, 0.6, 0.9, 1.5]))
def test_any_plan_by_the_published_rule_alone_is_sound(seed: int, share: float) -> None:
    made = profile.parse(profiles.random_value(seed))
    floor = at_the_floor(made, CHEAP).budget
    try:
        plan = make(made, int(share * floor), CHEAP, spill=True, policy="sentinel")
    except BudgetError as e:
        assert share * floor < e.floor <= floor
    else:
        assert check(made, plan) == []
        rules = {one["rule"] for one in plan.predicted["candidates"]}
        assert rules <= {"static", "as published"}
        assert plan == make(made, int(share * floor), CHEAP, spill=True, policy="sentinel")


def test_the_published_rule_migrates_whether_or_not_that_is_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is room for one of two; each interval's tensors fit."""
    monkeypatch.setattr("sentinel.planner.search._WORTH", 0.99)
    profile_ = profiles.small(LAYERS, MEGA, [written_then_read(0, 5), written_then_read(2, 3)])
    assert make(profile_, BIG + 4096, SIMPLE).moves == []
    made = make(profile_, BIG + 4096, SIMPLE, policy="sentinel")
    assert check(profile_, made) == []
    assert (made.predicted["rule"], [move.to for move in made.moves]) == ("as published", [1, 0])
    assert "shorter than without migration" in made.predicted["why"]


def test_of_intervals_that_fit_the_published_rule_takes_that_which_exposes_least() -> None:
    """One layer an interval: A and B in turn. All of the step: both at once, which do not fit."""
    profile_ = profiles.small(LAYERS, MEGA, [written_then_read(0, 5), written_then_read(2, 3)])
    made = make(profile_, BIG + 4096, SIMPLE, policy="sentinel")
    fitting = [one for one in made.predicted["candidates"][1:] if one["fits"]]
    chosen = [one for one in fitting if one["interval_layers"] == made.interval_layers]
    assert chosen and len(fitting) < len(made.predicted["candidates"][1:])
    assert chosen[0]["exposed_ns"] == min(one["exposed_ns"] for one in fitting)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.3, 0.6, 0.9]))
def test_any_plan_with_spilling_is_sound(seed: int, share: float) -> None:
    made = profile.parse(profiles.random_value(seed))
    floor = at_the_floor(made, CHEAP).budget
    try:
        plan = make(made, int(share * floor), CHEAP, spill=True)
    except BudgetError as e:
        assert share * floor < e.floor <= floor
    else:
        assert check(made, plan) == []


def test_what_may_outlive_the_step_is_left_out() -> None:
    tensors = [written_then_read(6), written_then_read(0, 5)]
    made = make(profiles.small(LAYERS, MEGA, tensors), BIG, OPTANE)
    assert [t.op for t in made.tensors] == ["op0"]


def test_candidates_are_all_counts_of_layers_or_spread_over_them() -> None:
    few = profiles.small(list(range(5)), [1] * 5, [])
    many = profiles.small([2 * p for p in range(600)], [1] * 600, [])
    assert intervals.candidates(few, 5) == [1, 2, 3, 4, 5]
    found = intervals.candidates(many, 10)
    assert (found[0], found[-1], len(found)) == (1, 600, 10)
    assert intervals.starts(many, 250).tolist() == [0, 250, 500]


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("14 MiB", 14 << 20),
        ("14680064", 14680064),
        ("20%", 200),
        ("0.5 GiB", 1 << 29),
        ("3KiB", 3072),
        ("7 B", 7),
    ],
)
def test_budgets_are_sizes_or_shares(text: str, size: int) -> None:
    assert budget.parse(text, 1000) == size


@pytest.mark.parametrize("text", ["", "MiB", "-1", "20 percent", "14 MB", "1e9", "0", "0%", "nan", "9" * 30])
def test_what_is_no_budget(text: str) -> None:
    with pytest.raises(PlannerError, match="budget: "):
        budget.parse(text, 1000)


TWO_THREADS = dataclasses.replace(SIMPLE, helpers=2, page=1)
any_figures = st.sampled_from([OPTANE, SIMPLE, CHEAP, TWO_THREADS])


def at_the_floor(made: profile.Profile, figures: Figures, generosity: float = 1.0) -> Problem:
    """The profile with so many times the smallest budget."""
    try:
        return prepare(made, 0, figures)
    except BudgetError as e:
        return prepare(made, int(e.floor * generosity), figures)


def placements(problem: Problem, one: Candidate) -> list[Placement]:
    """With all that never moves at shared addresses, and with as little as possible."""
    count = len(problem.units)
    found = [place(problem, one.schedule, shared) for shared in (np.ones(count, bool), np.zeros(count, bool))]
    return [placement for placement in found if placement is not None]


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**6), any_figures, st.sampled_from([1.0, 1.1, 1.5, 3.0]))
@example(300, TWO_THREADS, 1.0)  # a promotion is given up, and a demotion would be late
def test_any_candidate_is_sound_and_the_best_is_taken(seed: int, figures: Figures, generosity: float) -> None:
    """Whatever is tried, even if it is not taken; and what is predicted to be freed in time is."""
    problem = at_the_floor(profile.parse(profiles.random_value(seed)), figures, generosity)
    found = candidates(problem)
    for one in found:
        for placement in placements(problem, one):
            assert check(problem.profile, assemble(problem, one, placement, found)) == []
        assert one.timeline.late == []
        assert set(one.timeline.exposed) <= set(one.schedule.waits)
    plan = make(problem.profile, problem.budget, figures)
    assert plan == make(problem.profile, problem.budget, figures)
    predicted = plan.predicted
    assert found[0].name == "static"
    still = place(problem, Schedule(frozenset(), [], []), np.ones(len(problem.units), bool))
    assert still is not None and predicted["step_ns"] <= round(still.timeline.step_ns)
    assert predicted["fast_ns"] - 1 <= predicted["step_ns"] <= predicted["slow_ns"] + 1


@settings(max_examples=80, deadline=None)
@given(
    st.integers(0, 10**6),
    any_figures,
    st.sampled_from([0.0, 1e-9, 1e-6]),
    st.booleans(),
    st.sampled_from([1, 1.3]),
)
def test_every_rule_is_sound_with_variables_that_stay(
    seed: int, figures: Figures, keep: float, headroom: bool, generosity: float
) -> None:
    problem = at_the_floor(profile.parse(profiles.random_value(seed)), figures, generosity)
    variables = frozenset(np.flatnonzero(problem.units.variable).tolist())
    for layers in intervals.candidates(problem.profile, 10):
        tables = Tables(Positions(problem), visits(problem, intervals.starts(problem.profile, layers)))
        made = schedule(tables, Rule(layers, keep, headroom, still=True), frozenset())
        assert not variables & {move.unit for move in made.moves}
        assert not variables & made.fast
        one = candidate(problem, "still", layers, tables.starts, made, 0)
        for placement in placements(problem, one):
            assert check(problem.profile, assemble(problem, one, placement, [one])) == []
        assert one.timeline.late == []


def test_the_random_ones_do_move() -> None:
    """The properties above are of something: of these profiles a good part has moves of every kind."""
    kinds: set[tuple[bool, int]] = set()
    moving = 0
    for seed in range(60):
        problem = at_the_floor(profile.parse(profiles.random_value(seed)), CHEAP)
        for one in candidates(problem):
            moving += bool(one.schedule.moves)
            kinds |= {(bool(problem.units.variable[move.unit]), move.to) for move in one.schedule.moves}
    assert moving > 60
    assert kinds == {(False, 0), (False, 1), (True, 0), (True, 1)}


def test_more_memory_is_never_slower_for_real_shapes() -> None:
    """Not a law of greedy schedules, but of these shapes with a tolerance of 2 %."""
    for made, shares in (
        (profiles.resnet(), (0.12, 0.2, 0.4, 0.6, 0.8, 1.2)),
        (profiles.lstm(), (0.3, 0.6, 1.2)),
    ):
        peak = classify.peak(made)
        plans = [make(made, int(share * peak), OPTANE) for share in shares]
        assert all(check(made, plan) == [] for plan in plans)
        steps = [plan.predicted["step_ns"] for plan in plans]
        assert all(more <= 1.02 * less for less, more in itertools.pairwise(steps))
        assert steps[-1] == pytest.approx(
            plans[-1].predicted["fast_ns"], rel=1e-3
        )  # small variables stay out


def test_migration_pays_for_the_shape_of_a_resnet() -> None:
    made = profiles.resnet()
    plan = make(made, classify.peak(made) // 5, OPTANE, fast_step_ns=7.6e6)
    static = plan.predicted["candidates"][0]["step_ns"]
    assert plan.predicted["fast_ns"] == pytest.approx(7.6e6, rel=1e-3)
    assert plan.predicted["step_ns"] < 0.95 * static
    assert plan.moves
    assert len({move.to for move in plan.moves}) == 2
