# SPDX-License-Identifier: Apache-2.0
"""A run as a table for the terminal, as JSON, and as one self-contained HTML page."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from rich.table import Table
from rich.text import Text

from results import summary
from results.runs import Run
from results.stats import columns_of
from results.summary import MIGRATED, Report, Row
from results.units import digits, duration, percent, plain
from testbed.common import files
from testbed.common.cache import explained_disk_errors
from testbed.common.errors import UsageError

FORMAT = 1
_NUMBERS = ("Repeats", "Steps", "Step time", "Relative", "Node 0", "Moved/step")
_STYLES = {"OK": "green", "DIFFERENT": "bold red", "NOTHING TO COMPARE": "yellow"}


def report(run: Run) -> Table:
    """The table of a run; losses, failures, notes and warnings stand below it."""
    data = summary.build(run)
    columns, lines = _grid(data.rows)
    table = Table(title=Text(f"{data.suite}, {data.created}"), title_justify="left", caption_justify="left")
    for column in columns:
        table.add_column(column, justify="right" if column in _NUMBERS else "left", overflow="fold")
    for line in lines:
        table.add_row(*(Text(value) for value in line))
    table.caption = _below(data)
    table.caption_style = ""
    return table


def rows(run: Run) -> list[dict[str, Any]]:
    """One flat mapping per cell, times in nanoseconds, for JSON or CSV."""
    data = summary.build(run)
    return [_row(row, data.clock) for row in data.rows]


def to_dict(run: Run) -> dict[str, Any]:
    """All that is reported, as JSON."""
    data = summary.build(run)
    result = dataclasses.asdict(data)
    return {"format": FORMAT, **result, "rows": [_row(row, data.clock) for row in data.rows]}


def write_html(run: Run, path: Path | str) -> Path:
    """Write the page: one file with no script and nothing fetched. Returns its path."""
    from results import plots  # matplotlib takes a second to import, and only pages need it

    target = Path(path)
    if target.is_dir():
        raise UsageError(f"{target}: is a folder", hint=f"name a file, for instance {target / 'report.html'}")
    data = summary.build(run)
    columns, lines = _grid(data.rows)
    times, where = plots.step_times(data.rows), plots.residency(data.rows)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("results", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html.j2").render(
        data=data,
        columns=columns,
        lines=lines,
        numbers=_NUMBERS,
        # the plots' text was escaped by matplotlib, and jinja2 escapes everything else
        times=Markup(times) if times else None,  # noqa: S704
        residency=Markup(where) if where else None,  # noqa: S704
        no_performance=summary.NO_PERFORMANCE,
        resolved=json.dumps(run.info.resolved, indent=2, sort_keys=True, ensure_ascii=False),
    )
    try:
        with explained_disk_errors(target):
            files.write_atomic(target, page)
    except OSError as e:
        raise UsageError(f"{target}: cannot be written: {e.strerror}") from None
    return target


def _printable(value: Any) -> Any:
    """XML has no control characters but the white ones; the plots' markup is left as it is."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return "".join(c for c in value if c in "\n\t" or plain(c) or c == " ")


def _grid(data: list[Row]) -> tuple[list[str], list[list[str]]]:
    """Column names and text; columns that would be empty are left out."""
    first = {row.id: row for row in data}
    grid: list[dict[str, str]] = []
    for row in data:
        s, r = row.summary, row.relative
        grid.append(
            {
                "Model": row.model,
                "Placement": row.placement,
                "Also": row.also,
                "Repeats": f"{row.repeats}" + (f" (+{row.failures} failed)" if row.failures else ""),
                "Steps": str(s.steps) if s else "-",
                "Step time": duration(s.centre_ns, low=s.low_ns, high=s.high_ns) if s else "-",
                "Relative": (
                    f"{r.value:.2f} ({r.low:.2f} to {r.high:.2f})"
                    if r
                    else "1"
                    if any(other.reference == row.id for other in first.values())
                    else ""
                ),
                "Node 0": percent(row.anon_shares.get("0", 0.0)) if row.anon_shares else "",
                "Moved/step": digits(row.vmstat[MIGRATED]) if MIGRATED in row.vmstat else "",
            }
        )
    always = ("Model", "Placement", "Repeats", "Step time")
    columns = [c for c in (grid[0] if grid else {}) if c in always or any(line[c] for line in grid)]
    return columns, [[line[c] for c in columns] for line in grid]


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
    s, r = row.summary, row.relative
    return {
        "cell": row.id,
        "model": row.model,
        "placement": row.placement,
        "also": row.also,
        "repeats": row.repeats,
        "failures": row.failures,
        "clock": clock if s else None,
        **columns_of(s),
        "reference": row.reference,
        "relative": r.value if r else None,
        "relative_low": r.low if r else None,
        "relative_high": r.high if r else None,
        "anon_shares": row.anon_shares,
        "vmstat_per_step": row.vmstat,
    }
