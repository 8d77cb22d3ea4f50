# SPDX-License-Identifier: Apache-2.0
"""The content of a run's report as data: rows, checks of losses, failures, notes and provenance."""

from __future__ import annotations

from dataclasses import dataclass

from results import labels, losses, notes
from results.labels import Axes
from results.rows import Row, build_rows
from results.runs import Repeat, Run
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
class Report:
    """The report of a run. `provenance` maps each key to its distinct values, important keys first."""

    path: str
    suite: str
    created: str
    clock: Clock
    rows: list[Row]
    losses: list[losses.Check]
    failures: list[Failure]
    notes: list[str]
    warnings: list[str]
    provenance: dict[str, list[str]]
    commands: list[str]


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
        rows=rows,
        losses=losses.check_cells(run.cells, axes),
        failures=_failures(run, axes),
        notes=notes.notes(run, axes, rows, clock),
        warnings=notes.warnings(run, axes, rows, clock),
        provenance=_provenance(finished),
        commands=list(dict.fromkeys(repeat.provenance.command for repeat in finished)),
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


def _provenance(repeats: list[Repeat]) -> dict[str, list[str]]:
    values: dict[str, dict[str, None]] = {}
    for repeat in repeats:
        record = repeat.provenance.model_dump(mode="json", exclude={"command", "fast_memory"})
        for key, value in labels.flatten(record).items():
            if value not in (None, {}, []):
                text = value if isinstance(value, str) else labels.canonical(value)[1:-1]
                values.setdefault(key, {})[text] = None
    keys = [key for key in _FIRST_PROVENANCE if key in values]
    return {key: list(values[key]) for key in dict.fromkeys([*keys, *values])}
