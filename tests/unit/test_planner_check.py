# SPDX-License-Identifier: Apache-2.0
"""The judge of plans: sound ones pass (test_planner_search.py), and each broken rule is found."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.planner.check import check
from sentinel.planner.formats.figures import Figures, Memory
from sentinel.planner.formats.plan import Group, Move, Plan
from sentinel.planner.formats.profile import Profile
from sentinel.planner.search import make
from tests.fakes import profiles
from tests.unit.test_planner_search import BIG, MEGA, SIMPLE, variable, written_then_read

PAGE = profiles.PAGE
LAYERS = [0, 0, 1, 2, 2, 3, 3]


@pytest.fixture(scope="module")
def profile() -> Profile:
    return profiles.small(
        LAYERS,
        MEGA,
        [
            written_then_read(0, 5),  # in the long pool: A
            written_then_read(2, 3),  # and B, of other layers, where A has to make room
            written_then_read(0, size=300),  # two that are short, and live together
            {**written_then_read(0, size=300), "death": 2},
            variable(0, 2, 3, 5, n=7, size=PAGE),
            written_then_read(6, size=8),  # outlives the step: not in the plan
        ],
    )


@pytest.fixture
def plan(profile: Profile) -> Plan:
    """A at 0, B at BIG; A leaves for B and comes back; the variable stays."""
    plan = make(profile, BIG + 2 * PAGE, SIMPLE)
    assert [(m.at, m.to, m.before, m.offset) for m in plan.moves] == [(1, 1, 2, 0), (4, 0, 5, 0)]
    assert check(profile, plan) == []
    return plan


def tensor(plan: Plan, place: int, **changes: Any) -> Plan:
    tensors = list(plan.tensors)
    tensors[place] = tensors[place]._replace(**changes)
    return dataclasses.replace(plan, tensors=tensors)


def moves(plan: Plan, *changed: Move) -> Plan:
    """With other moves, and their bytes told right."""
    total = sum(max(PAGE, move.size) for move in changed)
    predicted = {**plan.predicted, "moved_bytes": total}
    waits = sorted({move.before for move in changed if move.to == 0})
    room = plan.room + PAGE * any(move.tensor is not None for move in changed)  # it no longer stays
    return dataclasses.replace(plan, moves=list(changed), predicted=predicted, waits=waits, room=room)


def replace(**changes: Any) -> Callable[[Plan], Plan]:
    return lambda plan: dataclasses.replace(plan, **changes)


AWAY, BACK = Move(1, 1, 2, 0, BIG, None), Move(4, 0, 5, 0, BIG, None)
VARIABLE = 4  # its place in the plan
OUT, IN = Move(1, 1, 2, None, PAGE, VARIABLE), Move(6, 0, 7, None, PAGE, VARIABLE)

MUTATIONS: dict[str, tuple[Callable[[Plan], Plan], str]] = {
    "other graph": (replace(graph="0" * 64), "the plan is for another graph"),
    "other length": (replace(ops=8), "the plan is for another graph"),
    "over budget": (replace(room=BIG - 1), "room: 65536 bytes of fast memory are taken at position 0"),
    "reserved over budget": (
        replace(budget=100),
        "budget: of 100 bytes of fast memory are 8192 bytes that never move, and room for 65536",
    ),
    "reserved in parts": (replace(reserved=5000, budget=1 << 20), "reserved: is not in whole pages"),
    "arena in parts": (replace(arena=2 * BIG + 1), "arena: is not in whole pages"),
    "arena too small": (replace(arena=BIG), f"arena: {BIG} bytes do not hold its groups"),
    "no interval": (replace(intervals=[]), "intervals: must begin with 0 and rise"),
    "intervals fall": (replace(intervals=[0, 3, 2, 5]), "intervals: must begin with 0 and rise"),
    "interval in a layer": (replace(intervals=[0, 1, 2, 3, 5]), "intervals: no layer begins at 1"),
    "interval after the step": (replace(intervals=[0, 2, 3, 5, 7]), "intervals: no layer begins at 7"),
    "wait anywhere": (replace(waits=[4, 5]), "waits: 4 is not the end of an interval"),
    "waits fall": (replace(waits=[5, 3]), "waits: must rise"),
    "bytes told wrong": (
        replace(predicted={"moved_bytes": 1}),
        f"predicted.moved_bytes: is not the {2 * BIG}",
    ),
    "unknown tensor": (lambda p: tensor(p, 0, k=9), "tensors[0]: is not in the profile"),
    "other size": (lambda p: tensor(p, 0, size=7), "tensors[0]: is not in the profile"),
    "another position": (lambda p: tensor(p, 1, position=6), "tensors[1]: its operation is not at 6"),
    "twice": (lambda p: tensor(p, 1, op="op0", k=0), "tensors[1]: is there twice"),
    "long in the short pool": (
        lambda p: tensor(p, 1, pool="short", offset=0),
        "tensors[1]: is in the reserved pool, and lives in more than one layer",
    ),
    "short on the slow node": (lambda p: tensor(p, 2, node=1), "tensors[2]: the reserved pool is on node 0"),
    "short ones overlap": (lambda p: tensor(p, 2, offset=64 + (p.tensors[3].offset or 0)), "while both live"),
    "unaligned": (lambda p: tensor(p, 2, offset=2001), "its offset 2001 is no multiple of 64"),
    "outside the pool": (lambda p: tensor(p, 2, offset=PAGE - 64), "is not inside the short pool of 4096"),
    "outside the arena": (
        lambda p: tensor(p, 1, offset=2 * BIG),
        f"is not inside the long pool of {2 * BIG}",
    ),
    "long ones overlap": (
        lambda p: tensor(p, 1, offset=0),
        "overlaps op0 0 in the long pool while both live",
    ),
    "different layers in a group": (lambda p: tensor(p, 1, offset=0), "group 0: tensors with different sets"),
    "empty group": (lambda p: tensor(p, 1, offset=0), f"group {BIG}: there is nothing in it"),
    "in two groups, of which one is another's": (
        lambda p: tensor(p, 1, offset=BIG - 64),
        "group 0: is a piece of one tensor, and there is another in it",
    ),
    "beyond its groups": (lambda p: tensor(p, 1, offset=BIG + 64), "op2 1: goes beyond its groups"),
    "born elsewhere": (lambda p: tensor(p, 1, node=1), "op2 1: is born on another node than its group"),
    "outlives the step": (lambda p: tensor(p, 0, op="op6", k=5, size=8), "tensors[0]: may outlive the step"),
    "placed variable": (lambda p: tensor(p, VARIABLE, offset=0), "a variable has a place in the arena"),
    "group in parts": (
        replace(groups=[Group(0, BIG - 1, 0, False), Group(BIG, BIG, 0, False)]),
        "groups: the one at 0 is not in whole pages",
    ),
    "groups overlap": (
        replace(groups=[Group(0, BIG + PAGE, 0, False), Group(BIG, BIG, 0, False)]),
        f"groups: the one at {BIG} overlaps another",
    ),
    "no group": (replace(groups=[Group(0, BIG, 0, False)]), "op2 1: is in no group"),
    "moves of nothing": (
        lambda p: moves(p, AWAY._replace(offset=PAGE), BACK),
        "moves[0]: is not of one group",
    ),
    "moves of a part": (lambda p: moves(p, AWAY._replace(size=PAGE), BACK), "moves[0]: is not of one group"),
    "moves out of order": (lambda p: moves(p, BACK, AWAY), "moves[1]: is not in order of `at`"),
    "done before it is given": (
        lambda p: moves(p, AWAY._replace(before=1), BACK),
        "moves[0]: must be there after it is given, and in the step",
    ),
    "done after the step": (
        lambda p: moves(p, OUT, AWAY, BACK, IN._replace(before=8)),
        "moves[3]: must be there after it is given, and in the step",
    ),
    "not waited for": (
        lambda p: dataclasses.replace(p, waits=[]),
        "moves[1]: a promotion is due at 5, where nobody waits for it",
    ),
    "moves to where it is": (
        lambda p: moves(p, AWAY._replace(to=0, before=2), BACK),
        "is to node 0, where it is",
    ),
    "moves before it is born": (
        lambda p: moves(p, AWAY._replace(at=0), BACK),
        "the move at 0 is given before all of it is born, or the move before is over",
    ),
    "comes back before it has left": (
        lambda p: moves(p, AWAY._replace(before=5), BACK),
        "the move at 4 is given before all of it is born, or the move before is over",
    ),
    "moves when it is dead": (
        lambda p: moves(p, AWAY, Move(4, 0, 7, 0, BIG, None)),
        "the move at 4 is still under way when it is dead",
    ),
    "used under way": (
        lambda p: moves(p, AWAY, BACK._replace(before=6)),
        "group 0: the move at 4 is under way when it is used",
    ),
    "promoted for nothing": (
        lambda p: moves(p, AWAY, Move(2, 0, 3, 0, BIG, None), Move(3, 1, 5, 0, BIG, None)),
        "group 0: the move at 2 is for nothing: it is not used before it leaves",
    ),
    "both under way": (
        lambda p: moves(p, AWAY._replace(before=3), BACK),
        "room: 131072 bytes of fast memory are taken at position 2",
    ),
    "does not come back": (
        lambda p: moves(p, OUT, AWAY, BACK),
        "variable v4: is on node 1 after the step, and on 0 before it",
    ),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_broken_rule_is_found(profile: Profile, plan: Plan, name: str) -> None:
    mutate, message = MUTATIONS[name]
    found = check(profile, mutate(plan))
    assert any(message in problem for problem in found), found


def test_a_variable_may_come_back_for_the_next_step(profile: Profile, plan: Plan) -> None:
    assert check(profile, moves(plan, OUT, AWAY, BACK, IN)) == []


def test_it_does_not_come_back_if_nobody_uses_it(plan: Plan) -> None:
    tensors = [written_then_read(0, 5), written_then_read(2, 3), variable(n=7, size=PAGE)]
    unused = profiles.small(LAYERS, MEGA, tensors)
    made = make(unused, BIG + PAGE, SIMPLE)
    out, back = OUT._replace(tensor=2), IN._replace(tensor=2)
    made = tensor(made, 2, node=0)
    assert check(unused, made) == []
    found = check(unused, moves(made, out, AWAY, BACK, back))
    assert found == ["variable v2: the move at 6 is for nothing: it is not used before it leaves"]


def test_what_another_thread_allocated_has_no_place() -> None:
    profile = profiles.small(
        LAYERS, MEGA, [written_then_read(0, 5), {**written_then_read(2, 3), "thread": 1}]
    )
    made = make(profile, BIG, SIMPLE)
    assert [t.op for t in made.tensors] == ["op0"]
    other = made.tensors[0]._replace(op="op2", k=1, offset=0)
    found = check(profile, dataclasses.replace(made, tensors=[*made.tensors, other]))
    assert found == ["tensors[1]: was allocated by another thread, and has no key"]


def test_what_is_from_before_the_step_and_no_variable_has_no_place() -> None:
    fed = {"size": PAGE, "birth": -1, "death": 3, "uses": [[0, 1, 0]], "kind": "tensor", "name": "images"}
    profile = profiles.small(LAYERS, MEGA, [fed, written_then_read(0, 5)])
    made = make(profile, BIG, SIMPLE)
    placed = made.tensors[0]._replace(op=None, name="images", k=0, size=PAGE, offset=0)
    found = check(profile, dataclasses.replace(made, tensors=[placed, *made.tensors]))
    assert found == ["tensors[0]: is from before the step, and no variable"]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_random_harm_to_a_large_plan_is_found(data: st.DataObject) -> None:
    """Any one move left out, any two tensors in one place while both live, any group on the other node."""
    made = profiles.resnet()
    figures = Figures(nodes=(Memory(100, 105, 85), Memory(305, 39.4, 13.9)))
    plan = _large(made, figures)
    harm = data.draw(st.sampled_from(["leave out", "elsewhere", "wrong node"]))
    if harm == "leave out":
        away = [i for i, move in enumerate(plan.moves) if _is_followed(plan, i)]
        i = data.draw(st.sampled_from(away))
        harmed = moves(plan, *plan.moves[:i], *plan.moves[i + 1 :])
    elif harm == "elsewhere":
        long = [i for i, t in enumerate(plan.tensors) if t.pool == "long" and t.offset is not None and t.size]
        a = data.draw(st.sampled_from(long))
        index = {made.key(i): i for i in range(len(made.tensors))}
        birth, death = made.tensors.birth, made.tensors.death
        here = index[plan.tensors[a].key]

        def living(place: int) -> bool:
            i = index[plan.tensors[place].key]
            return bool(birth[i] < death[here] and birth[here] < death[i])

        b = data.draw(st.sampled_from([place for place in long if living(place)]))
        other = plan.tensors[b].offset
        harmed = tensor(plan, a, offset=(other or 0) + (64 if a == b else 0) + (1 << 30) * (a == b))
    else:
        groups = list(plan.groups)
        moved = {move.offset for move in plan.moves}
        i = data.draw(st.sampled_from([i for i, group in enumerate(groups) if group.offset in moved]))
        groups[i] = groups[i]._replace(node=1 - groups[i].node)
        harmed = dataclasses.replace(plan, groups=groups)
    assert check(made, harmed) != []


_MADE: dict[int, Plan] = {}


def _large(made: Profile, figures: Figures) -> Plan:
    if not _MADE:
        _MADE[0] = make(made, 3 << 20, figures, fast_step_ns=7.6e6)
    return _MADE[0]


def _is_followed(plan: Plan, i: int) -> bool:
    """Whether the same pages move again later: then leaving the move out cannot be right."""
    move = plan.moves[i]
    return any((m.offset, m.tensor) == (move.offset, move.tensor) for m in plan.moves[i + 1 :])
