# SPDX-License-Identifier: Apache-2.0
"""The HTML page of a run: one file with no script that loads nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from results import report, summary
from results.plots import colours
from results.runs import Run
from results.tables import BREAK
from results.units import plain
from testbed.common import files
from testbed.common.cache import explained_disk_errors
from testbed.common.errors import UsageError


def write(run: Run, path: Path | str) -> Path:
    """Write the page: one file with no script and nothing fetched. Returns its path."""
    from results.plots import charts  # matplotlib takes a second to import, and only pages need it

    target = Path(path)
    if target.is_dir():
        raise UsageError(f"{target}: is a folder", hint=f"name a file, for instance {target / 'report.html'}")
    data = summary.build(run)
    columns, lines = report.grid(data.rows)
    lines = [[value.replace(BREAK, " ") for value in line] for line in lines]
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
        columns=columns,
        lines=lines,
        text=report.TEXT_COLUMNS,
        # the plots' text was escaped by matplotlib, and jinja2 escapes everything else
        times=Markup(times) if times else None,  # noqa: S704
        tensors=Markup(tensors) if tensors else None,  # noqa: S704
        residency=Markup(residency) if residency else None,  # noqa: S704
        slots=colours.slots(),
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
