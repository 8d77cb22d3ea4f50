# SPDX-License-Identifier: Apache-2.0
"""Statistics of step times.

`Samples` hold the times of the measured steps in nanoseconds, one sequence per finished repeat. Warm-up steps
are excluded. The *centre* of a cell is the median over its repeats of each repeat's median step time, so that
every repeat has equal weight.

Intervals come from a two-level percentile bootstrap: draw repeats with replacement, draw steps with
replacement within each drawn repeat, and compute the centre. The interval contains the middle `CONFIDENCE` of
`RESAMPLES` such centres, or of their ratios. The generator is seeded, so that equal records give equal
numbers. With a single repeat the interval reflects the variation of its steps only and says nothing about
further repeats; see `Summary.repeats` and `Ratio.repeats`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from results.records import Step
from results.runs import Repeat

Clock = Literal["model", "guest"]
Samples = Sequence[Sequence[float]]
_Floats = npt.NDArray[np.float64]

SEED = 20210227
RESAMPLES = 2000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Summary:
    """A cell's step time in nanoseconds; `low_ns` to `high_ns` is the interval of `centre_ns`."""

    repeats: int
    steps: int
    median_ns: float
    centre_ns: float
    low_ns: float
    high_ns: float


@dataclass(frozen=True)
class Ratio:
    """A ratio of step times with its interval; `repeats` is the smaller count of the two cells."""

    value: float
    low: float
    high: float
    repeats: int

    @property
    def excludes_one(self) -> bool:
        """Whether the interval does not contain 1."""
        return self.low > 1.0 or self.high < 1.0


def measured(repeat: Repeat) -> list[Step]:
    """Return the steps after the warm-up."""
    return [step for step in repeat.steps if not step.warmup]


def clock_of(repeats: Iterable[Repeat]) -> Clock:
    """Return "model" if any repeat has the model clock in all its measured steps, else "guest"."""
    return "model" if any(has_clock(repeat, "model") and measured(repeat) for repeat in repeats) else "guest"


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


def summarise(data: Samples, *, seed: int = SEED) -> Summary | None:
    """Return centre and interval of a cell, or None without measured steps."""
    if not data:
        return None
    centres, _ = _first_centres(_frozen(data), seed)
    low, high = _interval(centres)
    return Summary(
        repeats=len(data),
        steps=sum(len(repeat) for repeat in data),
        median_ns=float(np.median(np.concatenate([np.asarray(repeat) for repeat in data]))),
        centre_ns=_centre(data),
        low_ns=low,
        high_ns=high,
    )


def ratio(a: Samples, b: Samples, *, seed: int = SEED) -> Ratio | None:
    """Return the ratio of the step times of `b` and `a`, or None if either has no measured steps."""
    if not a or not b:
        return None
    denominators, state = _first_centres(_frozen(a), seed)
    rng = np.random.default_rng()
    rng.bit_generator.state = state
    low, high = _interval(_centres(b, rng) / denominators)
    return Ratio(_centre(b) / _centre(a), low, high, min(len(a), len(b)))


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


def _centre(data: Samples) -> float:
    return float(np.median([np.median(repeat) for repeat in data]))


def _frozen(data: Samples) -> tuple[tuple[float, ...], ...]:
    return tuple(map(tuple, data))


@functools.lru_cache(maxsize=64)
def _first_centres(data: tuple[tuple[float, ...], ...], seed: int) -> tuple[_Floats, Mapping[str, Any]]:
    """Return the centres that a new generator draws, and its state after them.

    They are cached because the summary of a cell and all ratios to it start with the same draws.
    """
    rng = np.random.default_rng(seed)
    return _centres(data, rng), rng.bit_generator.state


def _centres(data: Samples, rng: np.random.Generator) -> _Floats:
    """Return the centres of `RESAMPLES` bootstrap samples of `data`."""
    chosen = rng.integers(0, len(data), size=(RESAMPLES, len(data)))
    medians = np.empty(chosen.shape)
    for number, repeat in enumerate(data):
        values = np.asarray(repeat, dtype=np.float64)
        selected = chosen == number
        # 32-bit indices are the same numbers as 64-bit ones, drawn in less time
        drawn = rng.integers(0, len(values), size=(int(selected.sum()), len(values)), dtype=np.int32)
        medians[selected] = _row_medians(values[drawn])
    return _row_medians(medians)


def _row_medians(rows: _Floats) -> _Floats:
    """Return the median of each row, and reorder the rows. Faster than `np.median`, which looks for NaN."""
    middle = rows.shape[1] // 2
    rows.partition(middle, axis=1)
    upper = rows[:, middle]
    return upper.copy() if rows.shape[1] % 2 else (rows[:, :middle].max(axis=1) + upper) / 2


def _interval(values: _Floats) -> tuple[float, float]:
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)
