# SPDX-License-Identifier: Apache-2.0
"""`sentinel report` and `sentinel results`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sentinel.cli import inputs, output

if TYPE_CHECKING:
    from results.export import FileFormat

_FOLDER = click.Path(path_type=Path)


@click.command(
    epilog="""\b
Examples:
  sentinel report runs/first-20260102-030405
  sentinel report runs/p --html /tmp/p.html
"""
)
@click.argument("folder", metavar="RUN", type=_FOLDER)
@click.option("--html", type=_FOLDER, help="Write the page to this file (default: RUN/report.html).")
@output.json_option
def report(folder: Path, html: Path | None, as_json: bool) -> None:
    """Show the run in the folder RUN as a table, and write its HTML page."""
    from results import page
    from results import report as reports
    from results.runs import Run
    from testbed.common import places
    from testbed.common.progress import note

    run = Run.load(folder)
    html = html or folder / "report.html"
    places.check_file(html, "--html")
    page.write(run, html)
    if as_json:
        output.show_json(reports.to_dict(run))
    else:
        output.show(reports.report(run))
    note(f"page in {html}")


@click.command(
    epilog="""\b
Examples:
  sentinel trace runs/p "lstm b8, sentinel, 20%"
  sentinel trace runs/p 27966aed --repeat 1 --out /tmp/step.json.gz
"""
)
@click.argument("folder", metavar="RUN", type=_FOLDER)
@click.argument("cell")
@click.option("--repeat", type=click.IntRange(0, 999), help="A repeat by number (default: the first).")
@click.option("--out", type=_FOLDER, help="Write to this file (default: RUN/trace-<id>.json.gz).")
def trace(folder: Path, cell: str, repeat: int | None, out: Path | None) -> None:
    """Write a trace of CELL in the run in the folder RUN, for ui.perfetto.dev.

    CELL is an id, its beginning, or a label. The trace shows the measured steps, and the steps that the
    cell's plans predict: operations, layers, lifetimes and tiers of tensors, migrations, waits. All times are
    by the model clock, if the records have it.
    """
    from results import trace as traces
    from testbed.common import places
    from testbed.common.progress import note

    run = inputs.read_run(folder)
    result = traces.build(run, cell, repeat)
    out = out or folder / f"trace-{result.cell}.json.gz"
    places.check_file(out, "--out")
    inputs.warn(result.warnings)
    traces.write(result, out)
    note(f"trace in {out}: open it in ui.perfetto.dev")


@click.group()
def results() -> None:
    """Export the records of runs."""


@results.command(
    epilog="""\b
Examples:
  sentinel results export runs/placements
  sentinel results export runs/before runs/after --parquet --out /tmp/both
"""
)
@click.argument("folders", metavar="RUN...", type=_FOLDER, nargs=-1, required=True)
@click.option("--csv", "file_format", flag_value="csv", default=True, help="Write CSV files (the default).")
@click.option("--parquet", "file_format", flag_value="parquet", help="Write Parquet files; needs pyarrow.")
@click.option("--out", type=_FOLDER, help="Write into this folder (default: RUN, if there is only one).")
@output.json_option
def export(folders: tuple[Path, ...], file_format: FileFormat, out: Path | None, as_json: bool) -> None:
    """Write the repeats and steps of runs as two files, one row each."""
    from results import export as exports
    from testbed.common import places
    from testbed.common.errors import UsageError

    if out is None:
        if len(folders) > 1:
            raise UsageError("several runs need --out", hint="name a folder for the files of all runs")
        out = folders[0]
    runs = [inputs.read_run(folder) for folder in folders]
    places.check_folder(out, "--out")
    paths = exports.write(runs, out, file_format)
    if as_json:
        output.show_json({"files": [str(path) for path in paths]})
    else:
        for path in paths:
            click.echo(path)
