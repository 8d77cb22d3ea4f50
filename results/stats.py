# SPDX-License-Identifier: Apache-2.0
"""Statistics of step times.

`Samples` hold the times of the measured steps in nanoseconds, one sequence per finished repeat. Warm-up steps
are excluded. Each repeat counts with one figure, the median of its steps. The *centre* of a cell is the
geometric mean of these figures, and the ratio of two cells is that of their centres. Intervals are those of
`results.intervals`; a single repeat has none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from results import intervals
from results.intervals import Estimate
from results.records import Step
from results.runs import Repeat

Clock = Literal["model", "guest"]
Samples = Sequence[Sequence[float]]


@dataclass(frozen=True)
class Summary:
    """A cell's step time in nanoseconds; `low_ns` to `high_ns` is the interval of `centre_ns`, if any."""

    repeats: int
    steps: int
    median_ns: float
    centre_ns: float
    low_ns: float | None
    high_ns: float | None


@dataclass(frozen=True)
class Ratio:
    """A ratio of step times, with its interval if any; `repeats` is the smaller count of the two cells.

    `p` is the p-value of equal step times.
    """

    value: float
    low: float | None
    high: float | None
    repeats: int
    p: float | None = None

    @classmethod
    def of(cls, difference: Estimate, repeats: int) -> Ratio:
        """Return the ratio whose logarithm is a difference of logarithms."""
        low, high = difference.interval() or (None, None)
        return cls(math.exp(difference.value), low, high, repeats, difference.p)


def measured(repeat: Repeat) -> list[Step]:
    """Return the steps after the warm-up."""
    return [step for step in repeat.steps if not step.warmup]


def clock_of(repeats: Iterable[Repeat]) -> Clock:
    """Return "model" if any repeat has the model clock in all its measured steps, else "guest"."""
    return "model" if any(has_clock(repeat, "model") and measured(repeat) for repeat in repeats) else "guest"


def step_ns(step: Step, clock: Clock) -> float:
    """Return the duration of a step by a clock; by the guest's if the step has no other."""
    return float((step.model_ns if clock == "model" else None) or step.guest_ns)


def has_clock(repeat: Repeat, clock: Clock) -> bool:
    """Return whether every measured step has a time by the clock."""
    return clock == "guest" or all(step.model_ns is not None for step in measured(repeat))


def samples(repeats: Iterable[Repeat], clock: Clock) -> list[list[float]]:
    """Return step times by the clock in nanoseconds, one list per repeat.

    Repeats without measured steps, or with a step that lacks the clock, are excluded: clocks are never mixed.
    """
    result = []
    for repeat in repeats:
        steps = measured(repeat)
        times = [step.model_ns if clock == "model" else step.guest_ns for step in steps]
        if times and has_clock(repeat, clock):
            kinds = [step.kind for step in steps]
            result.append(_over_kinds(kinds, [float(t) for t in times if t is not None]))
    return result


def _over_kinds(kinds: list[str | None], times: list[float]) -> list[float]:
    """Scale the times of each kind so that its median becomes the mean over steps of their kinds' medians.

    The median of all times would be that of one kind, whatever the others take.
    """
    if len(set(kinds)) == 1:
        return times
    medians = {
        kind: float(np.median([t for k, t in zip(kinds, times, strict=True) if k == kind]))
        for kind in set(kinds)
    }
    mean = sum(medians[kind] for kind in kinds) / len(kinds)
    return [t * mean / medians[kind] for kind, t in zip(kinds, times, strict=True)]


def summarise(data: Samples) -> Summary | None:
    """Return centre and interval of a cell, or None without measured steps."""
    if not data:
        return None
    estimate = intervals.mean(intervals.logs(figures(data)))
    low, high = estimate.interval() or (None, None)
    return Summary(
        repeats=len(data),
        steps=sum(len(repeat) for repeat in data),
        median_ns=float(np.median(np.concatenate([np.asarray(repeat) for repeat in data]))),
        centre_ns=math.exp(estimate.value),
        low_ns=low,
        high_ns=high,
    )


def ratio(a: Samples, b: Samples) -> Ratio | None:
    """Return the ratio of the step times of `b` and `a`, or None if either has no measured steps."""
    if not a or not b:
        return None
    difference = intervals.difference(intervals.logs(figures(a)), intervals.logs(figures(b)))
    return Ratio.of(difference, min(len(a), len(b)))


def figures(data: Samples) -> list[float]:
    """Return one figure per repeat: the median of its steps."""
    return [float(np.median(repeat)) for repeat in data]


def shares(repeats: Iterable[Repeat], kind: Literal["anon", "file"] = "anon") -> dict[str, float]:
    """Return the share (0 to 1) of resident bytes by node, over all measured steps; empty if not recorded."""
    by_node: dict[str, int] = {}
    for repeat in repeats:
        for step in measured(repeat):
            resident = step.residency.anon if kind == "anon" else step.residency.file
            for node, size in resident.items():
                by_node[node] = by_node.get(node, 0) + size
    total = sum(by_node.values())
    return {node: by_node[node] / total for node in sorted(by_node, key=int)} if total else {}


def per_step(repeats: Iterable[Repeat]) -> dict[str, float]:
    """Return the mean growth of each kernel counter per measured step."""
    steps = [step for repeat in repeats for step in measured(repeat)]
    names = sorted({name for step in steps for name in step.vmstat})
    return {name: sum(step.vmstat.get(name, 0) for step in steps) / len(steps) for name in names}
