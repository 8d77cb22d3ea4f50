# SPDX-License-Identifier: Apache-2.0
"""The guest's check of profiles agrees with the planner's."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.planner.errors import FormatError
from sentinel.planner.formats import profile, profile_json
from tests.fakes import profiles
from tests.fakes.guest import load

unplannable = load("guest.bindings.profile_check").unplannable


def agree(value: dict[str, Any]) -> bool:
    """Return whether the planner accepts the profile; the guest must agree."""
    try:
        profile_json.parse(value)
    except FormatError:
        assert unplannable(value) is not None
        return False
    assert unplannable(value) is None
    return True


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**6))
def test_valid_profiles_are_accepted(seed: int) -> None:
    assert agree(profiles.random_value(seed))
    assert agree(profiles.wild_value(seed))


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 10**6))
def test_invalid_profiles_are_refused_as_by_the_planner(seed: int) -> None:
    r = random.Random(seed)  # noqa: S311
    value = profiles.wild_value(seed)
    ops, n = value["ops"], len(value["ops"]["name"])
    for _ in range(r.choice((1, 1, 3))):
        column = r.choice(("begin_ns", "end_ns"))
        ops[column] = [*ops[column]]
        if r.random() < 0.2:
            ops[column][r.randrange(n)] = r.choice((0, 10**6, 10**15))
        if not value["tensors"]:
            continue
        tensor = r.choice(value["tensors"])
        name = r.choice(("op", "birth", "death", "kind", "uses", "k", "name"))
        if name in ("op", "birth", "death"):
            tensor[name] = r.choice((-1, 0, tensor[name] + 1, n - 1)) if name != "death" else r.randint(0, n)
        elif name == "kind":
            tensor["kind"] = r.choice(profile.KINDS)
        elif name == "uses":
            tensor["uses"] = [[r.randrange(n), 1, 0] for _ in range(r.randint(1, 3))]
        elif name == "k":
            tensor.update(k=0, size=64)
        else:
            tensor["name"] = r.choice((None, "", "v"))
    agree(value)


def test_an_empty_lifetime_is_refused() -> None:
    value = profiles.random_value(3)
    assert value["tensors"]
    value["tensors"][0]["death"] = value["tensors"][0]["birth"]
    assert not agree(value)


def test_clocks_of_several_vcpus_are_reported() -> None:
    value = profiles.value([0, 0], [10, 10], [])
    value["ops"]["begin_ns"] = [10, 0]
    assert not agree(value)
    reason = "operation 1 (op1) begins before the one before it"
    clocks = ", as the clocks of vCPUs differ: call timing_client.compute() before the first session"
    assert unplannable(value) == reason + clocks
    assert unplannable({**value, "clock": "guest"}) == reason


@pytest.mark.parametrize(
    ("clock", "reason"),
    [("model", "call timing_client.region_begin() before the first step"), ("guest", "took 0 ns")],
)
def test_a_step_of_0_ns_is_refused_with_the_reason(clock: str, reason: str) -> None:
    value = {**profiles.random_value(3), "step_ns": 0, "clock": clock}
    assert not agree(value)
    assert reason in unplannable(value)
