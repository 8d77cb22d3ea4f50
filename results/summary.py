# SPDX-License-Identifier: Apache-2.0
"""The content of a run's report as data: rows, checks of losses, failures, notes and provenance."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from results import labels, losses, notes, setup
from results.labels import Axes
from results.plans import read_plans
from results.rows import Row, build_rows
from results.runs import Repeat, Run
from results.setup import Calibration
from results.stats import Clock, clock_of
from results.units import printable

_FIRST_PROVENANCE = ("git_commit", "accelerator", "throttle.method", "throttle.nodes_alike", "qemu")


@dataclass(frozen=True)
class Failure:
    """A failed attempt; `finished_later` if another attempt at the repeat succeeded."""

    cell: str
    label: str
    repeat: int
    attempt: int
    verdict: str
    message: str
    real_seconds: float
    path: str
    finished_later: bool


@dataclass(frozen=True)
class Command:
    """A shell command, and the cells that it measures."""

    command: str
    cells: list[str]


@dataclass(frozen=True)
class Report:
    """The report of a run. `provenance` maps each key to its distinct values, important keys first.

    `setup` says in one sentence what the run was measured with.
    """

    path: str
    suite: str
    created: str
    clock: Clock
    setup: str
    calibrations: list[Calibration]
    rows: list[Row]
    losses: list[losses.Check]
    failures: list[Failure]
    notes: list[str]
    warnings: list[str]
    provenance: dict[str, list[str]]
    commands: list[Command]


@functools.lru_cache(maxsize=1)  # the page and the table of a run are the same report
def build(run: Run) -> Report:
    """Compute the report of a run."""
    finished = [repeat for cell in run.cells for repeat in cell.repeats]
    axes = Axes.of(cell.resolved for cell in run.cells)
    clock = clock_of(finished)
    rows = build_rows(run, axes, clock)
    return Report(
        path=str(run.path),
        suite=printable(run.info.suite),
        created=f"{run.info.created:%Y-%m-%d %H:%M} UTC",
        clock=clock,
        setup=setup.sentence(run.cells, run.info.resolved.get("preset"), clock),
        calibrations=setup.calibrations(finished),
        rows=rows,
        losses=losses.check_cells(run.cells, axes),
        failures=_failures(run, axes),
        notes=notes.notes(run, axes, rows, clock),
        warnings=notes.warnings(run, axes, rows, clock) + _plan_warnings(run),
        provenance=_provenance(finished),
        commands=_commands(run, axes),
    )


def _failures(run: Run, axes: Axes) -> list[Failure]:
    return [
        Failure(
            cell=cell.id,
            label=axes.label(cell.resolved),
            repeat=failure.number,
            attempt=failure.attempt or 0,
            verdict=failure.result.verdict or "",
            message=printable(failure.result.message),
            real_seconds=failure.result.real_seconds,
            path=str(failure.path.relative_to(run.path)),
            finished_later=any(repeat.number == failure.number for repeat in cell.repeats),
        )
        for cell in run.cells
        for failure in cell.failures
    ]


def _plan_warnings(run: Run) -> list[str]:
    return [printable(line) for cell in run.cells for line in read_plans(run, cell.repeats)[1]]


def _commands(run: Run, axes: Axes) -> list[Command]:
    cells: dict[str, dict[str, None]] = {}
    for cell in run.cells:
        for repeat in cell.repeats:
            cells.setdefault(repeat.provenance.command, {})[axes.label(cell.resolved)] = None
    return [Command(command, list(labels)) for command, labels in cells.items()]


def _provenance(repeats: list[Repeat]) -> dict[str, list[str]]:
    values: dict[str, dict[str, None]] = {}
    for repeat in repeats:
        record = repeat.provenance.model_dump(mode="json", exclude={"command", "fast_memory"})
        record["throttle"].pop("calibration", None)  # has its own table
        for key, value in labels.flatten(record).items():
            if value not in (None, {}, []):
                text = value if isinstance(value, str) else labels.canonical(value)[1:-1]
                values.setdefault(key, {})[text] = None
    keys = [key for key in _FIRST_PROVENANCE if key in values]
    return {key: list(values[key]) for key in dict.fromkeys([*keys, *values])}
