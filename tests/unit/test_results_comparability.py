# SPDX-License-Identifier: Apache-2.0
"""Step times are not compared if something else than the change under test may explain a difference."""

from __future__ import annotations

from typing import Any

import pytest

from results import comparability, losses
from results.sides import Side, SideCell
from tests.fakes.sides import measured, measured_cell, side_cell

EQUAL = losses.Check("cnn", "equal", "")
TIMES = [1.0, 1.01, 0.99]


def reasons(a: SideCell, b: SideCell, check: losses.Check = EQUAL, **options: Any) -> list[str]:
    return comparability.reasons(a, b, check, **options)


def test_equal_circumstances_permit_a_verdict() -> None:
    assert reasons(side_cell(TIMES), side_cell(TIMES)) == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"accelerator": "kvm"}, "the accelerators differ (A tcg; B kvm)"),
        ({"nodes_alike": True}, "both nodes are equally fast in B"),
        ({"throttle": "none"}, "both nodes are equally fast in B"),
        ({"calibration": "missing"}, "the calibration is missing in B"),
        ({"calibration": "failed"}, "the calibration is failed in B"),
        ({"paced_reliably": False}, "the pacing was unreliable in B"),
    ],
)
def test_origin_can_forbid_a_verdict(change: dict[str, Any], reason: str) -> None:
    assert reasons(side_cell(TIMES), side_cell(TIMES, origin=change)) == [reason]


@pytest.mark.parametrize("change", [{"cpu": "Xeon"}, {"cpus": 4}])
def test_hosts_matter_for_the_guest_clock_only(change: dict[str, Any]) -> None:
    assert reasons(side_cell(TIMES), side_cell(TIMES, origin=change)) == []
    (reason,) = reasons(side_cell(TIMES, clock="guest"), side_cell(TIMES, clock="guest", origin=change))
    assert reason.startswith("the hosts differ")


@pytest.mark.parametrize("change", [{"kernel": "0ther"}, {"commit": "abc"}, {"runtime": "0ther"}])
def test_builds_may_differ_between_the_sides(change: dict[str, Any]) -> None:
    assert reasons(side_cell(TIMES), side_cell(TIMES, origin=change)) == []


@pytest.mark.parametrize(
    ("field", "name"), [("kernel", "kernel"), ("image", "image"), ("runtime", "runtime"), ("qemu", "QEMU")]
)
def test_builds_must_not_be_mixed_within_a_side(field: str, name: str) -> None:
    change: dict[str, Any] = {field: "0ther"}
    mixed = Side.of_results(
        "both", [measured(measured_cell(TIMES)), measured(measured_cell(TIMES), day=2, **change)]
    )
    assert reasons(side_cell(TIMES), mixed.cells[0]) == [f"repeats of several builds: {name} in B"]


def test_clocks_must_not_differ() -> None:
    assert reasons(side_cell(TIMES), side_cell(TIMES, clock="guest")) == [
        "the clocks differ (A model, B guest)"
    ]


def test_presets_must_have_the_same_figures() -> None:
    a, b = (side_cell(TIMES, preset={"page": page, "nodes": [1, 2]}) for page in ("1500 ns", "1600 ns"))
    assert reasons(a, b) == ["the figures of the presets differ (page)"]
    assert reasons(a, b, across=["preset"]) == []
    assert reasons(a, side_cell(TIMES)) != []


def test_losses_must_not_differ() -> None:
    check = losses.Check("cnn", "differ", "at step 0 A has 1, B has 2")
    assert reasons(side_cell(TIMES), side_cell(TIMES), check) == [
        "the losses differ (at step 0 A has 1, B has 2)"
    ]
    assert reasons(side_cell(TIMES), side_cell(TIMES), check, across=["losses"]) == []


def test_missing_steps_are_the_only_reason_given() -> None:
    other = side_cell(TIMES, origin={"accelerator": "kvm"})
    assert reasons(other, side_cell([])) == ["no measured steps in B"]


def test_clocks_and_measurability_cannot_be_accepted() -> None:
    assert not {"clock", "nodes", "pacing"} & set(comparability.ACCEPTABLE)
