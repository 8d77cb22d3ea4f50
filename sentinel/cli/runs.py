# SPDX-License-Identifier: Apache-2.0
"""`sentinel run` and `sentinel suite`."""

from __future__ import annotations

import datetime
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sentinel.cli import options, output, streams
from testbed.common.errors import ExitCode

if TYPE_CHECKING:
    from experiments.matrix import Matrix
    from experiments.runner import Outcome

_PATH = click.Path(path_type=Path)


class _RunCommand(click.Command):
    """Adds the names of policies and models to the help, from their registries."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from experiments import models, policies

        with formatter.section("Names in suites"):
            formatter.write_dl(
                [
                    ("placements", f"{', '.join(policies.names())} (sentinel policy list)"),
                    ("models", f"{', '.join(models.names())} (sentinel model list)"),
                ]
            )
        super().format_epilog(ctx, formatter)


@click.command(
    cls=_RunCommand,
    epilog="""\b
Examples:
  sentinel run experiments/suites/first.yaml
  sentinel run experiments/suites/placements.yaml --out runs/p      run it again to resume
  sentinel run experiments/suites/first.yaml --dry-run              only list the cells
""",
)
@click.argument("suite", type=_PATH)
@click.option("--out", type=_PATH, help="Folder for the records; an existing run is resumed.")
@options.source_location
@options.uri
@click.option("--dry-run", is_flag=True, help="List the cells without running them.")
@output.json_option
def run(
    suite: Path, out: Path | None, location: str | None, uri: str | None, dry_run: bool, as_json: bool
) -> int:
    """Run the suite in the file SUITE and show its report."""
    from experiments import matrix as matrices
    from testbed.common import places
    from testbed.common.progress import note

    matrix = matrices.load(suite)
    places.check_roots(cache=True)
    if dry_run:
        _show_cells(matrix, location, as_json=as_json)
        return ExitCode.OK
    from results import page as pages
    from results import report as reports
    from results.runs import Run

    out, outcome = execute(matrix, suite, out, location=location, uri=uri)
    loaded = Run.load(out)
    page = pages.write(loaded, out / "report.html")
    with streams.unread():  # the exit code reports failures even without a reader of the table
        if as_json:
            output.show_json(reports.to_dict(loaded))
        else:
            output.show(reports.report(loaded))
    note(f"records in {out}, report in {page}")
    return outcome.failures[0].code if outcome.failures else ExitCode.OK


def execute(
    matrix: Matrix, suite: Path, out: Path | None, *, location: str | None, uri: str | None
) -> tuple[Path, Outcome]:
    """Run a suite and return the folder of its records, by default a new one, and what was done."""
    from experiments import runner
    from experiments.backend import VirtualMachines
    from testbed.common import places

    now = datetime.datetime.now().astimezone()
    out = out or Path("runs") / f"{matrix.suite.name}-{now:%Y%m%d-%H%M%S}"
    places.check_roots(state=True)
    places.check_folder(out, "--out")
    streams.check()
    backend = VirtualMachines(location=location, uri=uri)
    words = ["sentinel", "run", str(suite)] + (["--source-location", location] if location else [])
    return out, runner.run(matrix, out, command=shlex.join(words), backend=backend)


def _show_cells(matrix: Any, location: str | None, *, as_json: bool) -> None:
    from kernel import build as kernels
    from testbed.common.cache import Cache

    # Resolve `auto` as the run would, since the id of a cell depends on the kernel.
    kernel = kernels.source_of(matrix.suite.kernel, location=location, cache=Cache())
    matrix = matrix.with_kernel(kernel)
    if as_json:
        output.show_json([{"id": cell.id, **cell.resolved} for cell in matrix.cells])
        return
    lines = [(cell.id, matrix.axes.label(cell.resolved), str(matrix.suite.repeats)) for cell in matrix.cells]
    output.show(output.rows(("cell", "label", "repeats"), lines))


@click.group()
def suite() -> None:
    """Describe the format of suites and of what they name."""


@suite.command(
    epilog="""\b
Examples:
  sentinel suite schema                      the JSON Schema, with all policies and models
  sentinel suite schema >suite.schema.json   for an editor that checks YAML
  sentinel suite schema preset >preset.schema.json
"""
)
@click.argument("kind", type=click.Choice(["suite", "machine", "preset"]), default="suite")
def schema(kind: str) -> None:
    """Print the JSON Schema of the files of suites, machines or presets."""
    from experiments.suite import Suite
    from testbed.common.schema import Strict, json_schema
    from testbed.machine import Machine
    from testbed.timing.preset import Preset

    models: dict[str, type[Strict]] = {"suite": Suite, "machine": Machine, "preset": Preset}
    output.show_json(json_schema(models[kind]))
