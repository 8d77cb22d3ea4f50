# SPDX-License-Identifier: Apache-2.0
"""The report of a run as a table for the terminal and as JSON."""

from __future__ import annotations

import dataclasses
from typing import Any

import pandas as pd
from rich.text import Text

from results import notes, summary
from results.columns import TEXT, columns
from results.rows import Row
from results.runs import Run
from results.stats import Clock
from results.summary import Report
from results.tables import Grid

FORMAT = 4
LOSS_STYLES = {"equal": "green", "differ": "bold red", "not compared": "yellow"}


def report(run: Run) -> Grid:
    """Return the table of a run, with checks of losses, failures, warnings and notes below it."""
    data = summary.build(run)
    return Grid.of_frame(
        frame(data.rows),
        section="Model",
        text_columns=TEXT,
        styles={},
        title=Text(f"{data.suite}, {data.created}", style="italic"),
        caption=_caption(data),
    )


def to_dict(run: Run) -> dict[str, Any]:
    """Return the whole report for JSON, times in nanoseconds."""
    data = summary.build(run)
    others = dataclasses.asdict(dataclasses.replace(data, rows=[]))
    return {"format": FORMAT, **others, "rows": [_json_row(row, data.clock) for row in data.rows]}


def rows(run: Run) -> list[dict[str, Any]]:
    """Return the report's rows for JSON, one per cell."""
    data = summary.build(run)
    return [_json_row(row, data.clock) for row in data.rows]


def frame(rows: list[Row]) -> pd.DataFrame:
    """Return the report's table as formatted text, without empty columns and constant counts."""
    shown = [column for column in columns(rows) if not column.page_only]
    lines = [[column.text(row) for column in shown] for row in rows]
    return pd.DataFrame(lines, columns=[column.title for column in shown])


def _caption(data: Report) -> Text:
    text = Text()
    for check in data.losses:
        text.append("losses ").append(check.outcome, style=LOSS_STYLES[check.outcome])
        text.append(f": {check.title}: {check.text}\n")
    for f in data.failures:
        text.append(f.verdict, style="yellow" if f.finished_later else "red")
        later = ", finished later" if f.finished_later else ""
        text.append(f": {f.label}, repeat {f.repeat}, attempt {f.attempt}{later}: {f.message}\n")
    for warning in data.warnings:
        text.append(f"warning: {warning}\n", style="yellow")
    for note in data.notes:
        text.append(f"{note}\n", style="bold" if note.startswith(notes.NO_PERFORMANCE) else "dim")
    text.rstrip()
    return text


def _json_row(row: Row, clock: Clock) -> dict[str, Any]:
    t, p, m, speed = row.tensors, row.prediction, row.migration, row.speed
    return {
        "cell": row.id,
        "label": row.label,
        "model": row.model,
        "policy": row.policy,
        "budget": row.budget or None,
        "settings": row.settings,
        **row.figures(clock),
        "speed": speed._asdict() if speed else None,
        "predicted": dataclasses.asdict(p) if p else None,
        "migration_per_step": dataclasses.asdict(m) if m else None,
        "budget_share": row.budget_share,
        "tensor_bytes": list(t.nodes) if t else None,
        "budget_bytes": t.budget if t else None,
        "anon_shares": row.anon_shares,
        "vmstat_per_step": row.vmstat,
    }
