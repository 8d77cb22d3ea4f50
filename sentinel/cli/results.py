# SPDX-License-Identifier: Apache-2.0
"""`sentinel report` and `sentinel compare`."""

from __future__ import annotations

from pathlib import Path

import click

from sentinel.cli import output

_FOLDER = click.Path(path_type=Path)


@click.command(
    epilog="""\b
Examples:
  sentinel report runs/first-20260102-030405
  sentinel report runs/p --html /tmp/p.html
"""
)
@click.argument("folder", metavar="RUN", type=_FOLDER)
@click.option("--html", type=_FOLDER, help="Where the page goes (default: RUN/report.html).")
@output.json_option
def report(folder: Path, html: Path | None, as_json: bool) -> None:
    """Show the run in the folder RUN as a table, and write its HTML page."""
    from results import page as pages
    from results import report as reports
    from results.runs import Run
    from testbed.common import places
    from testbed.common.progress import note

    loaded = Run.load(folder)
    html = html or folder / "report.html"
    places.check_file(html, "--html")
    page = pages.write(loaded, html)
    if as_json:
        output.show_json(reports.to_dict(loaded))
    else:
        output.show(reports.report(loaded))
    note(f"page in {page}")


@click.command(
    epilog="""\b
Examples:
  sentinel compare runs/before runs/after
  sentinel compare runs/before runs/after --json
"""
)
@click.argument("a", type=_FOLDER)
@click.argument("b", type=_FOLDER)
@output.json_option
def compare(a: Path, b: Path, as_json: bool) -> None:
    """Compare run B with run A: the ratio of their step times per cell, with its spread."""
    from results.compare import compare as compare_runs
    from results.runs import Run

    comparison = compare_runs(Run.load(a), Run.load(b))
    if as_json:
        output.show_json(comparison.to_dict())
    else:
        output.show(comparison.table())
