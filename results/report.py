# SPDX-License-Identifier: Apache-2.0
"""The report of a run as a table for the terminal and as JSON."""

from __future__ import annotations

import dataclasses
from typing import Any

import pandas as pd
from rich.text import Text

from results import notes, summary
from results.rows import Row
from results.runs import Run
from results.stats import Clock
from results.summary import Report
from results.tables import BREAK, Grid
from results.units import digits, duration, factor, in_common_unit, percent

FORMAT = 3
TEXT_COLUMNS = ("Model", "Policy", "Budget", "Settings")
_MANDATORY = ("Model", "Policy", "Step time")
_COUNTS = ("Repeats", "Steps")  # omitted if all cells have the same count, which a note then gives
LOSS_STYLES = {"equal": "green", "differ": "bold red", "not compared": "yellow"}


def report(run: Run) -> Grid:
    """Return the table of a run, with checks of losses, failures, warnings and notes below it."""
    data = summary.build(run)
    return Grid.of_frame(
        frame(data.rows),
        section="Model",
        text_columns=TEXT_COLUMNS,
        styles={},
        title=Text(f"{data.suite}, {data.created}", style="italic"),
        caption=_caption(data),
    )


def to_dict(run: Run) -> dict[str, Any]:
    """Return the whole report for JSON, times in nanoseconds."""
    data = summary.build(run)
    report_fields = dataclasses.asdict(data)
    return {"format": FORMAT, **report_fields, "rows": [_json_row(row, data.clock) for row in data.rows]}


def rows(run: Run) -> list[dict[str, Any]]:
    """Return the report's rows for JSON, one per cell."""
    data = summary.build(run)
    return [_json_row(row, data.clock) for row in data.rows]


def frame(rows: list[Row]) -> pd.DataFrame:
    """Return the report's table as formatted text, without empty columns and constant counts."""
    references = {row.reference for row in rows}
    has_tensors = any(row.tensors for row in rows)
    table = pd.DataFrame([_line(row, is_reference=row.id in references, tensors=has_tensors) for row in rows])
    empty = [name for name in table if name not in _MANDATORY and (table[name] == "").all()]
    constant = [name for name in _COUNTS if name in table and table[name][table[name] != "-"].nunique() <= 1]
    return table.drop(columns=[*empty, *constant])


def _line(row: Row, *, is_reference: bool, tensors: bool) -> dict[str, str]:
    s, r = row.summary, row.relative
    relative = "1" if is_reference else ""
    if r is not None:
        relative = factor(r.value, low=r.low, high=r.high, places=2, gap=BREAK)
    on_node_0 = percent(row.anon_shares.get("0", 0.0)) if row.anon_shares else ""
    return {
        "Model": row.model,
        "Policy": row.policy,
        "Budget": row.budget,
        "Settings": row.settings,
        "Repeats": f"{row.repeats}",
        "Steps": f"{s.steps / s.repeats:g}" if s else "-",
        "Step time": _step_time(row),
        "Relative": relative,
        "Tensors on node 0": _tensors(row) if tensors else "",
        "Process on node 0": "" if tensors else on_node_0,
        "Moved pages": digits(row.vmstat[notes.MIGRATED]) if notes.MIGRATED in row.vmstat else "",
    }


def _step_time(row: Row) -> str:
    s = row.summary
    if s is not None:
        return duration(s.centre_ns, low=s.low_ns, high=s.high_ns, gap=BREAK)
    return "other clock" if row.off_clock else "-"


def _tensors(row: Row) -> str:
    """Format the tensor bytes on node 0 and, if recorded, the budget."""
    if row.tensors is None:
        return "not recorded" if row.repeats else "-"
    if row.tensors.budget is None:
        size, unit = in_common_unit(row.tensors.nodes[0])
        return f"{size} {unit}"
    size, budget, unit = in_common_unit(row.tensors.nodes[0], row.tensors.budget)
    return f"{size} of{BREAK}{budget} {unit}"


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
    t = row.tensors
    return {
        "cell": row.id,
        "label": row.label,
        "model": row.model,
        "policy": row.policy,
        "budget": row.budget or None,
        "settings": row.settings,
        **row.figures(clock),
        "tensor_bytes": list(t.nodes) if t else None,
        "budget_bytes": t.budget if t else None,
        "anon_shares": row.anon_shares,
        "vmstat_per_step": row.vmstat,
    }
