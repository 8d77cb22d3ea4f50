# SPDX-License-Identifier: Apache-2.0
"""Properties of plans that hold for any profile, budget and machine."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sentinel.planner.assemble import assemble
from sentinel.planner.candidates import Candidate, predict_candidate, sentinel_opt_candidates
from sentinel.planner.check import check
from sentinel.planner.errors import BudgetError, PlannerError
from sentinel.planner.formats import plan, profile, profile_json
from sentinel.planner.formats.figures import Figures, Memory
from sentinel.planner.memory import classify
from sentinel.planner.moves import NO_MIGRATION
from sentinel.planner.placement.place import Placement, place
from sentinel.planner.policy import DEFAULT, POLICIES, Policy
from sentinel.planner.problem import Problem, prepare
from sentinel.planner.schedule.intervals import interval_lengths, interval_starts
from sentinel.planner.schedule.rule import Rule
from sentinel.planner.schedule.scheduler import schedule
from sentinel.planner.schedule.tables import IntervalTables, StepTables
from sentinel.planner.schedule.visits import collect_visits
from sentinel.planner.search import make_plan
from sentinel.planner.simulate import simulate
from tests.fakes import profiles
from tests.fakes.profiles import BIG, CHEAP, OPTANE, SIMPLE

SEEDS = st.integers(0, 10**6)
TWO_THREADS = dataclasses.replace(SIMPLE, migration_cores=2, page_move_ns=1)
FIGURES = st.sampled_from([OPTANE, SIMPLE, CHEAP, TWO_THREADS])
EXTREME_FIGURES = st.sampled_from(
    [
        OPTANE,
        CHEAP,
        dataclasses.replace(OPTANE, nodes=OPTANE.nodes[::-1]),
        dataclasses.replace(OPTANE, nodes=OPTANE.nodes[:1] * 2),
        Figures(nodes=(Memory(1e-6, 1e6, 1e6), Memory(1e9, 1e-6, 1e-6)), cache_bytes=0, page_move_ns=1e-9),
    ]
)


def problem_at_floor(step: profile.Profile, figures: Figures, factor: float = 1.0) -> Problem:
    """Return the problem for `factor` times the smallest budget."""
    try:
        return prepare(step, 0, figures)
    except BudgetError as e:
        return prepare(step, int(e.floor * factor), figures)


def placements(problem: Problem, candidate: Candidate) -> list[Placement]:
    """Return a candidate's placements with as many, and as few, shared addresses as possible."""
    count = len(problem.units)
    results = [
        place(problem, candidate.schedule, shared) for shared in (np.ones(count, bool), np.zeros(count, bool))
    ]
    return [placement for placement in results if placement is not None]


def broken_rules(problem: Problem, candidate: Candidate) -> list[str]:
    """Check the plans of a candidate with all its placements."""
    return [
        rule
        for placement in placements(problem, candidate)
        for rule in check(
            problem.profile, assemble(problem, [candidate], candidate, placement, "test", policy=DEFAULT)
        )
    ]


@settings(max_examples=150, deadline=None)
@given(
    SEEDS,
    EXTREME_FIGURES,
    st.sampled_from([0.05, 0.5, 1.0, 2.0]),
    st.sampled_from([None, 1.0, 1e9]),
    st.booleans(),
    st.sampled_from(POLICIES),
)
def test_extreme_profiles_give_a_sound_plan_or_are_refused(
    seed: int, figures: Figures, share: float, fast_step_ns: float | None, spill: bool, policy: Policy
) -> None:
    """Several threads, clocks that jump, ties, no accesses and very many, tensors of terabytes."""
    step = profile_json.parse(profiles.wild_value(seed))
    budget = max(1, int(share * classify.peak(step)))
    options: dict[str, Any] = {"fast_step_ns": fast_step_ns, "spill": spill, "policy": policy}
    try:
        try:
            result = make_plan(step, budget, figures, **options)
        except BudgetError as e:
            assert e.floor > budget
            result = make_plan(step, e.floor, figures, **options)
    except PlannerError as e:
        assert "check the profile's accesses and the machine's figures" in str(e)
        return
    assert check(step, result) == []
    assert plan.parse(plan.encode(result)) == result
    assert simulate(step, result).timeline.step_ns >= 0


def test_most_extreme_profiles_are_accepted() -> None:
    accepted = 0
    for seed in range(100):
        step = profile_json.parse(profiles.wild_value(seed))
        with contextlib.suppress(PlannerError):
            accepted += bool(make_plan(step, 2 * classify.peak(step) + BIG, OPTANE))
    assert accepted > 80


@settings(max_examples=120, deadline=None)
@given(SEEDS, st.sampled_from([0.3, 0.6, 0.9, 1.5]), st.sampled_from(POLICIES))
def test_spilling_gives_a_sound_plan_or_a_lower_floor(seed: int, share: float, policy: Policy) -> None:
    step = profile_json.parse(profiles.random_value(seed))
    floor = problem_at_floor(step, CHEAP).budget
    try:
        result = make_plan(step, int(share * floor), CHEAP, spill=True, policy=policy)
    except BudgetError as e:
        assert share * floor < e.floor <= floor
        return
    assert check(step, result) == []
    if policy == "sentinel":
        assert {row["rule"] for row in result.predicted["candidates"]} <= {"static", "paper"}


@settings(max_examples=150, deadline=None)
@given(SEEDS, FIGURES, st.sampled_from([1.0, 1.1, 1.5, 3.0]))
@example(300, TWO_THREADS, 1.0)  # a promotion is cancelled, which would make a demotion late
def test_all_candidates_are_sound_and_the_plan_is_no_slower_than_static(
    seed: int, figures: Figures, factor: float
) -> None:
    problem = problem_at_floor(profile_json.parse(profiles.random_value(seed)), figures, factor)
    candidates = sentinel_opt_candidates(problem)
    assert candidates[0].rule == "static"
    for candidate in candidates:
        assert broken_rules(problem, candidate) == []
        assert candidate.timeline.late == []
        assert set(candidate.timeline.exposed) <= set(candidate.schedule.waits)
    result = make_plan(problem.profile, problem.budget, figures, min_gain=0.0)
    assert result == make_plan(problem.profile, problem.budget, figures, min_gain=0.0)
    predicted = result.predicted
    static = place(problem, NO_MIGRATION, np.ones(len(problem.units), bool))
    assert static is not None and predicted["step_ns"] <= round(static.timeline.step_ns)
    assert predicted["fast_ns"] - 1 <= predicted["step_ns"] <= predicted["slow_ns"] + 1


@settings(max_examples=80, deadline=None)
@given(SEEDS, FIGURES, st.sampled_from([0.0, 1e-9, 1e-6]), st.booleans(), st.sampled_from([1, 1.3]))
def test_all_rules_are_sound_with_fixed_variables(
    seed: int, figures: Figures, retain: float, headroom: bool, factor: float
) -> None:
    problem = problem_at_floor(profile_json.parse(profiles.random_value(seed)), figures, factor)
    variables = frozenset(np.flatnonzero(problem.units.variable).tolist())
    for layers in interval_lengths(problem.profile, 10):
        visits = collect_visits(problem, interval_starts(problem.profile, layers))
        tables = IntervalTables(StepTables(problem), visits)
        rule = Rule(layers, retain, headroom, fixed_variables=True)
        result = schedule(tables, rule, frozenset())
        assert not variables & {move.unit for move in result.moves}
        assert not variables & result.born_fast
        candidate = predict_candidate(problem, rule.name, layers, tables.starts, result)
        assert broken_rules(problem, candidate) == []
        assert candidate.timeline.late == []


def test_random_profiles_migrate() -> None:
    """The properties are not vacuous: many candidates of random profiles have moves of every kind."""
    kinds: set[tuple[bool, int]] = set()
    migrating = 0
    for seed in range(60):
        problem = problem_at_floor(profile_json.parse(profiles.random_value(seed)), CHEAP)
        for candidate in sentinel_opt_candidates(problem):
            migrating += bool(candidate.schedule.moves)
            kinds |= {(bool(problem.units.variable[move.unit]), move.to) for move in candidate.schedule.moves}
    assert migrating > 60
    assert kinds == {(False, 0), (False, 1), (True, 0), (True, 1)}
