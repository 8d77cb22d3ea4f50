# SPDX-License-Identifier: Apache-2.0
"""Runs a suite: every repeat of every cell, each stored as it ends."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

from experiments import folder, frameworks, provenance
from experiments.backend import Backend, VirtualMachines
from experiments.boot import Artifacts
from experiments.estimate import Estimate
from experiments.matrix import Cell, Matrix
from experiments.session import Session
from results import records, runs, writer
from testbed.common.errors import ExitCode, SentinelError, UsageError
from testbed.common.progress import Step, note, step, suspended, warn

_MAX_FAILURES = 3  # of a cell; a busy host may cause one


@dataclass
class Outcome:
    """The result of a run: repeats done now, repeats kept, and the first failure of each failed cell."""

    done: int = 0
    kept: int = 0
    failures: list[SentinelError] = field(default_factory=list)

    @property
    def code(self) -> ExitCode:
        """The exit code of the first failure, or `OK`."""
        return self.failures[0].code if self.failures else ExitCode.OK


def run(
    matrix: Matrix,
    out: Path,
    *,
    command: str,
    command_of: Callable[[Cell], str] | None = None,
    only: Collection[str] = (),
    backend: Backend | None = None,
    on_output: Callable[[bytes], None] | None = None,
) -> Outcome:
    """Run the repeats that the folder `out` does not have yet; create the folder if needed.

    `command` is the command line, and `command_of` gives the one that reproduces a cell, by default the same.
    `only` are the labels of the cells to run now, by default all. `backend` is where repeats run, by default
    `VirtualMachines`. `on_output` gets the output of scripts that plan by themselves, as it comes; their
    cells are then the first to run, no bar of progress is shown meanwhile, and a failure ends the run.
    Otherwise a failed repeat is stored with its verdict, and the run continues. Errors that every repeat
    would have (`UsageError`, `BuildError`) end it. Raises `UsageError` before anything is built if another
    process uses `out`, or if `out` is not empty and not a run of this suite.
    """
    backend = backend or VirtualMachines()
    with folder.claimed(out, command=command):
        _check_suite(matrix, out)
        artifacts = backend.prepare(matrix)
        _check_artifacts(matrix, artifacts)
        matrix = matrix.with_kernel(artifacts.kernel.source)
        _open(matrix, out)
        todo = _missing(matrix, out, only)
        outcome = Outcome(
            kept=sum(cell.repeats - len(todo[cell.id]) for cell in matrix.cells if cell.id in todo)
        )
        if outcome.kept:
            note(f"{outcome.kept} finished repeats are kept")
        if not any(todo.values()):
            return outcome
        measured = backend.calibrate(artifacts.boot)
        origin = provenance.collect(artifacts, command=command, calibration=measured)
        session = Session(
            matrix, backend, artifacts.boot, out, origin, command_of=command_of, on_output=on_output
        )
        _run_cells(matrix, todo, session, outcome, watched=on_output is not None)
        return outcome


def _run_cells(
    matrix: Matrix, todo: dict[str, list[int]], session: Session, outcome: Outcome, *, watched: bool
) -> None:
    estimate = Estimate(sum(map(len, todo.values())), matrix.suite.warmup + (matrix.suite.steps or 0))
    with step(f"Running {matrix.suite.name}") as shown:
        cells = sorted(matrix.cells, key=lambda cell: not cell.online) if watched else matrix.cells
        for cell in cells:
            quiet = watched and cell.online
            _run_cell(matrix, cell, todo.get(cell.id, []), session, outcome, estimate, shown, quiet=quiet)
            if quiet and outcome.failures:
                break  # the others would fail, too
        shown.done(f"{outcome.done} repeats done")


def _run_cell(
    matrix: Matrix,
    cell: Cell,
    repeats: list[int],
    session: Session,
    outcome: Outcome,
    estimate: Estimate,
    shown: Step,
    *,
    quiet: bool,
) -> None:
    """Run repeats of a cell. With `quiet`, hide the progress while the process runs."""
    label = matrix.axes.label(cell.resolved)
    steps = cell.resolved["steps"]
    failures = 0
    for i, repeat in enumerate(repeats):
        stack = contextlib.ExitStack()

        def show(activity: str, *, repeat: int = repeat) -> None:
            text = f"{label}, repeat {repeat + 1}/{cell.repeats}, {activity}"
            if steps is None or cell.online:  # the number of steps is the guest's decision
                shown.update(None, text)
            else:
                shown.update(estimate.fraction, f"{text}, {estimate.remaining()}")

        def on_restore(*, stack: contextlib.ExitStack = stack) -> None:
            estimate.begin()
            show("restoring")
            if quiet:
                stack.enter_context(suspended())

        def on_step(number: int, measured: bool) -> None:
            estimate.step_done()
            # The number of unmeasured steps is the guest's decision: a plan's trial needs several.
            of_all = "" if steps is None else f"/{steps}"
            show(f"step {number}{of_all}" if measured else f"warm-up step {number}")

        with stack:
            failure = session.repeat(cell, repeat, on_restore=on_restore, on_step=on_step)
        estimate.finish()
        if failure is None:
            outcome.done += 1
            continue
        failures += 1
        if failures == 1:
            outcome.failures.append(failure)
        warn(f"{label}, repeat {repeat + 1}: {failure.message}")
        if failures == _MAX_FAILURES or failures > i:  # all repeats so far failed: further ones would, too
            count = "1 failed repeat" if failures == 1 else f"{failures} failed repeats"
            warn(f"{label}: skipped after {count}; run the suite again to retry")
            estimate.finish(len(repeats) - i - 1)
            return


def _missing(matrix: Matrix, out: Path, only: Collection[str]) -> dict[str, list[int]]:
    """The repeats to do, by the id of each cell to run."""
    cells = [cell for cell in matrix.cells if not only or matrix.axes.label(cell.resolved) in only]
    return {cell.id: sorted(set(range(cell.repeats)) - runs.finished(out, cell.id)) for cell in cells}


def _check_artifacts(matrix: Matrix, artifacts: Artifacts) -> None:
    """Check that the image and the kernel provide what the framework and the policies need."""
    frameworks.DEFAULT.check_image(artifacts.image.entry.manifest)
    config: set[str] | None = None
    for cell in matrix.cells:
        for option in cell.policy.needs.kernel_options:
            if config is None:
                config = set(artifacts.kernel.config.read_text().splitlines())
            if f"{option}=y" not in config:
                raise UsageError(
                    f"{cell.policy.name} needs {option}, which kernel {artifacts.kernel.release} lacks"
                )


def _check_suite(matrix: Matrix, out: Path) -> None:
    """Refuse a folder with a run of another suite, whichever kernel `auto` resolved to there."""
    if not (out / "run.json").exists():
        return
    info = runs.read_info(out)
    kernel = info.resolved.get("kernel")
    if isinstance(kernel, str):
        matrix = matrix.with_kernel(kernel)
    if set(info.cells) != {cell.id for cell in matrix.cells}:
        raise _different(out, info)


def _open(matrix: Matrix, out: Path) -> None:
    """Write run.json, or check that the one in `out` is of the same cells."""
    info = records.RunInfo(
        suite=matrix.suite.name,
        created=datetime.datetime.now(datetime.UTC),
        resolved=matrix.suite.model_dump(mode="json"),
        cells=[cell.id for cell in matrix.cells],
    )
    if not (out / "run.json").exists():
        writer.write_run(out, info)
        return
    existing = runs.read_info(out)
    if set(existing.cells) != set(info.cells):
        raise _different(out, existing)


def _different(out: Path, info: records.RunInfo) -> UsageError:
    return UsageError(
        f"{out} holds a run of a different suite ({info.suite}, {info.created:%Y-%m-%d %H:%M})",
        hint="use another folder with --out, or restore the suite",
    )
