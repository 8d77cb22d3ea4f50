# SPDX-License-Identifier: Apache-2.0
"""Estimated savings against exact ones: of tensors from a trace, of operations from two profiles."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from results.accuracy import Accuracy, compare, overlap, rank_correlation
from sentinel.planner.formats.profile import Profile
from sentinel.planner.timing.cost import estimate_costs
from tests.fakes.profiles import BIG, LAYERS, MEGA, PAGE, SIMPLE, small, variable, written_then_read


@pytest.fixture
def step() -> Profile:
    """Three tensors of different sizes, a variable, and one smaller than a page."""
    tensors = [
        written_then_read(0, 3),
        written_then_read(1, 6, size=2 * BIG),
        variable(0, 6, n=7),
        written_then_read(2, 5, size=4 * BIG),
        written_then_read(2, 5, size=PAGE // 2),
    ]
    return small(LAYERS, MEGA, tensors)


def with_savings(step: Profile, factors: list[float]) -> Profile:
    """The profile with exact savings: the estimates times a factor of each tensor."""
    estimated = estimate_costs(step, SIMPLE).saved_ns
    saved_ns = estimated * np.array(factors)[step.uses.tensor]
    return dataclasses.replace(step, uses=dataclasses.replace(step.uses, saved_ns=saved_ns))


def test_right_estimates_are_told_from_wrong_ones(step: Profile) -> None:
    right = compare(with_savings(step, [0.5] * 5), SIMPLE)
    assert right is not None
    assert (right.subject, len(right.size)) == ("tensors", 4)  # the small one shares its page
    assert right.ratio == pytest.approx(2)
    assert right.common == pytest.approx(1)
    assert right.hottest == pytest.approx(1)
    wrong = compare(with_savings(step, [1, 0, 1, 0, 1]), SIMPLE)
    assert wrong is not None
    estimated = estimate_costs(step, SIMPLE).saved_ns
    by_tensor = np.bincount(step.uses.tensor, weights=estimated)[:4]
    assert wrong.common == pytest.approx(by_tensor[[0, 2]].sum() / by_tensor.sum())
    assert wrong.ratio == pytest.approx(by_tensor.sum() / by_tensor[[0, 2]].sum())


def test_two_profiles_tell_what_operations_save() -> None:
    step = small(
        LAYERS, [10 * ns for ns in MEGA], [written_then_read(0, 3), written_then_read(1, 6, size=2 * BIG)]
    )
    saved_ns = estimate_costs(step, SIMPLE).op_saved_ns
    fast_ns = (step.ops.slot_ns - saved_ns).astype(np.int64)
    fast_ns[3] = -1  # not known
    both = dataclasses.replace(step, ops=dataclasses.replace(step.ops, fast_ns=fast_ns))
    found = compare(both, SIMPLE)
    assert found is not None
    assert found.subject == "operations"
    assert len(found.size) == np.count_nonzero(saved_ns) - 1 == 3
    assert found.ratio == pytest.approx(1, abs=1e-5)
    assert found.correlation == pytest.approx(1)


def test_one_profile_has_nothing_to_compare_with(step: Profile) -> None:
    assert compare(step, SIMPLE) is None


def test_nothing_saved_has_no_accuracy() -> None:
    zero, some = np.zeros(3), np.ones(3)
    nothing = Accuracy("tensors", some, zero, zero)
    assert all(math.isnan(x) for x in (nothing.ratio, nothing.common, nothing.correlation))
    assert math.isnan(Accuracy("tensors", some, zero, some).common)


def test_statistics() -> None:
    one, other = np.array([1.0, 2.0, 3.0, 4.0]), np.array([10.0, 20.0, 40.0, 30.0])
    assert rank_correlation(one, one) == pytest.approx(1)
    assert rank_correlation(one, -one) == pytest.approx(-1)
    assert rank_correlation(one, other) == pytest.approx(0.8)
    size = np.full(4, 5.0)  # the hottest fifth is four bytes of one of them
    assert overlap(one, other, size) == 0
    assert overlap(one, one, size) == 1
