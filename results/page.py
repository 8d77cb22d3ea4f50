# SPDX-License-Identifier: Apache-2.0
"""The HTML page of a run: one file without scripts or external resources."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from results import notes, report, summary
from results.plots import colours
from results.runs import Run
from results.tables import BREAK
from results.units import printable
from testbed.common import files
from testbed.common.disk import explained_disk_errors
from testbed.common.errors import UsageError


def write(run: Run, path: Path | str) -> Path:
    """Write the page and return its path. Raises `UsageError` if the file cannot be written."""
    from results.plots import charts  # imports matplotlib, which takes a second

    target = Path(path)
    if target.is_dir():
        raise UsageError(f"{target}: is a folder", hint=f"give a file name, such as {target / 'report.html'}")
    data = summary.build(run)
    table = report.frame(data.rows)
    times, tensors = charts.step_times(data.rows), charts.tensors(data.rows)
    residency = None if tensors else charts.residency(data.rows)
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
        columns=list(table.columns),
        lines=[[text.split(BREAK) if text else [] for text in line] for line in table.to_numpy()],
        text_columns=report.TEXT_COLUMNS,
        # matplotlib escapes the text of plots; Jinja escapes the rest
        times=Markup(times) if times else None,  # noqa: S704
        tensors=Markup(tensors) if tensors else None,  # noqa: S704
        residency=Markup(residency) if residency else None,  # noqa: S704
        css_colours=colours.css_colours(),
        no_performance=notes.NO_PERFORMANCE,
        resolved=json.dumps(run.info.resolved, indent=2, sort_keys=True, ensure_ascii=False),
    )
    try:
        with explained_disk_errors(target):
            files.write_atomic(target, page)
    except OSError as e:
        raise UsageError(f"{target}: cannot be written: {e.strerror}") from None
    return target


def _printable(value: Any) -> Any:
    """Remove control characters other than line breaks and tabs, which XML does not allow; keep markup."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return "".join(c for c in value if c in "\n\t" or printable(c) or c == " ")
