# SPDX-License-Identifier: Apache-2.0
"""The outcome of a comparison for CI: whether side B has become worse than side A.

Step times decide by their verdicts. Counters decide by bounds: they hardly vary between repeats, so that one
repeat is enough; see `results.counters`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from results import comparability
from results.compare import Comparison, Pair
from results.counters import COUNTERS, Counter
from results.sides import SideCell

Outcome = Literal["same", "regression", "improvement", "inconclusive", "not comparable"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
Change = Literal["more", "fewer", "same"]
_TIMES_ONLY = ("clock", "nodes", "host", "calibration", "pacing")  # matter for step times, not for counters


@dataclass(frozen=True)
class CounterChange:
    """A counter of a cell: the range of side A's repeats, the mean of side B's, and the change."""

    label: str
    counter: Counter
    low: float
    high: float
    value: float
    change: Change


def of_times(comparison: Comparison) -> Outcome:
    """Return the outcome by step times: the worst of all cells, where a missing cell is not comparable."""
    words = {pair.verdict.word for pair in comparison.pairs}
    if "slower" in words:
        return "regression"
    if "not comparable" in words or comparison.only_a or not comparison.pairs:
        return "not comparable"
    if "inconclusive" in words:
        return "inconclusive"
    return "improvement" if "faster" in words else "same"


def of_counters(comparison: Comparison) -> tuple[Outcome, list[CounterChange], list[str]]:
    """Return the outcome by counters, every counter, and the reasons for which cells cannot be compared."""
    changes, reasons = [], [f"{comparison.axes.label(c.resolved)}: only in A" for c in comparison.only_a]
    for pair in comparison.pairs:
        against = comparability.reasons(pair.a, pair.b, pair.losses, (*comparison.across, *_TIMES_ONLY))
        compared = list(_changes(pair))
        if not against and not compared:
            against = ["no common counters"]
        reasons += [f"{pair.label}: {reason}" for reason in against]
        changes += [] if against else compared
    words = {change.change for change in changes}
    if "more" in words:
        return "regression", changes, reasons
    if reasons or not comparison.pairs:
        return "not comparable", changes, reasons
    return ("improvement" if "fewer" in words else "same"), changes, reasons


def change(counter: Counter, before: Sequence[float], after: Sequence[float]) -> Change:
    """Return how the mean of `after` differs from the range of `before`."""
    low, high, value = min(before), max(before), sum(after) / len(after)
    slack = max(counter.relative * high, counter.absolute)
    if low - slack <= value <= high + slack:
        return "same"
    return "more" if value > high else "fewer"


def _changes(pair: Pair) -> Iterable[CounterChange]:
    for counter in COUNTERS:
        before, after = _values(pair.a, counter), _values(pair.b, counter)
        if before and after:
            value = sum(after) / len(after)
            found = change(counter, before, after)
            yield CounterChange(pair.label, counter, min(before), max(before), value, found)


def _values(cell: SideCell, counter: Counter) -> list[float]:
    values = (sample.figures.counters.get(counter.name) for sample in cell.samples if sample.figures.steps)
    return [value for value in values if value is not None]
