# SPDX-License-Identifier: Apache-2.0
"""Intervals of ratios keep their level for few repeats, and use a known spread as long as it holds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from results.intervals import Estimate, Spread, difference, disagrees, holm, mean, pooled, quantile


def test_difference_is_welchs() -> None:
    """The example of equal sizes and unequal variances, computed by hand from Welch's formulas."""
    estimate = difference([1.0, 2.0, 3.0], [2.0, 6.0, 10.0])
    assert estimate.value == 4.0
    assert estimate.error == pytest.approx(math.sqrt(1 / 3 + 16 / 3))
    assert estimate.freedom == pytest.approx((17 / 3) ** 2 / ((1 / 3) ** 2 / 2 + (16 / 3) ** 2 / 2))


def test_p_value_is_students() -> None:
    assert Estimate(2.0, 1.0, 2).p == pytest.approx(1 - 2 / math.sqrt(6))  # closed form for 2 degrees
    assert (Estimate(0.0, 0.0, 2).p, Estimate(1e-7, 0.0, 2).p) == (1.0, 0.0)


def test_quantile_is_students() -> None:
    assert quantile(0.975, 4) == pytest.approx(2.776445)
    assert quantile(0.975, 1e9) == pytest.approx(1.959964)


def test_estimate_of_single_repeats_has_no_interval() -> None:
    for estimate in (mean([1.0]), difference([1.0], [2.0]), difference([1.0], [2.0, 2.1, 2.2])):
        assert (estimate.error, estimate.interval(), estimate.p) == (None, None, None)


def test_known_spread_gives_single_repeats_an_interval() -> None:
    estimate = difference([1.0], [1.05], Spread(0.01, 19))
    assert estimate.error == pytest.approx(0.01 * math.sqrt(2))
    assert estimate.freedom == 19
    assert estimate.half_width() == pytest.approx(2.093024 * 0.01 * math.sqrt(2))


def test_known_spread_is_pooled_with_that_of_the_repeats() -> None:
    estimate = difference([0.0, 0.02], [0.0, 0.02], Spread(0.01, 10))
    assert estimate.freedom == 12
    assert estimate.error == pytest.approx(math.sqrt((10 * 1e-4 + 4e-4) / 12))


def test_known_spread_is_not_used_if_repeats_spread_much_more() -> None:
    a, b, known = [0.0, 0.1, 0.2], [0.0, 0.1, 0.2], Spread(0.001, 19)
    assert disagrees(a, b, known)
    assert difference(a, b, known) == difference(a, b)
    assert not disagrees([0.0, 0.001, 0.002], [0.0, 0.001, 0.002], known)
    assert not disagrees([0.0], [1.0], known)
    assert disagrees(a, b, Spread(0.0, 19))
    assert not disagrees([1.0, 1.0], [2.0, 2.0], Spread(0.0, 19))


def test_pooled_spread_ignores_the_means() -> None:
    assert pooled([[0.0, 2.0], [10.0, 12.0], [7.0]]) == Spread(math.sqrt(2), 2)
    assert pooled([[1.0], []]) is None


@given(st.lists(st.floats(0, 1), max_size=8))
@settings(max_examples=60, deadline=None)
def test_holm_raises_p_values_and_keeps_their_order(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(before <= after <= 1 for before, after in zip(p_values, adjusted, strict=True))
    ranks = sorted(range(len(p_values)), key=p_values.__getitem__)
    assert [adjusted[i] for i in ranks] == sorted(adjusted)
    if p_values:
        assert min(adjusted) == min(1.0, len(p_values) * min(p_values))


def test_very_different_repeats_have_finite_intervals() -> None:
    interval = difference([0.0, 400.0], [0.0, 400.0]).interval()
    assert interval is not None and all(map(math.isfinite, interval))
    assert Estimate(0.0, 0.0, 3).interval() == (1.0, 1.0)


@pytest.mark.parametrize("known", [None, Spread(0.01, 19)], ids=["unknown spread", "known spread"])
@pytest.mark.parametrize("repeats", [3, 5, 10])
def test_interval_of_a_ratio_has_its_nominal_coverage(repeats: int, known: Spread | None) -> None:
    rng = np.random.default_rng(repeats)
    pairs, covered = 1000, 0
    for _ in range(pairs):
        a, b = rng.normal(0, 0.01, (2, repeats)).tolist()
        low, high = difference(a, b, known).interval() or (math.inf, 0.0)
        covered += low <= 1 <= high
    assert 0.93 <= covered / pairs <= 0.975
