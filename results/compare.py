# SPDX-License-Identifier: Apache-2.0
"""Compare two sides cell by cell: ratios of step times, losses, and a verdict where the times permit one.

Cells match by id, and otherwise by all settings that vary within either side (`labels.Axes`). See
`results.comparability` for what forbids a verdict, and `results.verdicts` for what decides it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any, Literal

from results import comparability, intervals, labels, losses, repeatability, verdicts
from results.intervals import Estimate, Spread
from results.labels import Axes
from results.repeatability import Spreads
from results.sides import Side, SideCell
from results.stats import Clock, Ratio, Summary, summarise
from results.units import printable
from results.verdicts import Case, Verdict

_Matched = Literal["id", "axes"]


@dataclass(frozen=True)
class Pair:
    """A cell of side A and its match in side B.

    `ratio` is the step time of B divided by that of A. `clock` is the common clock, or None, and then there
    is no ratio. `verdict` rates B. `differs` maps the flat keys whose values differ to both values. `spread`
    is that of the repeats, and `known` whether it was measured before.
    """

    label: str
    model: str
    policy: str
    budget: str
    settings: str
    a: SideCell
    b: SideCell
    matched: _Matched
    differs: dict[str, tuple[Any, Any]]
    clock: Clock | None
    summary_a: Summary | None
    summary_b: Summary | None
    ratio: Ratio | None
    losses: losses.Check
    spread: Spread | None
    known: bool
    verdict: Verdict


@dataclass(frozen=True)
class Comparison:
    """The matched pairs of two sides, the cells that only one of them has, and warnings.

    `origins` maps what differs between the sides as wholes, such as the commit, to both values.
    """

    a: Side
    b: Side
    axes: Axes
    pairs: list[Pair]
    only_a: list[SideCell]
    only_b: list[SideCell]
    origins: dict[str, tuple[str, str]]
    min_effect: float
    across: tuple[str, ...]
    warnings: list[str]


def compare(
    a: Side,
    b: Side,
    *,
    min_effect: float = verdicts.MIN_EFFECT,
    across: Collection[str] = (),
    spreads: Spreads | None = None,
) -> Comparison:
    """Match the cells of two sides and compare each pair.

    `min_effect` is the smallest relevant difference as a share. `across` names differences that do not forbid
    a verdict (`comparability.ACCEPTABLE`), and `spreads` are the known spreads by kind of cell.
    """
    axes = Axes.of(*((cell.resolved for cell in side.cells) for side in (a, b)))
    left, right = list(a.cells), list(b.cells)
    matches = _match("id", left, right, lambda cell: cell.id)
    matches += _match("axes", left, right, lambda cell: axes.key(cell.resolved))
    order = {cell.id: n for n, cell in enumerate(a.cells)}
    matches.sort(key=lambda match: order[match[0].id])
    drafts = [_draft(axes, *match, across, spreads or {}) for match in matches]
    decided = verdicts.decide([case for _, case in drafts], min_effect=min_effect)
    pairs = [replace(pair, verdict=verdict) for (pair, _), verdict in zip(drafts, decided, strict=True)]
    warnings = [*(f"A: {line}" for line in a.warnings), *(f"B: {line}" for line in b.warnings)]
    warnings += _off_clock(pairs)
    origins = _differing_origins(pairs)
    return Comparison(a, b, axes, pairs, left, right, origins, min_effect, tuple(sorted(across)), warnings)


def _match(
    matched: _Matched, left: list[SideCell], right: list[SideCell], key: Callable[[SideCell], str | None]
) -> list[tuple[SideCell, SideCell, _Matched]]:
    """Pair the cells whose key occurs once in each list, and remove them from both lists."""
    pairs = []
    for a in list(left):
        name = key(a)
        candidates = [b for b in right if key(b) == name]
        if name is None or len(candidates) != 1 or sum(key(other) == name for other in left) != 1:
            continue
        left.remove(a)
        right.remove(candidates[0])
        pairs.append((a, candidates[0], matched))
    return pairs


def _off_clock(pairs: list[Pair]) -> list[str]:
    """Return a warning for each repeat without the clock of its side."""
    return [
        f"{side}: {pair.label}, {sample.name}: no {cell.clock} clock; excluded from all figures"
        for pair in pairs
        for side, cell in (("A", pair.a), ("B", pair.b))
        for sample in cell.samples
        if sample.figures.steps and sample.time(cell.clock) is None
    ]


def _draft(
    axes: Axes,
    a: SideCell,
    b: SideCell,
    matched: _Matched,
    across: Collection[str],
    spreads: Spreads,
) -> tuple[Pair, Case]:
    """Return the pair without its verdict, and the case to decide."""
    resolved = a.resolved if labels.is_resolved(a.resolved) else b.resolved
    both_resolved = labels.is_resolved(a.resolved) and labels.is_resolved(b.resolved)
    flat_a, flat_b = labels.flatten(a.resolved), labels.flatten(b.resolved)
    keys = labels.differing_keys([a.resolved, b.resolved]) if both_resolved else []
    clock = a.clock if a.clock == b.clock else None
    times_a, times_b = (a.times(clock), b.times(clock)) if clock else ([], [])
    known = _known(a, b, clock, times_a, times_b, spreads)
    estimate: Estimate | None = None
    spread = known
    if times_a and times_b:
        logs_a, logs_b = intervals.logs(times_a), intervals.logs(times_b)
        estimate = intervals.difference(logs_a, logs_b, known)
        spread = known or intervals.pooled([logs_a, logs_b])
    check = _losses(axes, a, b)
    repeats = min(len(times_a), len(times_b))
    pair = Pair(
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
        summary_a=summarise([[time] for time in times_a]),
        summary_b=summarise([[time] for time in times_b]),
        ratio=None if estimate is None else Ratio.of(estimate, repeats),
        losses=check,
        spread=spread,
        known=known is not None,
        verdict=Verdict("not comparable"),
    )
    case = Case(
        estimate=estimate,
        repeats=repeats,
        spread=spread,
        known=known is not None,
        reasons=comparability.reasons(a, b, check, across),
    )
    return pair, case


def _known(
    a: SideCell,
    b: SideCell,
    clock: Clock | None,
    times_a: list[float],
    times_b: list[float],
    spreads: Spreads,
) -> Spread | None:
    """Return the spread that is known for both cells; None if they contradict it."""
    if clock is None or not times_a or not times_b:
        return None
    known = [spreads.get(repeatability.kind(cell, clock)) for cell in (a, b)]
    if known[0] is None or known[1] is None:
        return None
    spread = max(known[0], known[1], key=lambda one: one.sd)
    return None if intervals.disagrees(intervals.logs(times_a), intervals.logs(times_b), spread) else spread


def _losses(axes: Axes, a: SideCell, b: SideCell) -> losses.Check:
    title = axes.label(a.resolved)
    if not a.samples or not b.samples:
        return losses.Check(title, "not compared", "one side has no finished repeat")
    if losses.key_of(a.resolved) != losses.key_of(b.resolved):
        return losses.Check(title, "not compared", "model, batch size or seed differ")
    return losses.check(title, [*a.losses("A"), *b.losses("B")])


def _differing_origins(pairs: list[Pair]) -> dict[str, tuple[str, str]]:
    """Return what differs between the sides' repeats: builds, versions, accelerator and host."""
    result = {}
    for name in ("commit", "kernel", "image", "runtime", "qemu", "accelerator", "cpu", "cpus"):
        values = [
            sorted({str(getattr(origin, name) or "unknown") for cell in cells for origin in cell.origins()})
            for cells in ([pair.a for pair in pairs], [pair.b for pair in pairs])
        ]
        if values[0] and values[1] and values[0] != values[1]:
            before, after = (", ".join(printable(_short(value)) for value in side) for side in values)
            result[name] = (before, after)
    return result


def _short(value: str) -> str:
    """Cut keys and commits."""
    head, dash, dirty = value.partition("-")
    is_digest = len(head) >= 32 and all(c in "0123456789abcdef" for c in head)
    return f"{head[:10]}{dash}{dirty}" if is_digest else value


def headline(comparison: Comparison) -> str:
    """Return one sentence that can be quoted."""
    pairs = comparison.pairs
    if not pairs:
        return "A and B have no cell in common."
    effect = f"{100 * comparison.min_effect:.3g}%"
    groups = {word: [p for p in pairs if p.verdict.word == word] for word in _WORDS}
    cells = "the only cell" if len(pairs) == 1 else f"all {len(pairs)} cells"
    parts = []
    for word, group in groups.items():
        if not group:
            continue
        where = cells if len(group) == len(pairs) else f"{len(group)} of {len(pairs)} cells"
        text = _WORDS[word].format(where=where, effect=effect)
        if word in ("slower", "faster"):
            most = max(group, key=lambda p: abs(math.log(p.ratio.value)) if p.ratio else 0.0)
            text += f" ({'' if len(group) == 1 else 'at most '}{_change(most)} in {most.label})"
        parts.append(text)
    return f"B is {', '.join(parts[:-1])}{' and ' if parts[:-1] else ''}{parts[-1]}."


def _change(pair: Pair) -> str:
    """Return the change of a step time with its interval, such as `+8.3% [+5.1%, +11.6%]`."""
    r = pair.ratio
    if r is None:
        return "-"
    interval = "" if r.low is None or r.high is None else f" [{r.low - 1:+.1%}, {r.high - 1:+.1%}]"
    return f"{r.value - 1:+.1%}{interval}"


_WORDS = {
    "slower": "slower than A in {where}",
    "faster": "faster than A in {where}",
    "same": "the same as A within {effect} in {where}",
    "inconclusive": "not told from A in {where}",
    "not comparable": "not comparable with A in {where}",
}
