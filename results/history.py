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

from results import intervals, labels, selection
from results.labels import Axes
from results.measured import Measured, MeasuredCell
from results.stats import Clock
from testbed.common.errors import UsageError

_LIST = "sentinel baseline list"
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
    """A cell over time, oldest result first. `clock` is that of all points.

    `skipped` names the results with the cell, but without a time of it by the clock.
    """

    label: str
    policy: str
    clock: Clock
    points: list[Point]
    skipped: list[str]


def of_cell(results: Sequence[tuple[str, Measured]], wanted: str, *, min_effect: float) -> History:
    """Return the history of the cell with this id, the beginning of one, or this label.

    `results` are names and figures, oldest first. The clock is the model clock if any repeat has it. Raises
    `UsageError` if no cell or several cells match, or if no result has a time of the cell.
    """
    axes = Axes.of(*((cell.resolved for cell in result.cells) for _, result in results))
    names: dict[str, str] = {}
    for _, result in results:
        for cell in result.cells:  # of a cell without repeats only the id is known
            if cell.id not in names or labels.is_resolved(cell.resolved):
                names[cell.id] = axes.label(cell.resolved)
    chosen = selection.choose(wanted, names)
    label = names[chosen[0]]
    entries = [(name, r, cell) for name, r in results for cell in r.cells if cell.id in chosen]
    modelled = any(repeat.model_ns is not None for _, _, cell in entries for repeat in cell.repeats)
    clock: Clock = "model" if modelled else "guest"
    found = [entry for entry in entries if _times(entry[2], clock)]
    if not found:
        raise UsageError(f"{label}: no result has a finished repeat with measured steps", hint=_LIST)
    estimates = [intervals.mean(intervals.logs(_times(cell, clock))) for _, _, cell in found]
    changes = _changes(estimates, min_effect)
    points = []
    for number, ((name, result, cell), estimate) in enumerate(zip(found, estimates, strict=True)):
        low, high = estimate.interval() or (None, None)
        points.append(
            Point(
                result=name,
                commit=result.commit,
                repeats=len(_times(cell, clock)),
                step_ns=math.exp(estimate.value),
                low_ns=low,
                high_ns=high,
                change=changes.get(number),
            )
        )
    skipped = [entry[0] for entry in entries if entry not in found]
    return History(label, labels.policy_name(found[0][2].resolved), clock, points, skipped)


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
