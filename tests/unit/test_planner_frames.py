# SPDX-License-Identifier: Apache-2.0
"""Plans with frames: sound for any profile, as predicted, and never faster than the bound."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.bound import lower_bound
from sentinel.planner import frames
from sentinel.planner.assemble_frames import assemble
from sentinel.planner.check import check
from sentinel.planner.errors import BudgetError, PlannerError
from sentinel.planner.formats import plan as plan_format
from sentinel.planner.formats import profile_json
from sentinel.planner.formats.figures import Figures
from sentinel.planner.formats.plan import Group, Move, Plan, Use
from sentinel.planner.formats.profile import Profile
from sentinel.planner.memory import classify
from sentinel.planner.placement.layout import BY_HEAT
from sentinel.planner.placement.shared_pool import place
from sentinel.planner.policy import FRAMES
from sentinel.planner.problem import prepare
from sentinel.planner.schedule.frames import pack
from sentinel.planner.schedule.shares import Shares, shares_of
from sentinel.planner.search import make_plan
from sentinel.planner.simulate import simulate
from sentinel.planner.timing.cores import Cores
from tests.fakes import networks, profiles
from tests.fakes.profiles import BIG, CHEAP, LAYERS, OPTANE, PAGE, SIMPLE, variable, written_then_read

FOUR = dataclasses.replace(OPTANE, migration_cores=4)
# copies of a byte take 4 ns up and 10 ns down, remaps 100 ns
FEW = dataclasses.replace(SIMPLE, remap_ns=100, remap_page_ns=0.1, shootdown_ns=10)
QUICK = dataclasses.replace(CHEAP, migration_cores=4, remap_ns=10, remap_page_ns=0.1, shootdown_ns=1)
FIGURES = st.sampled_from([OPTANE, FOUR, QUICK, FEW, dataclasses.replace(FEW, migration_cores=2)])
STEP = [0, 0, 1, 1, 2, 3, 3, 4]  # layers


def frames_plan(step: Profile, budget: int, figures: Figures = FEW, *, program: bool = False) -> Plan:
    relaxed = lower_bound(step, budget, figures, mechanism=FRAMES).relaxed if program else None
    return make_plan(step, budget, figures, mechanism=FRAMES, relaxed=relaxed)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), FIGURES, st.sampled_from([0.1, 0.3, 0.6, 1.0]), st.booleans(), st.booleans())
def test_plans_of_any_profile_are_sound_and_simulated_as_predicted(
    seed: int, figures: Figures, share: float, wild: bool, program: bool
) -> None:
    value = profiles.wild_value(seed) if wild else profiles.random_value(seed)
    step = profile_json.parse(value)
    budget = max(1, int(share * classify.peak(step)))
    try:
        plan = frames_plan(step, budget, figures, program=program and not wild)
    except BudgetError as e:
        assert e.floor > budget
        return
    except PlannerError as e:
        assert "check the profile's accesses and the machine's figures" in str(e)
        return
    assert check(step, plan) == []
    assert plan_format.parse(plan_format.encode(plan)) == plan
    assert plan == frames_plan(step, budget, figures, program=program and not wild)
    assert simulate(step, plan).timeline.step_ns == pytest.approx(plan.predicted["step_ns"], abs=1, rel=1e-9)


@pytest.mark.parametrize("figures", [OPTANE, FOUR, FEW, QUICK])
@pytest.mark.parametrize("seed", range(8))
def test_no_plan_is_predicted_to_be_faster_than_the_bound(seed: int, figures: Figures) -> None:
    step = profile_json.parse(profiles.random_value(seed))
    for share in (0.2, 0.6):
        budget = int(share * classify.peak(step))
        bound = lower_bound(step, budget, figures, mechanism=FRAMES)
        try:
            plan = make_plan(step, budget, figures, mechanism=FRAMES, relaxed=bound.relaxed)
        except BudgetError:
            continue
        assert bound.gap(plan.predicted["step_ns"] + 1) >= -1e-9


@pytest.mark.parametrize("cores", [1, 4])
@pytest.mark.parametrize("op_ns", [10**5, 10**6, 4 * 10**6])
def test_no_schedule_is_faster_than_the_bound(cores: int, op_ns: int) -> None:
    """Brute force: all ways to have the uses of two tensors and a variable in fast memory."""
    figures = dataclasses.replace(FEW, migration_cores=cores, remap_ns=10, shootdown_ns=1)
    tensors = [written_then_read(0, 1, 6), written_then_read(4, 5), variable(2, 7, n=8)]
    small = profiles.small(STEP, [op_ns] * 8, tensors)
    problem = prepare(small, BIG, figures, pool_share=0.0)
    bound = lower_bound(small, BIG, figures, mechanism=FRAMES)
    each_core = Cores(figures, PAGE)
    moves = 0
    patterns = itertools.product((0.0, 1.0), repeat=len(problem.use_unit))
    for pattern, stays in itertools.product(patterns, (0.0, 1.0)):
        shares = Shares(np.array(pattern), np.full(len(pattern), stays))
        packing = pack(problem, shares, each_core, problem.op_ns, BIG)
        placement = place(packing, BY_HEAT)
        moves += len(placement.moves)
        assert placement.timeline.step_ns >= bound.step_ns * (1 - 1e-6)
    assert moves > 100 or op_ns < 10**6


def test_the_solution_keeps_space_for_a_tensor_until_it_dies() -> None:
    """The first one is not used again, but nothing can leave in a step as short as this."""
    tensors = [{**written_then_read(0, 1), "death": 6}, written_then_read(2, 3)]
    step = profiles.small(LAYERS, [10**4] * len(LAYERS), tensors)
    relaxed = lower_bound(step, BIG, FEW, mechanism=FRAMES).relaxed
    written = relaxed.fast[(relaxed.position == 0) | (relaxed.position == 2)]
    assert sum(written) == pytest.approx(1, abs=1e-3)


def test_networks_migrate_and_come_close_to_the_bound() -> None:
    step = networks.resnet(blocks=5, batch=16, step_ns=50e6)
    budget = classify.peak(step) // 5
    bound = lower_bound(step, budget, FOUR, mechanism=FRAMES)
    plan = make_plan(step, budget, FOUR, mechanism=FRAMES, relaxed=bound.relaxed)
    assert check(step, plan) == []
    assert plan.has_frames
    assert {move.to for move in plan.moves} == {0, 1}
    static = make_plan(step, budget, dataclasses.replace(FOUR, page_move_ns=1e9), spill=True)
    assert bound.gap(plan.predicted["step_ns"]) < bound.gap(static.predicted["step_ns"]) / 2


@pytest.mark.parametrize(
    ("blocks", "batch", "step_ns", "share"),
    [(2, 16, 20e6, 0.3), (2, 16, 20e6, 0.5), (3, 16, 60e6, 0.3), (5, 8, 20e6, 0.2)],
)
def test_plans_of_networks_are_sound(blocks: int, batch: int, step_ns: float, share: float) -> None:
    step = networks.resnet(blocks=blocks, batch=batch, step_ns=step_ns)
    plan = make_plan(step, int(share * classify.peak(step)), FOUR, mechanism=FRAMES)
    assert check(step, plan) == []


@pytest.fixture(scope="module")
def step() -> Profile:
    return profiles.small(
        STEP,
        [2 * 10**6] * len(STEP),
        [
            written_then_read(0, 1, 6),  # A
            written_then_read(3, 4),  # B, in other layers: A makes way
            variable(0, 7, n=len(STEP), size=PAGE),
        ],
    )


# of B, which never migrates: four windows; and of A
GROUPS = [Group(i * PAGE, 4 * PAGE, 0, keep=False, frame=i * PAGE) for i in range(0, 16, 4)]
GROUPS += [Group(BIG, BIG, 0, keep=False, frame=0)]
AWAY = Move(1, 1, 3, BIG, BIG, None, map=2)
BACK = Move(5, 0, 6, BIG, BIG, None, map=5, frame=0)


@pytest.fixture
def plan(step: Profile) -> Plan:
    """A makes way for B and returns: it is copied while operation 1 reads it."""
    problem = prepare(step, BIG + PAGE, FEW, pool_share=0.0)
    relaxed = lower_bound(step, BIG + PAGE, FEW, mechanism=FRAMES).relaxed
    cores = Cores(FEW, PAGE)
    packing = pack(problem, shares_of(problem, relaxed), cores, problem.op_ns, problem.unit_budget)
    plan = assemble(place(packing, BY_HEAT), {"rule": "test"}, policy="sentinel-opt")
    assert (plan.groups, plan.moves, plan.frames) == (GROUPS, [AWAY, BACK], BIG)
    assert check(step, plan) == []
    return plan


def moved(plan: Plan, *moves: Move) -> Plan:
    predicted = {**plan.predicted, "moved_bytes": sum(move.size for move in moves if move.copy)}
    waits = sorted({move.before for move in moves if move.to == 0})
    return dataclasses.replace(plan, moves=list(moves), waits=waits, predicted=predicted)


def grouped(plan: Plan, index: int, group: Group) -> Plan:
    return dataclasses.replace(plan, groups=[group if i == index else g for i, g in enumerate(plan.groups)])


BROKEN: dict[str, tuple[Callable[[Plan], Plan], str]] = {
    "write during a copy": (
        lambda p: moved(p, AWAY._replace(at=0), BACK),
        f"group {BIG}: the move at 0 is before the last birth",
    ),
    "use after map": (
        lambda p: moved(p, AWAY._replace(map=1), BACK),
        f"group {BIG}: the move at 1 is in progress during a use after 1",
    ),
    "map after before": (
        lambda p: moved(p, AWAY._replace(map=4), BACK),
        f"group {BIG}: the move at 1 is remapped at 4, outside its time",
    ),
    "stale home": (
        lambda p: moved(p, AWAY._replace(copy=False), BACK),
        f"group {BIG}: the move at 1 copies nothing, but its destination does not have the content",
    ),
    "promotion without a copy": (
        lambda p: moved(p, AWAY, BACK._replace(copy=False)),
        f"group {BIG}: the move at 5 copies nothing, but its destination does not have the content",
    ),
    "taken range": (
        lambda p: moved(p, AWAY._replace(before=4), BACK),
        "its range at 0 is that of group",
    ),
    "range of a promotion": (
        lambda p: moved(p, AWAY, BACK._replace(at=4, map=4)),
        "its range at 0 is that of group",
    ),
    "range outside the pool": (
        lambda p: grouped(p, 4, GROUPS[4]._replace(frame=PAGE)),
        f"group {BIG}: its range at {PAGE} is not in whole pages inside the fast frame pool",
    ),
    "no range": (
        lambda p: moved(p, AWAY, BACK._replace(frame=None)),
        f"group {BIG}: its range at None is not in whole pages",
    ),
    "pool not in pages": (
        lambda p: dataclasses.replace(p, frames=BIG + 1, budget=2 * BIG),
        "frames: is not a multiple of the page size",
    ),
    "over budget": (
        lambda p: dataclasses.replace(p, budget=BIG - 1),
        f"{BIG} bytes of frames and a `room` of 0 exceed the {BIG - 1} bytes",
    ),
    "move to its own node": (
        lambda p: moved(p, BACK._replace(at=1, map=2, before=2)),
        "is to node 0, where the group is already",
    ),
    "overlapping moves": (
        lambda p: moved(p, AWAY._replace(before=6), BACK),
        "the move at 5 is before the last birth in the group, or before the end of the previous move",
    ),
    "move after death": (
        lambda p: moved(p, AWAY, BACK, Move(7, 1, 8, BIG, BIG, None, map=7, copy=False)),
        f"group {BIG}: the move at 7 ends after the group's death",
    ),
    "useless promotion": (
        lambda p: moved(
            p, AWAY, Move(4, 0, 5, BIG, BIG, None, map=4, frame=0), AWAY._replace(at=5, before=6)
        ),
        f"group {BIG}: the move at 4 is useless: no use follows before the next move",
    ),
    "missing use": (
        lambda p: dataclasses.replace(p, uses=p.uses[1:]),
        "uses[0]: is not the next operation that uses a migratable group",
    ),
    "wrong position": (
        lambda p: dataclasses.replace(p, uses=[*p.uses[:-1], Use(p.uses[-1].op, 0, 5)]),
        "uses[4]: is not the next operation that uses a migratable group",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_rule_is_reported(step: Profile, plan: Plan, name: str) -> None:
    break_, message = BROKEN[name]
    broken = check(step, break_(plan))
    assert any(message in rule for rule in broken), broken


@pytest.mark.parametrize("eager", [True, False])
def test_copies_begin_before_the_last_use_only_if_eager(eager: bool) -> None:
    step = networks.resnet(blocks=2, batch=16, step_ns=20e6)
    plan = frames.make_plan(step, classify.peak(step) // 5, FOUR, eager=eager)
    assert check(step, plan) == []
    early = [move for move in plan.moves if move.to == 1 and move.copy and move.map is not None]
    assert any(move.at < (move.map or 0) for move in early) == eager
