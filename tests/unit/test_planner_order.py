# SPDX-License-Identifier: Apache-2.0
"""Operations whose inputs are there long before they run: their tensors have no certain time of birth."""

from __future__ import annotations

import dataclasses
from typing import Literal

import pytest

from sentinel.planner.check import check
from sentinel.planner.formats.profile import Profile
from sentinel.planner.memory import order
from sentinel.planner.search import make_plan
from tests.fakes import profiles
from tests.fakes.profiles import BIG, OPTANE, variable, written_then_read

N = 120
LATE = order.PUNCTUAL + 20  # a position so late that an operation without inputs floats there


@pytest.fixture
def step() -> Profile:
    """Tensors: of a chain of operations, of one that floats, of what follows it, and a variable."""
    chain = [written_then_read(p, p + 2 if p + 1 == LATE else p + 1) for p in range(N - 1) if p != LATE]
    floating = written_then_read(LATE, 100)
    after = written_then_read(101, 110)
    floating["uses"].append([101, 1, 0])
    floating["death"] = 102
    return profiles.small(
        [p // 4 for p in range(N)], [10**6] * N, [floating, after, variable(0, N - 1, n=N), *chain]
    )


def test_floating_operation_may_run_at_any_time_before_the_first_use(step: Profile) -> None:
    born = order.births(step)
    assert (born.earliest[0], born.ready[0]) == (0, 100)


def test_operation_that_runs_when_its_inputs_are_there_has_its_place(step: Profile) -> None:
    born = order.births(step)
    assert (born.earliest[1], born.ready[1]) == (101, 102)
    assert (born.earliest[2], born.ready[2]) == (0, 0)  # the variable
    assert born.earliest[3:].tolist() == [p for p in range(N - 1) if p != LATE]


def test_operation_that_reads_what_was_written_late_does_not_float() -> None:
    overwritten = written_then_read(0, LATE - 1, LATE)
    overwritten["uses"][1] = [LATE - 1, 0, 1]
    rows = [overwritten, written_then_read(LATE, LATE + 1)]
    chain = [written_then_read(p, p + 1) for p in range(LATE - 1)]
    late = profiles.small([0] * N, [10**6] * N, [*rows, *chain])
    assert order.births(late).earliest[:2].tolist() == [0, LATE]


@pytest.mark.parametrize("mechanism", ["move_pages", "frames"])
def test_plans_leave_space_for_a_floating_tensor_all_the_time(
    step: Profile, mechanism: Literal["move_pages", "frames"]
) -> None:
    figures = dataclasses.replace(OPTANE, migration_cores=4, remap_ns=100)
    plan = make_plan(step, 3 * BIG, figures, spill=True, mechanism=mechanism)
    assert check(step, plan) == []
    places = {(t.op, t.k): t for t in plan.tensors}
    tensor = places[f"op{LATE}", 0]
    assert tensor.offset is not None
    group = next(g for g in plan.groups if g.offset <= tensor.offset < g.offset + g.size)
    assert all(move.offset != group.offset for move in plan.moves)
    for other in plan.tensors:
        if other is tensor or other.pool != tensor.pool or other.offset is None or tensor.node:
            continue
        born = int((other.op or "op0").removeprefix("op"))
        if born < 100:
            assert other.offset + other.size <= tensor.offset or tensor.offset + tensor.size <= other.offset


def test_floating_tensors_share_pages_only_with_those_of_the_same_layers() -> None:
    """Otherwise they could not migrate together."""
    small = [written_then_read(LATE + 4 * i, 100 + 4 * i, size=64) for i in range(3)]
    long = [written_then_read(p, 100 - p) for p in range(0, 30, 3)]
    births = {tensor["birth"] for tensor in (*small, *long)}
    chain = [written_then_read(p, p + 1) for p in range(N - 1) if p not in births and p + 1 not in births]
    step = profiles.small([p // 4 for p in range(N)], [10**6] * N, [*small, *long, *chain])
    assert all(order.births(step).floats[: len(small)])
    plan = make_plan(step, 30 * BIG, OPTANE, policy="sentinel")
    assert any(not group.keep and group.size < BIG for group in plan.groups)
    assert check(step, plan) == []
