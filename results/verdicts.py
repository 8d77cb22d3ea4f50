# SPDX-License-Identifier: Apache-2.0
"""Verdicts on ratios of step times, and the number of repeats that would settle an open one.

A cell is *faster* or *slower* if equal step times are improbable (p-value, corrected by Holm over all cells
of the comparison) and the ratio differs from 1 by at least the minimum effect. It is the *same* if its 95 %
interval lies within the minimum effect. Anything else is *inconclusive*: so is a cell with fewer than
`LEAST_REPEATS` on a side, unless the spread of its repeats is known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from results.intervals import CONFIDENCE, Estimate, Spread, holm, quantile

Word = Literal["faster", "slower", "same", "inconclusive", "not comparable"]
LEAST_REPEATS = 3
MIN_EFFECT = 0.02
MOST_REPEATS = 999  # of a suite
_POWER = 0.9  # chance that the advised number of repeats settles a verdict


@dataclass(frozen=True)
class Verdict:
    """A verdict on B. `repeats` would settle an inconclusive one; None if no number in reach would."""

    word: Word
    reason: str = ""
    repeats: int | None = None

    def __str__(self) -> str:
        return f"{self.word}: {self.reason}" if self.reason else self.word


@dataclass(frozen=True)
class Case:
    """What a verdict is based on: `repeats` counts the side with fewer, `spread` is that of the repeats.

    `known` says whether the spread was measured before (`sentinel aa`), and `reasons` why there can be no
    verdict.
    """

    estimate: Estimate | None
    repeats: int = 0
    spread: Spread | None = None
    known: bool = False
    reasons: Sequence[str] = ()


def decide(cases: Sequence[Case], *, min_effect: float = MIN_EFFECT) -> list[Verdict]:
    """Return the verdict of each cell of a comparison. `min_effect` is a share, such as 0.02."""
    adjusted = _adjusted(cases)
    tests = max(1, sum(p is not None for p in adjusted))
    bound = math.log1p(min_effect)
    decided = []
    for case, p in zip(cases, adjusted, strict=True):
        word = _word(case, p, bound)
        reasons = "; ".join(case.reasons) if word == "not comparable" else ""
        decided.append(
            _inconclusive(case, bound, tests) if word == "inconclusive" else Verdict(word, reasons)
        )
    return decided


def words(cases: Sequence[Case], *, min_effect: float = MIN_EFFECT) -> list[Word]:
    """Return the verdicts of `decide` without reasons and advice, in less time."""
    bound = math.log1p(min_effect)
    return [_word(case, p, bound) for case, p in zip(cases, _adjusted(cases), strict=True)]


def _adjusted(cases: Sequence[Case]) -> list[float | None]:
    """Return the p-value of each case after Holm's correction; None for a case that is no test."""
    p_values = [_p(case) for case in cases]
    adjusted = iter(holm([p for p in p_values if p is not None]))
    return [None if p is None else next(adjusted) for p in p_values]


def _p(case: Case) -> float | None:
    """Return the p-value of a case that is a test of its comparison, or None."""
    if case.reasons or case.estimate is None or (case.repeats < LEAST_REPEATS and not case.known):
        return None
    return case.estimate.p


def _word(case: Case, p: float | None, bound: float) -> Word:
    if case.reasons or case.estimate is None:
        return "not comparable"
    value, half = case.estimate.value, case.estimate.half_width()
    if p is None or half is None:
        return "inconclusive"
    if p < 1 - CONFIDENCE and abs(value) >= bound:
        return "slower" if value > 0 else "faster"
    return "same" if abs(value) + half <= bound else "inconclusive"


def _inconclusive(case: Case, bound: float, tests: int) -> Verdict:
    if case.spread is None or case.estimate is None:
        return Verdict("inconclusive", f"needs {LEAST_REPEATS} repeats", LEAST_REPEATS)
    repeats = advise(abs(case.estimate.value), case.spread, bound, tests, known=case.known)
    if repeats is None:
        return Verdict("inconclusive", "too close to the minimum effect to be settled")
    # What has been measured did not suffice, whatever the formula says
    repeats = min(max(repeats, case.repeats + 1), MOST_REPEATS)
    return Verdict("inconclusive", f"{repeats} repeats would settle it", repeats)


def advise(effect: float, spread: Spread, bound: float, tests: int = 1, *, known: bool = False) -> int | None:
    """Return the repeats a side that settle a verdict with a chance of 90 %, or None above `MOST_REPEATS`.

    `effect` is the size of the true difference, and `bound` that of the minimum effect, both of logarithms.
    `tests` counts the cells of the comparison.
    """
    first = 1 if known else LEAST_REPEATS
    for repeats in range(first, MOST_REPEATS + 1):
        freedom = 2 * repeats - 2 + (spread.freedom if known else 0)
        error = spread.sd * math.sqrt(2 / repeats)
        chance = quantile(_POWER, freedom)
        different = (quantile(1 - (1 - CONFIDENCE) / 2 / tests, freedom) + chance) * error
        same = (quantile((1 + CONFIDENCE) / 2, freedom) + chance) * error
        if (effect >= bound and different <= effect) or effect + same <= bound:
            return repeats
    return None
