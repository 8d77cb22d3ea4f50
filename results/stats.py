# SPDX-License-Identifier: Apache-2.0
"""The one place for statistics.

Everything works on `Samples`: per finished repeat, the times of its measured steps in nanoseconds. Warm-up
steps never count. A cell's *centre* is the median over repeats of the repeats' median step times, so that a
repeat counts once however many steps it has.

Spread is a percentile bootstrap in two levels, the way the data arose: draw repeats with replacement, then in
each drawn repeat draw steps with replacement, and take the centre again; the interval holds the middle
`CONFIDENCE` of `RESAMPLES` such centres (or of the quotients of two). The generator is seeded, so the same
records always give the same numbers. With one repeat only the steps vary: the interval then says nothing
about how the next repeat would turn out, and `Summary.repeats` and `Ratio.repeats` are there to tell.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from results.records import Step
from results.runs import Repeat

Clock = Literal["model", "guest"]
Samples = Sequence[Sequence[float]]

SEED = 20210227
RESAMPLES = 2000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Summary:
    """A cell's step time, in nanoseconds; `low_ns` to `high_ns` is the spread of `centre_ns`."""

    repeats: int
    steps: int
    median_ns: float
    centre_ns: float
    low_ns: float
    high_ns: float


def columns_of(summary: Summary | None) -> dict[str, Any]:
    """A summary as the columns that tables and frames share; a cell without one has 0 steps and no times."""
    times = ("median_ns", "centre_ns", "low_ns", "high_ns")
    return {
        "steps": summary.steps if summary else 0,
        **{name: getattr(summary, name) if summary else None for name in times},
    }


@dataclass(frozen=True)
class Ratio:
    """How many times longer a step of the second takes; `repeats` is the smaller number of the two."""

    value: float
    low: float
    high: float
    repeats: int

    @property
    def excludes_one(self) -> bool:
        """Whether the spread leaves no room for "the same"."""
        return self.low > 1.0 or self.high < 1.0


def measured(repeat: Repeat) -> list[Step]:
    """The steps that count: those after the warm-up."""
    return [step for step in repeat.steps if not step.warmup]


def clock_of(repeats: Iterable[Repeat]) -> Clock:
    """The model clock if a repeat has it in every measured step, else the guest's."""
    return "model" if any(has_clock(repeat, "model") and measured(repeat) for repeat in repeats) else "guest"


def has_clock(repeat: Repeat, clock: Clock) -> bool:
    """Whether every measured step has a time by that clock."""
    return clock == "guest" or all(step.model_ns is not None for step in measured(repeat))


def samples(repeats: Iterable[Repeat], clock: Clock) -> list[list[float]]:
    """Step times by that clock, of the repeats that have it in every step: clocks are never mixed.

    Repeats without a measured step are left out too.
    """
    result = []
    for repeat in repeats:
        times = [step.model_ns if clock == "model" else step.guest_ns for step in measured(repeat)]
        if times and has_clock(repeat, clock):
            result.append([float(t) for t in times if t is not None])
    return result


def summarise(data: Samples, *, seed: int = SEED) -> Summary | None:
    """Centre and spread of one cell; None if there is no measured step."""
    if not data:
        return None
    low, high = _interval(_centres(data, np.random.default_rng(seed)))
    return Summary(
        repeats=len(data),
        steps=sum(len(repeat) for repeat in data),
        median_ns=float(np.median(np.concatenate([np.asarray(repeat) for repeat in data]))),
        centre_ns=_centre(data),
        low_ns=low,
        high_ns=high,
    )


def ratio(a: Samples, b: Samples, *, seed: int = SEED) -> Ratio | None:
    """Step time of `b` in units of `a` (above 1: `b` is slower); None if either has no measured step."""
    if not a or not b:
        return None
    rng = np.random.default_rng(seed)
    below = _centres(a, rng)  # drawn first, and never the same draws as for `b`
    low, high = _interval(_centres(b, rng) / below)
    return Ratio(_centre(b) / _centre(a), low, high, min(len(a), len(b)))


def shares(repeats: Iterable[Repeat], kind: Literal["anon", "file"] = "anon") -> dict[str, float]:
    """The share (0 to 1) of resident bytes on each node, over all measured steps; empty if none were seen."""
    total: dict[str, int] = {}
    for repeat in repeats:
        for step in measured(repeat):
            held = step.residency.anon if kind == "anon" else step.residency.file
            for node, size in held.items():
                total[node] = total.get(node, 0) + size
    everything = sum(total.values())
    return {node: total[node] / everything for node in sorted(total, key=int)} if everything else {}


def per_step(repeats: Iterable[Repeat]) -> dict[str, float]:
    """Mean growth of each kernel counter over a measured step."""
    steps = [step for repeat in repeats for step in measured(repeat)]
    names = sorted({name for step in steps for name in step.vmstat})
    return {name: sum(step.vmstat.get(name, 0) for step in steps) / len(steps) for name in names}


def _centre(data: Samples) -> float:
    return float(np.median([np.median(repeat) for repeat in data]))


def _centres(data: Samples, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """`RESAMPLES` centres of data drawn anew from `data`."""
    chosen = rng.integers(0, len(data), size=(RESAMPLES, len(data)))
    medians = np.empty(chosen.shape)
    for number, repeat in enumerate(data):
        values = np.asarray(repeat, dtype=np.float64)
        places = chosen == number
        drawn = rng.integers(0, len(values), size=(int(places.sum()), len(values)))
        medians[places] = np.median(values[drawn], axis=1)
    return np.asarray(np.median(medians, axis=1))


def _interval(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)
