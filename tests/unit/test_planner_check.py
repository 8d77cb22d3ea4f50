# SPDX-License-Identifier: Apache-2.0
"""The plan checker reports each broken rule. test_planner_search.py shows that sound plans pass."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.planner.check import check
from sentinel.planner.formats.figures import Figures, Memory
from sentinel.planner.formats.plan import Group, Move, Plan
from sentinel.planner.formats.profile import Profile
from sentinel.planner.search import make_plan
from tests.fakes import networks, profiles
from tests.fakes.profiles import BIG, LAYERS, MEGA, SIMPLE, variable, written_then_read

PAGE = profiles.PAGE


@pytest.fixture(scope="module")
def profile() -> Profile:
    return profiles.small(
        LAYERS,
        MEGA,
        [
            written_then_read(0, 5),  # A: long-lived
            written_then_read(2, 3),  # B: in other layers, where A makes way
            written_then_read(0, size=300),  # two short-lived tensors with overlapping lifetimes
            {**written_then_read(0, size=300), "death": 2},
            variable(0, 2, 3, 5, n=7, size=PAGE),
            written_then_read(6, size=8),  # not freed within the step: not in the plan
        ],
    )


@pytest.fixture
def plan(profile: Profile) -> Plan:
    """A lies at 0, B at BIG. A makes way for B and returns; the variable stays."""
    plan = make_plan(profile, BIG + 2 * PAGE, SIMPLE)
    assert [(m.at, m.to, m.before, m.offset) for m in plan.moves] == [(1, 1, 2, 0), (4, 0, 5, 0)]
    assert check(profile, plan) == []
    return plan


def tensor(plan: Plan, place: int, **changes: Any) -> Plan:
    tensors = list(plan.tensors)
    tensors[place] = tensors[place]._replace(**changes)
    return dataclasses.replace(plan, tensors=tensors)


def moves(plan: Plan, *changed: Move) -> Plan:
    """Replace the moves, and all fields that depend on them."""
    moved_bytes = sum(max(PAGE, move.size) for move in changed)
    predicted = {**plan.predicted, "moved_bytes": moved_bytes}
    waits = sorted({move.before for move in changed if move.to == 0})
    variable_bytes = PAGE * any(move.tensor is not None for move in changed)  # now migratable
    return dataclasses.replace(
        plan,
        moves=list(changed),
        predicted=predicted,
        waits=waits,
        migratable_budget=plan.migratable_budget + variable_bytes,
    )


def replace(**changes: Any) -> Callable[[Plan], Plan]:
    return lambda plan: dataclasses.replace(plan, **changes)


AWAY, BACK = Move(1, 1, 2, 0, BIG, None), Move(4, 0, 5, 0, BIG, None)
VARIABLE = 4  # its index in the plan
OUT, IN = Move(1, 1, 2, None, PAGE, VARIABLE), Move(6, 0, 7, None, PAGE, VARIABLE)

MUTATIONS: dict[str, tuple[Callable[[Plan], Plan], str]] = {
    "other graph": (replace(graph="0" * 64), "the plan is for another graph"),
    "other length": (replace(ops=8), "the plan is for another graph"),
    "over budget": (
        replace(migratable_budget=BIG - 1),
        "room: migratable units occupy 65536 bytes of fast memory at position 0",
    ),
    "reserved over budget": (
        replace(budget=100),
        "budget: 8192 bytes that never move and a `room` of 65536 exceed the 100 bytes",
    ),
    "reserved not in pages": (
        replace(reserved=5000, budget=1 << 20),
        "reserved: is not a multiple of the page size",
    ),
    "arena not in pages": (replace(arena=2 * BIG + 1), "arena: is not a multiple of the page size"),
    "arena too small": (replace(arena=BIG), f"arena: the groups exceed its {BIG} bytes"),
    "no interval": (replace(intervals=[]), "intervals: must begin with 0 and ascend"),
    "intervals not ascending": (replace(intervals=[0, 3, 2, 5]), "intervals: must begin with 0 and ascend"),
    "interval within a layer": (replace(intervals=[0, 1, 2, 3, 5]), "intervals: no layer begins at 1"),
    "interval beyond the step": (replace(intervals=[0, 2, 3, 5, 7]), "intervals: no layer begins at 7"),
    "wait within an interval": (replace(waits=[4, 5]), "waits: 4 is not the end of an interval"),
    "waits not ascending": (replace(waits=[5, 3]), "waits: must ascend"),
    "wrong moved bytes": (
        replace(predicted={"moved_bytes": 1}),
        f"predicted.moved_bytes: must be {2 * BIG}",
    ),
    "unknown tensor": (lambda p: tensor(p, 0, k=9), "tensors[0]: is not in the profile"),
    "other size": (lambda p: tensor(p, 0, size=7), "tensors[0]: is not in the profile"),
    "wrong position": (lambda p: tensor(p, 1, position=6), "tensors[1]: its operation is not at 6"),
    "duplicate": (lambda p: tensor(p, 1, op="op0", k=0), "tensors[1]: is a duplicate"),
    "long-lived in the reserved pool": (
        lambda p: tensor(p, 1, pool="short", offset=0),
        "tensors[1]: is in the reserved pool, but lives in more than one layer",
    ),
    "short-lived on node 1": (
        lambda p: tensor(p, 2, node=1),
        "tensors[2]: is on node 1, but the reserved pool is on node 0",
    ),
    "overlap in the reserved pool": (
        lambda p: tensor(p, 2, offset=64 + (p.tensors[3].offset or 0)),
        "while both live",
    ),
    "unaligned": (lambda p: tensor(p, 2, offset=2001), "its offset 2001 is not a multiple of 64"),
    "outside the pool": (lambda p: tensor(p, 2, offset=PAGE - 64), "is not inside the short pool of 4096"),
    "outside the arena": (
        lambda p: tensor(p, 1, offset=2 * BIG),
        f"is not inside the long pool of {2 * BIG}",
    ),
    "overlap in the arena": (
        lambda p: tensor(p, 1, offset=0),
        "overlaps op0 0 in the long pool while both live",
    ),
    "different layers in a group": (
        lambda p: tensor(p, 1, offset=0),
        "group 0: holds tensors with different sets",
    ),
    "empty group": (lambda p: tensor(p, 1, offset=0), f"group {BIG}: is empty"),
    "piece beside another tensor": (
        lambda p: tensor(p, 1, offset=BIG - 64),
        "group 0: holds a piece of one tensor and another tensor",
    ),
    "beyond its groups": (lambda p: tensor(p, 1, offset=BIG + 64), "op2 1: extends beyond its groups"),
    "born on another node": (lambda p: tensor(p, 1, node=1), "op2 1: is born on another node than its group"),
    "not freed": (
        lambda p: tensor(p, 0, op="op6", k=5, size=8),
        "tensors[0]: is not freed within the step",
    ),
    "variable with an offset": (lambda p: tensor(p, VARIABLE, offset=0), "is a variable, but has an offset"),
    "group not in pages": (
        replace(groups=[Group(0, BIG - 1, 0, False), Group(BIG, BIG, 0, False)]),
        "groups: the group at 0 is not in whole pages",
    ),
    "groups overlap": (
        replace(groups=[Group(0, BIG + PAGE, 0, False), Group(BIG, BIG, 0, False)]),
        f"groups: the group at {BIG} overlaps another",
    ),
    "no group": (replace(groups=[Group(0, BIG, 0, False)]), "op2 1: is in no group"),
    "move of no group": (
        lambda p: moves(p, AWAY._replace(offset=PAGE), BACK),
        "moves[0]: does not move one whole group",
    ),
    "move of a part": (
        lambda p: moves(p, AWAY._replace(size=PAGE), BACK),
        "moves[0]: does not move one whole group",
    ),
    "moves out of order": (lambda p: moves(p, BACK, AWAY), "moves[1]: is not in order of `at`"),
    "before not after at": (
        lambda p: moves(p, AWAY._replace(before=1), BACK),
        "moves[0]: `before` must be after `at`, and within the step",
    ),
    "before beyond the step": (
        lambda p: moves(p, OUT, AWAY, BACK, IN._replace(before=8)),
        "moves[3]: `before` must be after `at`, and within the step",
    ),
    "promotion without wait": (
        lambda p: dataclasses.replace(p, waits=[]),
        "moves[1]: is a promotion due at 5, which is not in `waits`",
    ),
    "move to its own node": (
        lambda p: moves(p, AWAY._replace(to=0, before=2), BACK),
        "is to node 0, where the unit is already",
    ),
    "move before birth": (
        lambda p: moves(p, AWAY._replace(at=0), BACK),
        "the move at 0 is before the last birth in the unit, or before the end of the previous move",
    ),
    "overlapping moves": (
        lambda p: moves(p, AWAY._replace(before=5), BACK),
        "the move at 4 is before the last birth in the unit, or before the end of the previous move",
    ),
    "move after death": (
        lambda p: moves(p, AWAY, Move(4, 0, 7, 0, BIG, None)),
        "the move at 4 ends after the unit's death",
    ),
    "use during a move": (
        lambda p: moves(p, AWAY, BACK._replace(before=6)),
        "group 0: the move at 4 is in progress during a use",
    ),
    "useless promotion": (
        lambda p: moves(p, AWAY, Move(2, 0, 3, 0, BIG, None), Move(3, 1, 5, 0, BIG, None)),
        "group 0: the move at 2 is useless: no use follows before the next move",
    ),
    "two units in fast memory": (
        lambda p: moves(p, AWAY._replace(before=3), BACK),
        "room: migratable units occupy 131072 bytes of fast memory at position 2",
    ),
    "variable does not return": (
        lambda p: moves(p, OUT, AWAY, BACK),
        "variable v4: is on node 1 after the step, but on 0 before it",
    ),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_broken_rule_is_reported(profile: Profile, plan: Plan, name: str) -> None:
    mutate, message = MUTATIONS[name]
    broken = check(profile, mutate(plan))
    assert any(message in rule for rule in broken), broken


def test_variable_can_return_for_the_next_step(profile: Profile, plan: Plan) -> None:
    assert check(profile, moves(plan, OUT, AWAY, BACK, IN)) == []


def test_unused_variable_must_not_return() -> None:
    tensors = [written_then_read(0, 5), written_then_read(2, 3), variable(n=7, size=PAGE)]
    unused = profiles.small(LAYERS, MEGA, tensors)
    plan = make_plan(unused, BIG + PAGE, SIMPLE)
    out, back = OUT._replace(tensor=2), IN._replace(tensor=2)
    plan = tensor(plan, 2, node=0)
    assert check(unused, plan) == []
    broken = check(unused, moves(plan, out, AWAY, BACK, back))
    assert broken == ["variable v2: the move at 6 is useless: no use follows before the next move"]


def test_tensor_of_another_thread_is_refused() -> None:
    profile = profiles.small(
        LAYERS, MEGA, [written_then_read(0, 5), {**written_then_read(2, 3), "thread": 1}]
    )
    plan = make_plan(profile, BIG, SIMPLE)
    assert [t.op for t in plan.tensors] == ["op0"]
    other = plan.tensors[0]._replace(op="op2", k=1, offset=0)
    broken = check(profile, dataclasses.replace(plan, tensors=[*plan.tensors, other]))
    assert broken == ["tensors[1]: has no key, because another thread allocated it"]


def test_fed_tensor_is_refused() -> None:
    fed = {"size": PAGE, "birth": -1, "death": 3, "uses": [[0, 1, 0]], "kind": "tensor", "name": "images"}
    profile = profiles.small(LAYERS, MEGA, [fed, written_then_read(0, 5)])
    plan = make_plan(profile, BIG, SIMPLE)
    fed_placement = plan.tensors[0]._replace(op=None, name="images", k=0, size=PAGE, offset=0)
    broken = check(profile, dataclasses.replace(plan, tensors=[fed_placement, *plan.tensors]))
    assert broken == ["tensors[0]: is from before the step, but is not a variable"]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_random_damage_to_a_large_plan_is_reported(data: st.DataObject) -> None:
    """Drop any move, overlap any two live tensors, or put any group on the other node."""
    profile, plan = _resnet_plan()
    damage = data.draw(st.sampled_from(["dropped move", "overlap", "wrong node"]))
    if damage == "dropped move":
        followed = [i for i in range(len(plan.moves)) if _is_followed(plan, i)]
        i = data.draw(st.sampled_from(followed))
        damaged = moves(plan, *plan.moves[:i], *plan.moves[i + 1 :])
    elif damage == "overlap":
        long = [i for i, t in enumerate(plan.tensors) if t.pool == "long" and t.offset is not None and t.size]
        a = data.draw(st.sampled_from(long))
        index = {profile.key(i): i for i in range(len(profile.tensors))}
        birth, death = profile.tensors.birth, profile.tensors.death
        moved = index[plan.tensors[a].key]

        def lives_with_a(place: int) -> bool:
            i = index[plan.tensors[place].key]
            return bool(birth[i] < death[moved] and birth[moved] < death[i])

        b = data.draw(st.sampled_from([place for place in long if lives_with_a(place)]))
        other = plan.tensors[b].offset
        damaged = tensor(plan, a, offset=(other or 0) + (64 if a == b else 0) + (1 << 30) * (a == b))
    else:
        groups = list(plan.groups)
        migrating = {move.offset for move in plan.moves}
        i = data.draw(st.sampled_from([i for i, group in enumerate(groups) if group.offset in migrating]))
        groups[i] = groups[i]._replace(node=1 - groups[i].node)
        damaged = dataclasses.replace(plan, groups=groups)
    assert check(profile, damaged) != []


@functools.cache
def _resnet_plan() -> tuple[Profile, Plan]:
    profile = networks.resnet()
    figures = Figures(nodes=(Memory(100, 105, 85), Memory(305, 39.4, 13.9)))
    return profile, make_plan(profile, 3 << 20, figures, fast_step_ns=7.6e6)


def _is_followed(plan: Plan, i: int) -> bool:
    """Return whether the same pages move again later, so that the plan breaks without move `i`."""
    move = plan.moves[i]
    return any((m.offset, m.tensor) == (move.offset, move.tensor) for m in plan.moves[i + 1 :])
