# SPDX-License-Identifier: Apache-2.0
"""Variables in the plans of kinds of steps that alternate."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from sentinel.planner import __main__ as program
from sentinel.planner import joint
from sentinel.planner.check import check
from sentinel.planner.errors import BudgetError
from sentinel.planner.formats import figures as figures_format
from sentinel.planner.formats import files
from sentinel.planner.formats.figures import Figures
from sentinel.planner.formats.plan import Plan
from sentinel.planner.formats.profile import Profile
from sentinel.planner.joint import Kind
from sentinel.planner.memory import classify
from sentinel.planner.search import make_plan
from tests.fakes import networks, profiles
from tests.fakes.profiles import BIG, LAYERS, MEGA, SIMPLE, variable

DEAR = dataclasses.replace(SIMPLE, page_move_ns=100_000)
FIRST = [variable(0, 1, 2, 3, n=7), variable(4, n=7)]  # reads v0 four times and v1 once
SECOND = [variable(0, n=7), variable(1, 2, 3, n=7)]  # reads v0 once and v1 three times


def step(tensors: list[dict[str, Any]]) -> Profile:
    return profiles.small(LAYERS, MEGA, tensors)


def plan_all(steps: dict[str, Profile], figures: Figures, budget: int = BIG) -> dict[str, Plan]:
    """Plan each kind by itself, then all together."""

    def make(resident: frozenset[str] | None = None) -> dict[str, Plan]:
        plans = {
            name: make_plan(profile, budget, figures, resident=resident) for name, profile in steps.items()
        }
        assert all(check(steps[name], plan) == [] for name, plan in plans.items())
        return plans

    kinds = {name: Kind(steps[name], None, plan) for name, plan in make().items()}
    return joint.replan(kinds, figures, make)


def fast(plan: Plan) -> set[str | None]:
    return {tensor.name for tensor in plan.tensors if tensor.offset is None and tensor.node == 0}


def test_kinds_share_the_variables_if_changes_are_dear() -> None:
    """Both steps together read v0 five times and v1 four times."""
    plans = plan_all({"a": step(FIRST), "b": step(SECOND)}, DEAR)
    assert [fast(plan) for plan in plans.values()] == [{"v0"}, {"v0"}]
    fast_step_ns = 7 * 10**6 - 5 * BIG * 3
    assert plans["a"].predicted["fast_ns"] == fast_step_ns
    assert plans["a"].predicted["step_ns"] == fast_step_ns + BIG * 3
    assert plans["b"].predicted["step_ns"] == 7 * 10**6 - BIG * 3


def test_kinds_keep_their_own_variables_if_changes_are_cheap() -> None:
    hot = {**variable(n=7), "uses": [[p, 3, 0] for p in range(7)]}
    reads = [hot, variable(n=7)]
    cheap = dataclasses.replace(SIMPLE, page_move_ns=1)
    plans = plan_all({"a": step(reads), "b": step(reads[::-1])}, cheap)
    assert [fast(plan) for plan in plans.values()] == [{"v0"}, {"v1"}]


def test_kinds_that_agree_are_not_planned_again() -> None:
    plan = make_plan(step(FIRST), BIG, DEAR)
    kinds = {name: Kind(step(FIRST), None, plan) for name in "ab"}
    plans = joint.replan(kinds, DEAR, lambda _: pytest.fail("planned again"))
    assert plans == {"a": plan, "b": plan}
    assert joint.replan({}, DEAR, lambda _: pytest.fail("planned again")) == {}


def test_a_variable_of_one_kind_stays_slow_if_it_would_have_to_leave() -> None:
    """The second kind does not use v1: it would be promoted and demoted for each step of the first."""
    first = step([variable(0, n=7), variable(1, 2, 3, n=7)])
    second = step([variable(0, n=7)])
    plans = plan_all({"a": first, "b": second}, DEAR)
    assert [fast(plan) for plan in plans.values()] == [{"v0"}, {"v0"}]


def test_own_plans_stay_if_the_shared_variables_leave_too_little_space() -> None:
    kinds = {
        name: Kind(step(tensors), None, make_plan(step(tensors), BIG, DEAR))
        for name, tensors in (("a", FIRST), ("b", SECOND))
    }

    def below_floor(_: frozenset[str]) -> dict[str, Plan]:
        raise BudgetError("below the floor", floor=2 * BIG)

    plans = joint.replan(kinds, DEAR, below_floor)
    assert [fast(plan) for plan in plans.values()] == [{"v0"}, {"v1"}]


def test_the_floor_counts_resident_variables() -> None:
    tensors = [*FIRST, profiles.written_then_read(0, 5)]
    with pytest.raises(BudgetError, match=rf"{BIG} for variables, 0 for short-lived") as caught:
        make_plan(step(tensors), BIG, DEAR, resident=frozenset(["v0"]))
    assert caught.value.floor == 2 * BIG
    plan = make_plan(step(tensors), 2 * BIG, DEAR, resident=frozenset(["v0"]))
    assert check(step(tensors), plan) == []
    assert fast(plan) == {"v0"}


@pytest.mark.parametrize(("network", "share"), [(networks.resnet, 0.6), (networks.lstm, 0.3)])
def test_resident_variables_neither_move_nor_exceed_the_budget(network: Any, share: float) -> None:
    profile = network()
    variables = [name for name in profile.tensors.name if name is not None]
    resident = frozenset(variables[::3])
    plan = make_plan(profile, int(share * classify.peak(profile)), DEAR, spill=True, resident=resident)
    assert check(profile, plan) == []
    planned = {t.name for t in plan.tensors if t.name is not None}
    assert fast(plan) == resident & planned
    assert not [move for move in plan.moves if move.tensor is not None]


def test_program_plans_kinds_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "figures.json").write_text(json.dumps(figures_format.encode(DEAR)))
    paths = []
    for name, tensors in (("a", FIRST), ("b", SECOND)):
        paths.append(tmp_path / f"{name}.json")
        paths[-1].write_text(json.dumps(profiles.value(LAYERS, MEGA, tensors)))
    (tmp_path / "plans").mkdir()
    words = ["--budget", str(BIG), "--figures", str(tmp_path / "figures.json"), "-o", str(tmp_path / "plans")]
    assert program.main([*map(str, paths), *words]) == 0
    assert json.loads(capsys.readouterr().out)["errors"] == {}
    assert [fast(files.read_plan(tmp_path / "plans" / path.name)) for path in paths] == [{"v0"}, {"v0"}]
    assert program.main([*map(str, paths), *words, "--policy", "sentinel"]) == 0
