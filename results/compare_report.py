# SPDX-License-Identifier: Apache-2.0
"""A comparison of two runs as a table for the terminal and as JSON."""

from __future__ import annotations

from typing import Any

import pandas as pd
from rich.text import Text

from results.columns import TEXT
from results.compare import Comparison, Pair
from results.intervals import CONFIDENCE
from results.report import LOSS_STYLES
from results.runs import Cell
from results.tables import BREAK, Grid
from results.units import duration, factor, printable

FORMAT = 3
_COLUMNS = ("Model", "Policy", "Budget", "Settings", "A", "B", "B/A", "Verdict on B")
_STYLES = {"faster": "green", "slower": "red"}


def table(comparison: Comparison) -> Grid:
    """Return the table of a comparison, with losses, differences, unmatched cells and warnings below it."""
    return Grid.of_frame(
        frame(comparison.pairs),
        section="Model",
        text_columns=(*TEXT, "Verdict on B"),
        styles=_STYLES,
        title=Text(f"A: {comparison.a.path}\nB: {comparison.b.path}", style="italic"),
        caption=_caption(comparison),
    )


def to_dict(comparison: Comparison) -> dict[str, Any]:
    """Return the whole comparison for JSON, times in nanoseconds."""
    return {
        "format": FORMAT,
        "a": str(comparison.a.path),
        "b": str(comparison.b.path),
        "rows": rows(comparison),
        "matched_by": comparison.axes.names,
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
                pair.verdict,
            )
        )
    table = pd.DataFrame(lines, columns=_COLUMNS)
    return table.drop(columns=[name for name in ("Budget", "Settings") if (table[name] == "").all()])


def _caption(comparison: Comparison) -> Text:
    text = Text()
    for pair in comparison.pairs:
        if pair.differs:
            differences = ", ".join(f"{k} {a} -> {b}" for k, (a, b) in pair.differs.items())
            key = "id" if pair.matched == "id" else ", ".join(comparison.axes.names)
            text.append(f"{pair.label}: matched by {key}; differs in {printable(differences)}\n")
        outcome = pair.losses.outcome
        text.append("losses ").append(outcome, style=LOSS_STYLES[outcome])
        text.append(f": {pair.label}: {pair.losses.text}\n")
    for name, cells in (("A", comparison.only_a), ("B", comparison.only_b)):
        for cell in cells:
            label = comparison.axes.label(cell.resolved)
            text.append(f"only in {name}: {label} ({cell.id})\n", style="yellow")
    for warning in comparison.warnings:
        text.append(f"warning: {warning}\n", style="yellow")
    clocks = sorted({pair.clock for pair in comparison.pairs if pair.ratio and pair.clock})
    if clocks:
        text.append(
            f"step time by the {' or '.join(clocks)} clock, without warm-up; B/A above 1: B is slower; "
            f"in parentheses: {CONFIDENCE:.0%} interval (Welch's t over repeats)\n",
            style="dim",
        )
    if any(pair.ratio and pair.ratio.repeats == 1 for pair in comparison.pairs):
        text.append("a single repeat has no interval\n", style="dim")
    text.rstrip()
    return text


def _cell(comparison: Comparison, cell: Cell) -> dict[str, str]:
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
        "ratio": r.value if r else None,
        "ratio_low": r.low if r else None,
        "ratio_high": r.high if r else None,
        "repeats": r.repeats if r else 0,
        "losses": pair.losses.outcome,
        "losses_text": pair.losses.text,
        "verdict": pair.verdict,
    }
