# SPDX-License-Identifier: Apache-2.0
"""Verdicts need a significant and relevant difference, and say how many repeats would settle an open one."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from experiments.suite import Suite
from results.intervals import Spread, difference, pooled
from results.verdicts import Case, Verdict, advise, decide

NOISE = Spread(0.01, 20)


def case(a: list[float], b: list[float], known: Spread | None = None) -> Case:
    """Return the case of two samples of relative step times."""
    logs_a, logs_b = ([math.log(x) for x in side] for side in (a, b))
    return Case(
        estimate=difference(logs_a, logs_b, known),
        repeats=min(len(a), len(b)),
        spread=known or pooled([logs_a, logs_b]),
        known=known is not None,
    )


def words(*cases: Case, min_effect: float = 0.02) -> list[str]:
    return [verdict.word for verdict in decide(cases, min_effect=min_effect)]


@pytest.mark.parametrize(
    ("a", "b", "word"),
    [
        ([1.0, 1.001, 0.999], [1.1, 1.101, 1.099], "slower"),
        ([1.1, 1.101, 1.099], [1.0, 1.001, 0.999], "faster"),
        ([1.0, 1.001, 0.999], [1.01, 1.011, 1.009], "same"),  # significant, but irrelevant
        ([1.0, 1.0, 1.0], [1.0000001] * 3, "same"),
        ([1.0, 1.0, 1.0], [1.03] * 3, "slower"),
        ([1.0, 1.02, 0.98], [1.0, 1.02, 0.98], "inconclusive"),  # the interval exceeds the bounds
        ([1.0, 1.05, 0.95], [1.1, 1.05, 1.15], "inconclusive"),
    ],
)
def test_verdict_needs_significance_and_relevance(a: list[float], b: list[float], word: str) -> None:
    assert words(case(a, b)) == [word]


def test_minimum_effect_is_an_option() -> None:
    assert words(case([1.0, 1.001, 0.999], [1.01, 1.011, 1.009]), min_effect=0.005) == ["slower"]


@pytest.mark.parametrize(
    ("a", "b"), [([1.0], [1.5]), ([1.0, 1.0], [1.5, 1.5]), ([1.0, 1.0, 1.0], [1.5, 1.5])]
)
def test_fewer_than_three_repeats_are_inconclusive(a: list[float], b: list[float]) -> None:
    (verdict,) = decide([case(a, b)])
    assert verdict.word == "inconclusive"
    assert verdict.repeats is not None and verdict.repeats >= 3


def test_known_spread_permits_a_verdict_on_single_repeats() -> None:
    assert words(case([1.0], [1.1], NOISE)) == ["slower"]
    assert words(case([1.0], [1.0], Spread(0.001, 20))) == ["same"]
    assert words(case([1.0], [1.025], NOISE)) == ["inconclusive"]


def test_more_cells_need_stronger_evidence() -> None:
    """Holm: a p-value of 0.02 is significant alone, and not among ten."""
    doubtful = case([1.0, 1.02, 0.98], [1.06, 1.08, 1.04])
    assert doubtful.estimate is not None and doubtful.estimate.p == pytest.approx(0.02, abs=0.01)
    clear = case([1.0, 1.001, 0.999], [1.0, 1.001, 0.999])
    assert words(doubtful) == ["slower"]
    assert words(doubtful, *[clear] * 9) == ["inconclusive", *["same"] * 9]


def test_cells_without_a_test_do_not_weaken_the_others() -> None:
    doubtful = case([1.0, 1.02, 0.98], [1.06, 1.08, 1.04])
    refused = Case(doubtful.estimate, 3, reasons=["the clocks differ"])
    assert decide([doubtful, *[refused] * 9])[1] == Verdict("not comparable", "the clocks differ")
    assert words(doubtful, *[refused] * 9)[0] == "slower"


def test_advised_repeats_settle_most_verdicts() -> None:
    """The advice for a real effect of 4 % and a spread of 3 %, tried out."""
    repeats = advise(math.log(1.04), Spread(0.03, 4), math.log(1.02))
    assert repeats is not None and 5 < repeats < 40
    rng = np.random.default_rng(3)
    settled = 0
    for _ in range(300):
        a, b = np.exp(rng.normal(0, 0.03, (2, repeats)))
        settled += words(case(list(a), list(1.04 * b))) == ["slower"]
    assert 0.85 <= settled / 300 <= 0.97


def test_advice_grows_with_the_spread_and_with_the_cells() -> None:
    bound = math.log(1.02)
    numbers = [advise(math.log(1.05), Spread(sd, 4), bound) or 999 for sd in (0.005, 0.02, 0.05)]
    assert numbers == sorted(numbers) and numbers[0] == 3 and numbers[2] > 10
    few, many = (advise(math.log(1.05), Spread(0.02, 4), bound, tests) for tests in (1, 50))
    assert few is not None and many is not None and few < many


def test_effect_at_the_bound_cannot_be_settled() -> None:
    bound = math.log(1.02)
    assert advise(bound * 0.9999, Spread(0.05, 4), bound) is None
    (verdict,) = decide([case([1.0, 1.1, 0.9, 1.05], [1.02, 1.11, 0.93, 1.06])])
    assert str(verdict) == "inconclusive: too close to the minimum effect to be settled"
    assert verdict.repeats is None


def simulate(repeats: int, factor: float, pairs: int, known: Spread | None = None) -> Counter[str]:
    """Return the verdicts on simulated pairs: 1 % between repeats, 0.5 % within, 5 steps."""
    rng = np.random.default_rng([repeats, pairs])
    found: Counter[str] = Counter()
    for _ in range(pairs):
        offsets = rng.normal(0, 0.01, (2, repeats, 1)) + rng.normal(0, 0.005, (2, repeats, 5))
        a, b = np.exp(np.median(offsets, axis=2))
        found.update(words(case(list(a), list(factor * b), known)))
    return found


@pytest.mark.parametrize("repeats", [3, 5])
def test_equal_sides_rarely_differ(repeats: int) -> None:
    found = simulate(repeats, 1.0, 1000)
    assert found["slower"] + found["faster"] <= 20


@pytest.mark.parametrize(
    ("repeats", "known"), [(Suite.model_fields["repeats"].default, None), (3, NOISE), (2, NOISE)]
)
def test_slowdown_of_five_percent_is_found(repeats: int, known: Spread | None) -> None:
    """With the default number of repeats of a suite, and with fewer of a known spread."""
    found = simulate(repeats, 1.05, 400, known)
    assert found["slower"] >= 0.97 * 400
    assert found["faster"] == 0
