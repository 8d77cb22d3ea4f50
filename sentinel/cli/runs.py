# SPDX-License-Identifier: Apache-2.0
"""`sentinel run`."""

from __future__ import annotations

import datetime
import shlex
from pathlib import Path

import click

from sentinel.cli import output, streams
from testbed.common.errors import ExitCode

_FOLDER = click.Path(path_type=Path)


@click.command(
    epilog="""\b
Examples:
  sentinel run experiments/suites/first.yaml
  sentinel run experiments/suites/placements.yaml --out runs/p      run again to resume
  sentinel run experiments/suites/first.yaml --dry-run              only list the cells
"""
)
@click.argument("suite", type=_FOLDER)
@click.option("--out", type=_FOLDER, help="Where the records go; a run that is there is resumed.")
@click.option(
    "--source-location", "location", help="Where the kernel's source is; see `sentinel kernel build`."
)
@click.option("--uri", help="The libvirt connection (default: embed).")
@click.option("--dry-run", is_flag=True, help="List the cells that a run now would have, and run nothing.")
@output.json_option
def run(
    suite: Path, out: Path | None, location: str | None, uri: str | None, dry_run: bool, as_json: bool
) -> int:
    """Run the suite in the file SUITE and show its report."""
    from experiments import suite as suites
    from testbed.common import places
    from testbed.common.progress import note

    plan = suites.load(suite)
    places.check_roots(cache=True)
    if dry_run:
        from kernel import build as kernels
        from testbed.common.cache import Cache

        # As the run does: a cell's id names the kernel that `auto` came to
        plan = suites.on_kernel(plan, kernels.source_of(plan.suite.kernel, location=location, cache=Cache()))
        cells = [{"id": cell.id, **cell.resolved} for cell in plan.cells]
        if as_json:
            output.show_json(cells)
        else:
            lines = [
                [cell.id, plan.axes.label(cell.resolved), str(plan.suite.repeats)] for cell in plan.cells
            ]
            output.show(output.rows(("cell", "what", "repeats"), lines))
        return ExitCode.OK
    from experiments import runner
    from results import page as pages
    from results import report as reports
    from results.runs import Run

    now = datetime.datetime.now().astimezone()
    out = out or Path("runs") / f"{plan.suite.name}-{now:%Y%m%d-%H%M%S}"
    places.check_roots(state=True)
    places.check_folder(out, "--out")
    streams.check()
    words = ["sentinel", "run", str(suite)] + (["--source-location", location] if location else [])
    outcome = runner.run(plan, out, command=shlex.join(words), location=location, uri=uri)
    loaded = Run.load(out)
    page = pages.write(loaded, out / "report.html")
    with streams.unread():  # what went wrong is told by the exit code all the same
        if as_json:
            output.show_json(reports.to_dict(loaded))
        else:
            output.show(reports.report(loaded))
    note(f"records in {out}, page in {page}")
    return outcome.failures[0].code if outcome.failures else ExitCode.OK
