# SPDX-License-Identifier: Apache-2.0
"""A run as a table for the terminal, as JSON, and as one self-contained HTML page."""

from __future__ import annotations

import dataclasses
from typing import Any

from rich.text import Text

from results import summary
from results.runs import Run
from results.stats import columns_of
from results.summary import MIGRATED, Report, Row
from results.tables import BREAK, Column, Grid, Section
from results.units import digits, duration, parts, percent

FORMAT = 2
_ALWAYS = ("Model", "Placement", "Step time")
_COUNTS = ("Repeats", "Steps")  # steps of a repeat; shown where they differ, else a note says them
TEXT_COLUMNS = ("Model", "Placement", "Also")  # columns; all others are figures
_STYLES = {"OK": "green", "DIFFERENT": "bold red", "NOTHING TO COMPARE": "yellow"}


def report(run: Run) -> Grid:
    """The table of a run; losses, failures, notes and warnings stand below it."""
    data = summary.build(run)
    columns, lines = grid(data.rows)
    models: dict[str, list[list[Text]]] = {}
    for model, *values in lines:
        models.setdefault(model, []).append([Text(value) for value in values])
    return Grid(
        [Column(title, figures=title not in TEXT_COLUMNS) for title in columns[1:]],
        [Section(model, cells) for model, cells in models.items()],
        title=Text(f"{data.suite}, {data.created}", style="italic"),
        caption=_below(data),
    )


def rows(run: Run) -> list[dict[str, Any]]:
    """One flat mapping per cell, times in nanoseconds, for JSON or CSV."""
    data = summary.build(run)
    return [_row(row, data.clock) for row in data.rows]


def to_dict(run: Run) -> dict[str, Any]:
    """All that is reported, as JSON."""
    data = summary.build(run)
    result = dataclasses.asdict(data)
    return {"format": FORMAT, **result, "rows": [_row(row, data.clock) for row in data.rows]}


def grid(data: list[Row]) -> tuple[list[str], list[list[str]]]:
    """Column names and text, the model first. Columns are left out that would be empty, or count the same."""
    references = {row.reference for row in data}
    told = any(row.tensors for row in data)
    grid: list[dict[str, str]] = []
    for row in data:
        s, r = row.summary, row.relative
        grid.append(
            {
                "Model": row.model,
                "Placement": ", ".join(filter(None, (row.placement, row.budget))),
                "Also": row.also,
                "Repeats": f"{row.repeats}",
                "Steps": f"{s.steps / s.repeats:g}" if s else "-",
                "Step time": _step_time(row),
                "Relative": (
                    f"{r.value:.2f}{BREAK}({r.low:.2f} to {r.high:.2f})"
                    if r
                    else "1"
                    if row.id in references
                    else ""
                ),
                "Tensors on node 0": _tensors(row) if told else "",
                "Process on node 0": percent(row.anon_shares.get("0", 0.0))
                if row.anon_shares and not told
                else "",
                "Moved per step": digits(row.vmstat[MIGRATED]) if MIGRATED in row.vmstat else "",
            }
        )
    columns = [c for c in (grid[0] if grid else {}) if c in _ALWAYS or any(line[c] for line in grid)]
    columns = [c for c in columns if c not in _COUNTS or len({line[c] for line in grid} - {"-"}) > 1]
    return columns, [[line[c] for c in columns] for line in grid]


def _step_time(row: Row) -> str:
    s = row.summary
    if s is not None:
        return duration(s.centre_ns, low=s.low_ns, high=s.high_ns, gap=BREAK)
    return "by another clock" if row.off_clock else "-"


def _tensors(row: Row) -> str:
    """Bytes on node 0, of the budget if there is one that is known."""
    if row.tensors is None:
        return "not recorded" if row.repeats else "-"
    if row.tensors.budget is None:
        size, unit = parts(row.tensors.nodes[0])
        return f"{size} {unit}"
    size, budget, unit = parts(row.tensors.nodes[0], row.tensors.budget)
    return f"{size}{BREAK}of {budget} {unit}"


def _below(data: Report) -> Text:
    text = Text()
    for check in data.losses:
        text.append("losses ").append(check.outcome, style=_STYLES[check.outcome])
        text.append(f" {check.title}: {check.text}\n")
    for f in data.failures:
        text.append(f.verdict, style="yellow" if f.made_good else "red")
        later = ", finished later" if f.made_good else ""
        text.append(f": {f.label}, repeat {f.repeat}, try {f.attempt}{later}: {f.message}\n")
    for warning in data.warnings:
        text.append(f"warning: {warning}\n", style="yellow")
    for note in data.notes:
        text.append(f"{note}\n", style="bold" if note.startswith(summary.NO_PERFORMANCE) else "dim")
    text.rstrip()
    return text


def _row(row: Row, clock: str) -> dict[str, Any]:
    s, r, t = row.summary, row.relative, row.tensors
    return {
        "cell": row.id,
        "label": row.label,
        "model": row.model,
        "placement": row.placement,
        "fast_memory": row.budget or None,
        "also": row.also,
        "repeats": row.repeats,
        "off_clock": row.off_clock,
        "failures": row.failures,
        "clock": clock if s else None,
        **columns_of(s),
        "reference": row.reference,
        "relative": r.value if r else None,
        "relative_low": r.low if r else None,
        "relative_high": r.high if r else None,
        "tensor_bytes": list(t.nodes) if t else None,
        "budget_bytes": t.budget if t else None,
        "anon_shares": row.anon_shares,
        "vmstat_per_step": row.vmstat,
    }
