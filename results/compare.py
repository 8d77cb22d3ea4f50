# SPDX-License-Identifier: Apache-2.0
"""Compare two runs cell by cell: ratios of step times, losses, and a verdict where the times permit one.

Cells match by id, and otherwise by all settings that vary within either run (`labels.Axes`). There is no
verdict if both nodes were equally fast or the accelerators differ, and no ratio either if the clocks differ.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from results import labels, losses
from results.intervals import CONFIDENCE
from results.labels import Axes
from results.notes import off_clock, throttled
from results.runs import Cell, Run
from results.stats import Clock, Ratio, Summary, clock_of, ratio, samples, summarise
from results.units import printable


@dataclass(frozen=True)
class Pair:
    """A cell of run A and its match in run B.

    `ratio` is the step time of B divided by that of A. `clock` is the common clock, or None, and then there
    is no ratio. `verdict` rates B: "faster", "slower", "no difference seen", or a text that begins with "no
    verdict: ". `differs` maps the flat keys whose values differ to both values.
    """

    label: str
    model: str
    policy: str
    budget: str
    settings: str
    a: Cell
    b: Cell
    matched: Literal["id", "axes"]
    differs: dict[str, tuple[Any, Any]]
    clock: Clock | None
    summary_a: Summary | None
    summary_b: Summary | None
    ratio: Ratio | None
    losses: losses.Check
    verdict: str


@dataclass(frozen=True)
class Comparison:
    """The matched pairs of two runs, the cells that only one of them has, and warnings."""

    a: Run
    b: Run
    axes: Axes
    pairs: list[Pair]
    only_a: list[Cell]
    only_b: list[Cell]
    warnings: list[str]


def compare(a: Run, b: Run) -> Comparison:
    """Match the cells of two runs and compare each pair."""
    axes = Axes.of(*((cell.resolved for cell in run.cells) for run in (a, b)))
    left, right = list(a.cells), list(b.cells)
    pairs = _match(axes, left, right, lambda cell: cell.id, "id")
    pairs += _match(axes, left, right, lambda cell: axes.key(cell.resolved), "axes")
    order = {cell.id: n for n, cell in enumerate(a.cells)}
    pairs.sort(key=lambda pair: order[pair.a.id])
    warnings = [*map(printable, (*a.warnings, *b.warnings)), *_clock_warnings(axes, pairs)]
    return Comparison(a, b, axes, pairs, left, right, warnings)


def _match(
    axes: Axes,
    left: list[Cell],
    right: list[Cell],
    key: Callable[[Cell], str | None],
    matched: Literal["id", "axes"],
) -> list[Pair]:
    """Pair the cells whose key occurs once in each list, and remove them from both lists."""
    pairs = []
    for a in list(left):
        name = key(a)
        candidates = [b for b in right if key(b) == name]
        if name is None or len(candidates) != 1 or sum(key(other) == name for other in left) != 1:
            continue
        left.remove(a)
        right.remove(candidates[0])
        pairs.append(_pair(axes, a, candidates[0], matched))
    return pairs


def _clock_warnings(axes: Axes, pairs: list[Pair]) -> list[str]:
    """Return a warning for each repeat without the clock of its pair."""
    return [
        f"{side}: {line}"
        for pair in pairs
        for side, cell in (("A", pair.a), ("B", pair.b))
        for line in off_clock(axes, cell, pair.clock or clock_of(cell.repeats))
    ]


def _pair(axes: Axes, a: Cell, b: Cell, matched: Literal["id", "axes"]) -> Pair:
    resolved = a.resolved if labels.is_resolved(a.resolved) else b.resolved
    both_resolved = labels.is_resolved(a.resolved) and labels.is_resolved(b.resolved)
    flat_a, flat_b = labels.flatten(a.resolved), labels.flatten(b.resolved)
    keys = labels.differing_keys([a.resolved, b.resolved]) if both_resolved else []
    clocks = clock_of(a.repeats), clock_of(b.repeats)
    clock = clocks[0] if clocks[0] == clocks[1] else None
    times_a, times_b = samples(a.repeats, clocks[0]), samples(b.repeats, clocks[1])
    time_ratio = ratio(times_a, times_b) if clock else None
    return Pair(
        label=axes.label(resolved),
        model=axes.model(resolved),
        policy=labels.policy(resolved),
        budget=labels.budget(resolved),
        settings=axes.settings(resolved) if labels.is_resolved(resolved) else f"cell {a.id}",
        a=a,
        b=b,
        matched=matched,
        differs={key: (flat_a.get(key), flat_b.get(key)) for key in keys},
        clock=clock,
        summary_a=summarise(times_a) if clock else None,
        summary_b=summarise(times_b) if clock else None,
        ratio=time_ratio,
        losses=_losses(axes, a, b),
        verdict=_verdict(a, b, time_ratio),
    )


def _losses(axes: Axes, a: Cell, b: Cell) -> losses.Check:
    title = axes.label(a.resolved)
    if not a.repeats or not b.repeats:
        return losses.Check(title, "not compared", "one run has no finished repeat")
    if losses.key(a) != losses.key(b):
        return losses.Check(title, "not compared", "model, batch size or seed differ")
    sequences = [losses.sequence(axes, a, repeat, side="A: ") for repeat in a.repeats]
    sequences += [losses.sequence(axes, b, repeat, side="B: ") for repeat in b.repeats]
    return losses.check(title, sequences)


def _verdict(a: Cell, b: Cell, time_ratio: Ratio | None) -> str:
    missing = [name for name, cell in (("A", a), ("B", b)) if not samples(cell.repeats, "guest")]
    if missing:
        return f"no verdict: no measured steps in {' and '.join(missing)}"
    reasons = [
        f"both nodes are equally fast in {name}"
        for name, cell in (("A", a), ("B", b))
        if not throttled(cell.repeats)
    ]
    if time_ratio is None:
        clocks = clock_of(a.repeats), clock_of(b.repeats)
        reasons.append(f"the clocks differ (A {clocks[0]}, B {clocks[1]})")
    accelerators = [sorted({repeat.provenance.accelerator for repeat in cell.repeats}) for cell in (a, b)]
    if accelerators[0] != accelerators[1] or len(accelerators[0]) > 1:
        names = [", ".join(side) for side in accelerators]
        reasons.append(f"the accelerators differ (A {names[0]}; B {names[1]})")
    if reasons or time_ratio is None:
        return f"no verdict: {'; '.join(reasons)}"
    if time_ratio.p is None or time_ratio.p > 1 - CONFIDENCE:
        return "no difference seen"
    return "slower" if time_ratio.value > 1 else "faster"
