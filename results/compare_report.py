# SPDX-License-Identifier: Apache-2.0
"""A comparison as a table for the terminal and as JSON."""

from __future__ import annotations

from typing import Any

import pandas as pd
from rich.text import Text

from results.columns import TEXT
from results.compare import Comparison, Pair, headline
from results.intervals import CONFIDENCE
from results.report import LOSS_STYLES
from results.sides import SideCell
from results.tables import BREAK, Grid
from results.units import duration, factor, printable

FORMAT = 4
COLUMNS = ("Model", "Policy", "Budget", "Settings", "A", "B", "B/A", "Verdict on B")
_STYLES = {"faster": "green", "slower": "red", "same": "", "inconclusive": "yellow"}


def table(comparison: Comparison) -> Grid:
    """Return the table of a comparison, with losses, differences, unmatched cells and warnings below it."""
    return Grid.of_frame(
        frame(comparison.pairs),
        section="Model",
        text_columns=(*TEXT, "Verdict on B"),
        styles=_STYLES,
        title=Text(f"A: {comparison.a.title}\nB: {comparison.b.title}", style="italic"),
        caption=_caption(comparison),
    )


def to_dict(comparison: Comparison) -> dict[str, Any]:
    """Return the whole comparison for JSON, times in nanoseconds."""
    return {
        "format": FORMAT,
        "a": comparison.a.title,
        "b": comparison.b.title,
        "headline": headline(comparison),
        "rows": rows(comparison),
        "matched_by": comparison.axes.names,
        "min_effect": comparison.min_effect,
        "across": list(comparison.across),
        "differs": {key: list(values) for key, values in comparison.origins.items()},
        "only_a": [_cell(comparison, cell) for cell in comparison.only_a],
        "only_b": [_cell(comparison, cell) for cell in comparison.only_b],
        "warnings": comparison.warnings,
    }


def rows(comparison: Comparison) -> list[dict[str, Any]]:
    """Return the pairs for JSON."""
    return [_json_row(pair) for pair in comparison.pairs]


def frame(pairs: list[Pair]) -> pd.DataFrame:
    """Return the pairs as formatted text, without empty columns."""
    lines = []
    for pair in pairs:
        r = pair.ratio
        lines.append(
            (
                pair.model,
                pair.policy,
                pair.budget,
                pair.settings,
                duration(pair.summary_a.centre_ns) if pair.summary_a else "-",
                duration(pair.summary_b.centre_ns) if pair.summary_b else "-",
                factor(r.value, low=r.low, high=r.high, gap=BREAK) if r else "-",
                str(pair.verdict),
            )
        )
    table = pd.DataFrame(lines, columns=COLUMNS)
    return table.drop(columns=[name for name in ("Budget", "Settings") if (table[name] == "").all()])


def differences(comparison: Comparison) -> list[str]:
    """Return a line for each way in which the sides differ, other than in step time."""
    lines = [f"{name} {before} -> {after}" for name, (before, after) in comparison.origins.items()]
    lines = [f"the sides differ in {', '.join(lines)}"] if lines else []
    for pair in comparison.pairs:
        if pair.differs:
            changes = ", ".join(f"{k} {a} -> {b}" for k, (a, b) in pair.differs.items())
            key = "id" if pair.matched == "id" else ", ".join(comparison.axes.names)
            lines.append(f"{pair.label}: matched by {key}; differs in {printable(changes)}")
    return lines


def notes(comparison: Comparison) -> list[str]:
    """Return the notes that explain the figures and verdicts."""
    pairs = [pair for pair in comparison.pairs if pair.ratio]
    if not pairs:
        return []
    clocks = sorted({pair.clock for pair in pairs if pair.clock})
    lines = [
        f"step time by the {' or '.join(clocks)} clock, without warm-up; B/A above 1: B is slower; in "
        f"parentheses: {CONFIDENCE:.0%} interval (Welch's t over repeats)",
        f"a difference is at least {100 * comparison.min_effect:.3g}% of the step time and significant after "
        f"Holm's correction for {len(pairs)} {'cell' if len(pairs) == 1 else 'cells'}",
    ]
    if any(pair.known for pair in pairs):
        count = sum(pair.known for pair in pairs)
        lines.append(f"the spread of repeats is known from A/A comparisons for {count} of {len(pairs)} cells")
    if any(pair.ratio and pair.ratio.low is None for pair in pairs):
        lines.append("a single repeat has no interval")
    if comparison.across:
        lines.append(f"accepted differences: {', '.join(comparison.across)}")
    return lines


def differing_losses(comparison: Comparison) -> list[str]:
    """Return a line for each pair whose losses differ."""
    return [
        f"losses differ: {pair.label}: {pair.losses.text}"
        for pair in comparison.pairs
        if pair.losses.outcome == "differ"
    ]


def unmatched(comparison: Comparison) -> list[str]:
    """Return a line for each cell that only one side has."""
    return [
        f"only in {name}: {comparison.axes.label(cell.resolved)} ({cell.id})"
        for name, cells in (("A", comparison.only_a), ("B", comparison.only_b))
        for cell in cells
    ]


def _caption(comparison: Comparison) -> Text:
    text = Text()
    for line in differences(comparison):
        text.append(f"{line}\n")
    for pair in comparison.pairs:
        outcome = pair.losses.outcome
        text.append("losses ").append(outcome, style=LOSS_STYLES[outcome])
        text.append(f": {pair.label}: {pair.losses.text}\n")
    for line in unmatched(comparison):
        text.append(f"{line}\n", style="yellow")
    for warning in comparison.warnings:
        text.append(f"warning: {warning}\n", style="yellow")
    for line in notes(comparison):
        text.append(f"{line}\n", style="dim")
    text.append(headline(comparison), style="bold")
    return text


def _cell(comparison: Comparison, cell: SideCell) -> dict[str, str]:
    return {"cell": cell.id, "label": comparison.axes.label(cell.resolved)}


def _json_row(pair: Pair) -> dict[str, Any]:
    r = pair.ratio
    return {
        "a": pair.a.id,
        "b": pair.b.id,
        "label": pair.label,
        "matched": pair.matched,
        "differs": {key: list(values) for key, values in pair.differs.items()},
        "clock": pair.clock,
        "a_ns": pair.summary_a.centre_ns if pair.summary_a else None,
        "b_ns": pair.summary_b.centre_ns if pair.summary_b else None,
        "a_repeats": pair.summary_a.repeats if pair.summary_a else 0,
        "b_repeats": pair.summary_b.repeats if pair.summary_b else 0,
        "ratio": r.value if r else None,
        "ratio_low": r.low if r else None,
        "ratio_high": r.high if r else None,
        "p": r.p if r else None,
        "known_spread": pair.known,
        "losses": pair.losses.outcome,
        "losses_text": pair.losses.text,
        "verdict": pair.verdict.word,
        "reason": pair.verdict.reason or None,
        "advised_repeats": pair.verdict.repeats,
    }
