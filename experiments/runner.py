# SPDX-License-Identifier: Apache-2.0
"""Runs a suite: every repeat of every cell, each stored as it ends."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from experiments import durations, folder, frameworks, order, provenance, resuming
from experiments.backend import Backend, VirtualMachines
from experiments.boot import Artifacts
from experiments.events import Events
from experiments.ledger import Ledger, Outcome
from experiments.matrix import Cell, Matrix
from experiments.order import Task
from experiments.resuming import Which
from experiments.session import Session
from experiments.workers import Workers
from results.records import Provenance
from testbed.common.errors import UsageError
from testbed.common.progress import note, step, suspended

__all__ = ["Outcome", "run"]

_Execute = Callable[[Sequence[Task], Ledger], None]


def run(
    matrix: Matrix,
    out: Path,
    *,
    command: str,
    command_of: Callable[[Cell], str] | None = None,
    only: Collection[str] = (),
    which: Which = "missing",
    backend: Backend | None = None,
    workers: Workers | None = None,
    on_output: Callable[[bytes], None] | None = None,
) -> Outcome:
    """Run repeats that the folder `out` does not have yet; create the folder if needed.

    `command` is the command line, and `command_of` gives the one that reproduces a cell, by default the same.
    `only` are the labels of the cells to run now, by default all, and `which` says which of their repeats;
    with `all`, new repeats replace finished ones. `backend` is where repeats run, by default
    `VirtualMachines`; with `workers`, which have their own, it prepares this host only. `on_output` gets the
    output of scripts that plan by themselves, as it comes; their cells are then the first to run, no bar of
    progress is shown meanwhile, and a failure ends the run. Otherwise a failed repeat is stored with its
    verdict, and the run continues. Errors that every repeat would have (`UsageError`, `BuildError`) end it.
    Raises `UsageError` before anything is built if another process uses `out`, or if `out` is not empty and
    not a run of this suite; and before anything is measured if it keeps repeats of another commit, kernel,
    image, QEMU, accelerator or runtime.
    """
    backend = backend or VirtualMachines()
    with folder.claimed(out, command=command):
        resuming.check_suite(matrix, out)
        artifacts = backend.prepare(matrix)
        _check_artifacts(matrix, artifacts)
        matrix = matrix.with_kernel(artifacts.kernel.source)
        resuming.open_run(matrix, out)
        cells = [cell for cell in matrix.cells if not only or matrix.axes.label(cell.resolved) in only]
        todo = resuming.choose(cells, out, which)
        outcome = Outcome(kept=sum(map(len, resuming.kept(cells, out, todo).values())))
        if outcome.kept:
            note(f"{outcome.kept} finished repeats are kept")
        if not any(todo.values()):
            return outcome
        origin = provenance.collect(artifacts, command=command)
        runtime = resuming.check_origin(matrix.cells, out, todo, origin)
        tasks = order.arrange(cells, todo, matrix.suite.order_seed)
        events = Events(out)
        events.add("run-started", command=command, repeats=len(tasks), order_seed=matrix.suite.order_seed)
        options: dict[str, Any] = {
            "command_of": command_of or (lambda _: command),
            "kept_runtime": runtime,
            "replace": which == "all",
        }
        with contextlib.ExitStack() as stack:
            execute = (
                _here(matrix, backend, artifacts, out, origin, on_output=on_output, **options)
                if workers is None
                else _elsewhere(matrix, workers, out, origin, stack, repeats=len(tasks), **options)
            )
            shown = stack.enter_context(step(f"Running {matrix.suite.name}"))
            ledger = Ledger(matrix, tasks, outcome, events, shown, parallel=workers is not None)
            stack.callback(lambda: durations.keep(ledger.durations.seconds))
            execute(tasks, ledger)
            shown.done(f"{outcome.done} repeats done")
        events.add("run-ended", done=outcome.done, failed_cells=len(outcome.failures))
        return outcome


def _here(
    matrix: Matrix,
    backend: Backend,
    artifacts: Artifacts,
    out: Path,
    origin: Provenance,
    *,
    on_output: Callable[[bytes], None] | None,
    **options: Any,
) -> _Execute:
    """Prepare to run repeats one after another in this process."""
    boot = artifacts.boot
    throttle = provenance.throttle(boot.preset, backend.calibrate(boot), boot.remote)
    origin = origin.model_copy(update={"throttle": throttle})
    session = Session(matrix, backend, boot, out, origin, on_output=on_output, **options)
    return lambda tasks, ledger: _run_here(tasks, session, ledger, watched=on_output is not None)


def _elsewhere(
    matrix: Matrix,
    workers: Workers,
    out: Path,
    origin: Provenance,
    stack: contextlib.ExitStack,
    *,
    repeats: int,
    command_of: Callable[[Cell], str],
    kept_runtime: str | None,
    replace: bool,
) -> _Execute:
    """Connect to the workers, until `stack` is closed."""
    from experiments import cluster

    made_by = resuming.made_by(origin.model_dump(mode="json"))
    assignment = cluster.assignment(matrix, workers, made_by, kept_runtime)
    connection = stack.enter_context(cluster.connected(workers, out, repeats=repeats))
    return lambda tasks, ledger: cluster.run(
        tasks, assignment, connection, ledger, out, command_of=command_of, replace=replace
    )


def _run_here(tasks: Sequence[Task], session: Session, ledger: Ledger, *, watched: bool) -> None:
    """Run repeats one after another in this process."""
    if watched:
        tasks = sorted(tasks, key=lambda task: not task.cell.online)
    for task in tasks:
        if ledger.is_skipped(task.cell):
            ledger.dropped(task)
            continue
        quiet = watched and task.cell.online
        with contextlib.ExitStack() as stack:

            def on_restore(
                *, task: Task = task, quiet: bool = quiet, stack: contextlib.ExitStack = stack
            ) -> None:
                ledger.began(task)
                if quiet:
                    stack.enter_context(suspended())

            on_step = functools.partial(ledger.step_done, task)
            failure = session.repeat(task.cell, task.repeat, on_restore=on_restore, on_step=on_step)
        ledger.ended(task, failure)
        if quiet and failure is not None:
            break  # the others would fail, too


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
