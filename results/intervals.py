# SPDX-License-Identifier: Apache-2.0
"""Intervals and tests for the ratio of two step times, from few repeats.

The repeat is the unit of replication: the steps of one repeat share its machine state and are not
independent. So each repeat counts with one figure, and figures are compared by their natural logarithms: a
difference of logarithms is a ratio, and errors are relative.

The interval is Welch's. It needs no equal spreads, and holds its level for three repeats a side; see
`benchmarks/intervals.py`, which compares it with the alternatives. If the spread of repeats is known from
other measurements (`Spread`, stored by `sentinel aa`), it is pooled with that of the samples.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95
_DISAGREEMENT = 0.001  # largest p-value at which a spread counts as larger than the known one


@dataclass(frozen=True)
class Spread:
    """Standard deviation of the logarithm of a repeat's step time, and its degrees of freedom.

    A small `sd` is the relative spread of the repeats.
    """

    sd: float
    freedom: float


@dataclass(frozen=True)
class Estimate:
    """A mean of logarithms, or a difference of two, with its standard error and degrees of freedom.

    Without a spread (a single repeat) `error` is None.
    """

    value: float
    error: float | None
    freedom: float = 0.0

    def half_width(self, confidence: float = CONFIDENCE) -> float | None:
        """Return half the width of the confidence interval, or None if there is none."""
        return None if self.error is None else quantile((1 + confidence) / 2, self.freedom) * self.error

    def interval(self, confidence: float = CONFIDENCE) -> tuple[float, float] | None:
        """Return the confidence interval as a factor from `exp(value)`'s low end to its high end."""
        half = self.half_width(confidence)
        return None if half is None else (_exp(self.value - half), _exp(self.value + half))

    @property
    def p(self) -> float | None:
        """The two-sided p-value of the hypothesis that the value is 0, or None without a spread."""
        if self.error is None:
            return None
        if self.error == 0.0:
            return float(self.value == 0.0)
        from scipy import special  # slow to import

        return float(2 * special.stdtr(self.freedom, -abs(self.value) / self.error))


def logs(figures: Iterable[float]) -> list[float]:
    """Return the logarithms of positive figures."""
    return [math.log(figure) for figure in figures]


def mean(a: Sequence[float]) -> Estimate:
    """Estimate the mean of logarithms."""
    if len(a) < 2:
        return Estimate(a[0], None)
    return Estimate(float(np.mean(a)), math.sqrt(_variance(a) / len(a)), len(a) - 1)


def difference(a: Sequence[float], b: Sequence[float], known: Spread | None = None) -> Estimate:
    """Estimate the difference of the means of two samples of logarithms, `b` minus `a`.

    With a `known` spread, the spread of both sides is assumed equal to it, unless theirs is larger
    (`disagrees`).
    """
    value = float(np.mean(b) - np.mean(a))
    if known is not None and not disagrees(a, b, known):
        squares = known.freedom * known.sd**2 + _squares(a) + _squares(b)
        freedom = known.freedom + len(a) + len(b) - 2
        return Estimate(value, math.sqrt(squares / freedom * (1 / len(a) + 1 / len(b))), freedom)
    if min(len(a), len(b)) < 2:
        return Estimate(value, None)
    of_a, of_b = _variance(a) / len(a), _variance(b) / len(b)
    if of_a + of_b == 0.0:
        return Estimate(value, 0.0, len(a) + len(b) - 2)
    share = of_a / (of_a + of_b)  # of one side in the variance; Welch-Satterthwaite, without underflow
    freedom = 1 / (share**2 / (len(a) - 1) + (1 - share) ** 2 / (len(b) - 1))
    return Estimate(value, math.sqrt(of_a + of_b), freedom)


def disagrees(a: Sequence[float], b: Sequence[float], known: Spread) -> bool:
    """Return whether two samples spread significantly more than is known (F-test)."""
    freedom = len(a) + len(b) - 2
    own = (_squares(a) + _squares(b)) / freedom if freedom else 0.0
    if own == 0.0:
        return False
    if known.sd == 0.0:
        return True
    from scipy import special  # slow to import

    return bool(special.fdtrc(freedom, known.freedom, own / known.sd**2) < _DISAGREEMENT)


def pooled(samples: Iterable[Sequence[float]]) -> Spread | None:
    """Return the common spread of samples with different means, or None without two figures in one."""
    groups = [sample for sample in samples if len(sample) > 1]
    freedom = sum(len(group) - 1 for group in groups)
    return Spread(math.sqrt(sum(map(_squares, groups)) / freedom), freedom) if freedom else None


def quantile(probability: float, freedom: float) -> float:
    """Return the quantile of Student's t distribution."""
    from scipy import special  # slow to import

    return float(special.stdtrit(freedom, probability))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p-values, which keep the chance of any false alarm among all tests.

    Source: S. Holm, A simple sequentially rejective multiple test procedure, 1979.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def _variance(a: Sequence[float]) -> float:
    return _squares(a) / (len(a) - 1)


def _squares(a: Sequence[float]) -> float:
    """Return the sum of squared deviations; exactly 0 for equal figures."""
    if len(set(a)) < 2:
        return 0.0
    centre = float(np.mean(a))
    return float(sum((x - centre) ** 2 for x in a))


def _exp(value: float) -> float:
    return math.exp(min(value, 700.0))  # the interval of two very different repeats may have no upper end
