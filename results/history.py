# SPDX-License-Identifier: Apache-2.0
"""The step time of a cell over the results of a baseline, and where it changed.

Changes are found by PELT (Killick et al., 2012; `ruptures`) on the logarithms of the step times, with squared
errors as cost. A change must be worth `_PENALTY` times the variance of a result and the logarithm of their
number, and at least the minimum effect.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from results import intervals, labels
from results.labels import Axes
from results.measured import Measured, MeasuredCell
from results.stats import Clock
from testbed.common.errors import UsageError

_PENALTY = 6.0
_LEAST_SD = 0.002  # of a result: repeats by the model clock can be equal, results then still differ


@dataclass(frozen=True)
class Point:
    """The cell in one result: its step time in ns with its interval, and the change from the level before.

    `change` is a ratio, and None unless a new level begins here.
    """

    result: str
    commit: str | None
    repeats: int
    step_ns: float
    low_ns: float | None
    high_ns: float | None
    change: float | None


@dataclass(frozen=True)
class History:
    """A cell over time, oldest result first. `clock` is that of all points."""

    label: str
    policy: str
    clock: Clock
    points: list[Point]


def of_cell(results: Sequence[tuple[str, Measured]], wanted: str, *, min_effect: float) -> History:
    """Return the history of the cell with this id, the beginning of one, or this label.

    `results` are names and figures, oldest first. Raises `UsageError` if no cell or several cells match.
    """
    axes = Axes.of(*((cell.resolved for cell in result.cells) for _, result in results))
    cells: dict[str, list[tuple[str, Measured, MeasuredCell]]] = {}
    for name, result in results:
        for cell in result.cells:
            label = axes.label(cell.resolved)
            if wanted == label or cell.id.startswith(wanted):
                cells.setdefault(label, []).append((name, result, cell))
    if len(cells) != 1:
        known = sorted({axes.label(cell.resolved) for _, result in results for cell in result.cells})
        problem = f"{len(cells)} cells match" if cells else "there is no such cell"
        raise UsageError(f"{wanted}: {problem}", hint="; ".join(known[:20]))
    ((label, found),) = cells.items()
    found = [entry for entry in found if entry[2].repeats]
    modelled = all(repeat.model_ns is not None for _, _, cell in found for repeat in cell.repeats)
    clock: Clock = "model" if modelled else "guest"
    estimates = [intervals.mean(intervals.logs(_times(cell, clock))) for _, _, cell in found]
    changes = _changes(estimates, min_effect)
    points = []
    for number, ((name, result, cell), estimate) in enumerate(zip(found, estimates, strict=True)):
        low, high = estimate.interval() or (None, None)
        points.append(
            Point(
                result=name,
                commit=result.commit,
                repeats=len(cell.repeats),
                step_ns=math.exp(estimate.value),
                low_ns=low,
                high_ns=high,
                change=changes.get(number),
            )
        )
    return History(label, labels.policy_name(found[0][2].resolved), clock, points)


def _times(cell: MeasuredCell, clock: Clock) -> list[float]:
    times = [repeat.model_ns if clock == "model" else repeat.guest_ns for repeat in cell.repeats]
    return [time for time in times if time is not None]


def _changes(estimates: Sequence[intervals.Estimate], min_effect: float) -> dict[int, float]:
    """Return the ratio of each new level to the one before, by the index of its first result."""
    if len(estimates) < 2:
        return {}
    import ruptures  # slow to import

    values = np.array([estimate.value for estimate in estimates])
    errors = [estimate.error for estimate in estimates if estimate.error is not None]
    variance = max(float(np.median(errors)) if errors else 0.0, _LEAST_SD) ** 2
    search = ruptures.Pelt(model="l2", min_size=1, jump=1).fit(values.reshape(-1, 1))
    ends = search.predict(pen=_PENALTY * variance * math.log(len(values)))
    starts = [0, *ends[:-1]]
    levels = [float(values[a:b].mean()) for a, b in zip(starts, ends, strict=True)]
    ratios = [math.exp(level - before) for before, level in pairwise(levels)]
    changes = zip(starts[1:], ratios, strict=True)
    return {start: ratio for start, ratio in changes if abs(ratio - 1) >= min_effect}
