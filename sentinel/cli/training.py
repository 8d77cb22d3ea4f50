# SPDX-License-Identifier: Apache-2.0
"""`sentinel train`."""

from __future__ import annotations

import datetime
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sentinel.cli import options, output, streams
from sentinel.planner import policy as policies
from testbed.common import files as common
from testbed.common.errors import ExitCode, SentinelError, UsageError

if TYPE_CHECKING:
    from experiments.matrix import Matrix
    from results.runs import Run
    from testbed.common.core_yaml import KeyPath

_PATH = click.Path(path_type=Path)
_WORDS = "sentinel.words"  # in the context's `meta`: the command line
_FAST_MEMORY = "fast_memory"
# The options that the fields of the suite come from
_OPTIONS = {
    "fast_memory": "--fast-memory",
    "kernel": "--kernel",
    "machine": "--machine",
    "placements": "--compare-to",
    "preset": "--preset",
    "seed": "--seed",
    "steps": "--steps",
    "threads": "--threads",
    "warmup": "--warmup",
}


class _TrainCommand(click.Command):
    """Decides which options belong to the script.

    All words behind SCRIPT do if --fast-memory, which is required, precedes it. Otherwise the options of this
    program are behind SCRIPT, and only the others belong to the script.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[_WORDS] = list(args)
        ctx.allow_interspersed_args = False
        before, _, _ = self.make_parser(ctx).parse_args(list(args))
        if _FAST_MEMORY not in before:
            ctx.allow_interspersed_args = True
            ctx.ignore_unknown_options = True
        return super().parse_args(ctx, args)


@click.command(
    cls=_TrainCommand,
    epilog="""\b
Examples:
  sentinel train train.py --fast-memory 20% --preset optane-6dimm
  sentinel train --fast-memory "14 MiB" --file data --steps 20 train.py -e 2
  sentinel train train.py --fast-memory 20% --compare-to fast-only,first-touch
""",
)
@click.argument("script", type=_PATH)
@click.argument("args", metavar="[ARG]...", nargs=-1, type=click.UNPROCESSED)
@click.option(
    "--fast-memory",
    _FAST_MEMORY,
    required=True,
    metavar="SHARE|SIZE",
    help="Budget of fast memory: a share of the peak such as 20%, or a size such as '14 MiB'.",
)
@click.option(
    "--preset",
    default="optane-6dimm",
    show_default=True,
    metavar="NAME|FILE",
    help="Memory system; see `sentinel preset list`.",
)
@options.policy
@click.option(
    "--compare-to", metavar="POLICY,...", help="Train with these policies, too; see `sentinel policy list`."
)
@click.option(
    "--file",
    "files",
    type=_PATH,
    multiple=True,
    help="A file or folder that the script needs, in the script's folder; repeatable.",
)
@click.option(
    "--step-op",
    "step_ops",
    metavar="NAME",
    multiple=True,
    help="An operation whose runs are the training steps, if they are not recognised; repeatable.",
)
@options.machine
@options.kernel
@options.source_location
@click.option(
    "--steps",
    type=click.IntRange(1, 100_000),
    help="Stop after this many measured steps (default: when the script ends).",
)
@click.option(
    "--warmup",
    type=click.IntRange(1, 1000),
    default=2,
    show_default=True,
    help="Unmeasured steps before the profile.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**31 - 1),
    default=7,
    show_default=True,
    help="Seed of the graph, unless the script sets one.",
)
@click.option(
    "--threads",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Compute threads, unless the script sets them.",
)
@click.option("--out", type=_PATH, help="Folder for the records; an existing run is resumed.")
@options.uri
@click.pass_context
def train(
    context: click.Context,
    script: Path,
    args: tuple[str, ...],
    fast_memory: str,
    preset: str,
    policy: policies.Policy,
    compare_to: str | None,
    files: tuple[Path, ...],
    step_ops: tuple[str, ...],
    machine: str,
    kernel: str,
    location: str | None,
    steps: int | None,
    warmup: int,
    seed: int,
    threads: int,
    out: Path | None,
    uri: str | None,
) -> int:
    """Run the training script SCRIPT in a machine with little fast memory, and exit with its status.

    The first steps are profiled; then the planner decides where each tensor is and when it moves. Put options
    before SCRIPT if the script has options of the same name: then all that follows SCRIPT belongs to the
    script. The output of the script goes to standard output, everything else to standard error.
    """
    from testbed.common import places

    if script.name.startswith("-"):
        raise click.NoSuchOption(str(script), ctx=context)
    model = {
        "script": str(script),
        "args": list(args),
        "files": [str(path) for path in files],
        "step_ops": list(step_ops),
    }
    matrix = _matrix(
        {
            "name": _suite_name(script),
            "machine": machine,
            "preset": preset,
            "kernel": kernel,
            "models": [model],
            "placements": [policy, *_listed(compare_to)],
            "fast_memory": [fast_memory],
            "online": True,
            "steps": steps,
            "warmup": warmup,
            "repeats": 1,
            "order_seed": None,
            "seed": seed,
            "threads": threads,
        }
    )
    places.check_roots(cache=True, state=True)
    now = datetime.datetime.now().astimezone()
    out = out or Path("runs") / f"{matrix.suite.name}-{now:%Y%m%d-%H%M%S}"
    places.check_folder(out, "--out")
    streams.check()
    command = shlex.join(["sentinel", "train", *context.meta[_WORDS]])
    try:
        return _train(matrix, out, command=command, location=location, uri=uri)
    except streams.UnreadError:  # the machine has ended
        streams.discard_output()
        return ExitCode.UNREAD


def _listed(text: str | None) -> list[str]:
    """The names in a list with commas."""
    return [name.strip() for name in text.split(",")] if text is not None else []


def _suite_name(script: Path) -> str:
    """A valid name for the run of a script."""
    name = re.sub("[^a-z0-9]+", "-", script.stem.lower())[:40].strip("-")
    return name or "script"


def _matrix(fields: dict[str, Any]) -> Matrix:
    """Return the cells to run. Raises `UsageError` that names the option of a wrong value."""
    from pydantic import ValidationError

    from experiments import matrix as matrices
    from experiments.suite import Suite

    def error(where: KeyPath, problem: str) -> UsageError:
        if where[0] == "models":
            name = "--file" if where[2] == "files" else "SCRIPT"
        elif where == ("placements", 0):
            name = "--policy"
        else:
            name = _OPTIONS[str(where[0])]
        return UsageError(f"{name}: {problem}")

    try:
        suite = Suite.model_validate(fields)
    except ValidationError as e:
        first = e.errors()[0]
        problem = first["msg"].removeprefix("Value error, ")
        raise error(first["loc"], f"{problem} (got {first['input']})") from None
    return matrices.resolve(suite, folder_of=lambda _: Path(), error=error)


def _train(matrix: Matrix, out: Path, *, command: str, location: str | None, uri: str | None) -> int:
    """Run the cells, show the results on standard error, and return the exit status."""
    from experiments import runner
    from experiments.backend import VirtualMachines
    from results import page as pages
    from results.runs import Run
    from testbed.common.progress import note

    backend = VirtualMachines(location=location, uri=uri)
    outcome = runner.run(matrix, out, command=command, backend=backend, on_output=_writer())
    run = Run.load(out)
    page = pages.write(run, out / "report.html")
    _show(run)
    note(f"records in {out}, report in {page}")
    return _status(outcome.failures[0]) if outcome.failures else ExitCode.OK


def _writer() -> Callable[[bytes], None]:
    """Return a function that writes to standard output at once."""
    from testbed.common.progress import suspended

    stream = sys.stdout.buffer

    def write(data: bytes) -> None:
        with suspended():
            stream.write(data)
            stream.flush()

    return write


def _show(run: Run) -> None:
    """Show the summary of the managed training, and the step times."""
    from results import report as reports
    from testbed.common.progress import console, note

    last = [repeat for cell in run.cells for repeat in (cell.repeats or cell.failures)[-1:]]
    for path in (repeat.path / "summary.json" for repeat in last):
        if path.exists():
            for line in common.read_json(path).get("text", ()):
                note(line)
    output.show(reports.report(run), file=console.file)


def _status(failure: SentinelError) -> int:
    """The exit status of the script if it failed, else that of the failure."""
    from experiments.job import ProcessError

    return failure.status if isinstance(failure, ProcessError) else failure.code
