# SPDX-License-Identifier: Apache-2.0
"""`sentinel run` and `sentinel suite`."""

from __future__ import annotations

import contextlib
import datetime
import functools
import shlex
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from sentinel.cli import dry_runs, options, output, streams
from testbed.common.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from experiments.matrix import Cell, Matrix
    from experiments.resuming import Which
    from experiments.runner import Outcome
    from experiments.slurm_job import Job

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


def _complete_cells(context: click.Context, _option: click.Parameter, beginning: str) -> list[CompletionItem]:
    """Return the ids of the suite's cells, with their labels; none if the suite has a mistake."""
    from experiments import matrix as matrices

    with contextlib.suppress(Exception):
        suite = context.params["suite"] or context.args[0]  # unparsed while the last option lacks its value
        matrix = matrices.load(Path(suite))
        cells = _cells(matrix, (), context.params.get("location"))
        items = [CompletionItem(cell.id, help=matrix.axes.label(cell.resolved)) for cell in cells]
        return [item for item in items if item.value.startswith(beginning)]
    return []


@click.command(
    cls=_RunCommand,
    epilog="""\b
Examples:
  sentinel run experiments/suites/first.yaml
  sentinel run experiments/suites/placements.yaml --out runs/p      run it again to resume
  sentinel run experiments/suites/first.yaml --dry-run              only list the cells
  sentinel run experiments/suites/first.yaml --out runs/f --failed  again what failed there
  sentinel run experiments/suites/first.yaml --only "cnn b8, fast-only"
  sentinel run my/suite.yaml -j 4                                   four repeats at once
  sentinel run my/suite.yaml -j 16 --slurm my/cluster.yaml          in 16 SLURM jobs
  sentinel run my/suite.yaml --scheduler tcp://node1:8786           on a Dask cluster
  sentinel run my/suite.yaml --target ssh:root@optane1              on a real machine
""",
)
@click.argument("suite", type=_PATH)
@click.option("--out", type=_PATH, help="Folder for the records; an existing run is resumed.")
@click.option(
    "--only",
    metavar="CELL",
    multiple=True,
    shell_complete=_complete_cells,
    help="Run this cell: a label, an id, or its beginning; may be repeated.",
)
@click.option(
    "--failed", "which", flag_value="failed", help="Run again the repeats that failed, and nothing else."
)
@click.option(
    "--force", "which", flag_value="all", help="Run the cells again; new repeats replace finished ones."
)
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(1, 256),
    default=1,
    show_default=True,
    help="Processes of this host that run repeats at once; with --slurm, jobs.",
)
@click.option("--slurm", type=_PATH, metavar="FILE", help="Run repeats in SLURM jobs as in this YAML file.")
@click.option("--scheduler", metavar="ADDRESS", help="Run repeats on the workers of this Dask scheduler.")
@options.target
@options.source_location
@options.uri
@click.option("--dry-run", is_flag=True, help="List the cells without running them.")
@output.json_option
def run(
    suite: Path,
    out: Path | None,
    only: tuple[str, ...],
    which: Which | None,
    jobs: int,
    slurm: Path | None,
    scheduler: str | None,
    target: str | None,
    location: str | None,
    uri: str | None,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Run the suite in the file SUITE and show its report."""
    from experiments import slurm_job
    from results import page as pages
    from results import report as reports
    from results.runs import Run
    from testbed.common.progress import note

    matrix = _load(suite, target)
    job = None if slurm is None else slurm_job.load(slurm)
    cells = _cells(matrix, only, location) if only or dry_run else []
    which = which or "missing"
    if dry_run:
        dry_runs.show(cells, matrix.axes, out, which, as_json=as_json)
        return ExitCode.OK
    chosen = [matrix.axes.label(cell.resolved) for cell in cells]
    if scheduler is not None and (jobs > 1 or job is not None):
        raise UsageError("the workers of --scheduler run already: give it without -j and --slurm")
    out, outcome = _execute(
        matrix,
        suite,
        out,
        only=chosen,
        which=which,
        jobs=jobs,
        slurm=job,
        scheduler=scheduler,
        target=target,
        location=location,
        uri=uri,
    )
    loaded = Run.load(out)
    page = pages.write(loaded, out / "report.html")
    with streams.unread():  # the exit code reports failures even without a reader of the table
        if as_json:
            output.show_json(reports.to_dict(loaded))
        else:
            output.show(reports.report(loaded))
    note(f"records in {out}, report in {page}")
    return outcome.code


def measure(suite: Path, out: Path | None, *, location: str | None, uri: str | None) -> tuple[Path, Outcome]:
    """Run a suite. Returns the folder of its records, by default a new one, and what was done."""
    return _execute(_load(suite), suite, out, location=location, uri=uri)


def _load(suite: Path, target: str | None = None) -> Matrix:
    """Read a suite, and check that what it needs can be built."""
    from experiments import matrix as matrices
    from testbed.common import places
    from testbed.targets import spec

    matrix = matrices.load(suite, **({} if target is None else {"target": spec.parse(target)}))
    places.check_roots(cache=True)
    return matrix


def _execute(
    matrix: Matrix,
    suite: Path,
    out: Path | None,
    *,
    only: Collection[str] = (),
    which: Which = "missing",
    jobs: int = 1,
    slurm: Job | None = None,
    scheduler: str | None = None,
    target: str | None = None,
    location: str | None,
    uri: str | None,
) -> tuple[Path, Outcome]:
    from experiments import runner
    from experiments.backends import backend_of
    from experiments.workers import Workers
    from testbed.common import places
    from testbed.host import memory

    now = datetime.datetime.now().astimezone()
    out = out or Path("runs") / f"{matrix.suite.name}-{now:%Y%m%d-%H%M%S}"
    places.check_roots(state=True)
    places.check_folder(out, "--out")
    streams.check()
    words = ["sentinel", "run", str(suite)] + (["--source-location", location] if location else [])
    words += ["--target", target] if target else []

    def command_of(cell: Cell) -> str:
        return shlex.join([*words, "--only", matrix.axes.label(cell.resolved)])

    alone = scheduler is None and slurm is None and jobs == 1
    if matrix.suite.target is not None and not alone:
        raise UsageError("a real machine runs one repeat at a time: no -j, no --slurm, no --scheduler")
    if matrix.suite.mode == "emulate" and slurm is not None:
        slurm.check_capacity(matrix.machine)
    elif matrix.suite.mode == "emulate" and jobs > 1:
        memory.check_capacity(matrix.machine, count=jobs)
    make = functools.partial(backend_of, matrix.suite, location=location, uri=uri)
    outcome = runner.run(
        matrix,
        out,
        command=shlex.join(words),
        command_of=command_of,
        only=only,
        which=which,
        backend=make(),
        workers=None if alone else Workers(make, jobs, scheduler, slurm),
    )
    return out, outcome


def _cells(matrix: Matrix, only: Sequence[str], location: str | None) -> list[Cell]:
    """Return the cells that `only` names, or all, as the run would record them. Raises `UsageError`."""
    from kernel import build as kernels
    from results import selection
    from testbed.common.cache import Cache

    # Resolve `auto` as the run would, since the id of a cell depends on the kernel.
    if matrix.suite.target is None:
        kernel = kernels.source_of(matrix.suite.kernel, location=location, cache=Cache())
        matrix = matrix.with_kernel(kernel)
    labels = {cell.id: matrix.axes.label(cell.resolved) for cell in matrix.cells}
    chosen = {cell for name in only for cell in selection.choose(name, labels)}
    return [cell for cell in matrix.cells if not only or cell.id in chosen]


@click.group()
def suite() -> None:
    """Describe the format of suites and of what they name."""


@suite.command(
    epilog="""\b
Examples:
  sentinel suite schema                      the JSON Schema, with all policies and models
  sentinel suite schema >suite.schema.json   for an editor that checks YAML
  sentinel suite schema preset >preset.schema.json
  sentinel suite schema slurm                the file that describes SLURM jobs
"""
)
@click.argument("kind", type=click.Choice(["suite", "machine", "preset", "slurm"]), default="suite")
def schema(kind: str) -> None:
    """Print the JSON Schema of the files of suites, machines, presets or SLURM jobs."""
    from experiments.slurm_job import Job
    from experiments.suite import Suite
    from testbed.common.schema import Strict, json_schema
    from testbed.machine import Machine
    from testbed.timing.preset import Preset

    models: dict[str, type[Strict]] = {"suite": Suite, "machine": Machine, "preset": Preset, "slurm": Job}
    output.show_json(json_schema(models[kind]))
