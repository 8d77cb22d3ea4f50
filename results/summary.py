# SPDX-License-Identifier: Apache-2.0
"""What a report says about a run, as data; how it looks is left to `report`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from results import cells, losses
from results.runs import Cell, Repeat, Run
from results.stats import (
    CONFIDENCE,
    Clock,
    Ratio,
    Summary,
    clock_of,
    per_step,
    ratio,
    samples,
    shares,
    summarise,
)
from results.units import plain

NO_PERFORMANCE = "times show function, not performance: both nodes have the same speed here"
MIGRATED = "pgmigrate_success"  # /proc/vmstat: pages moved, by whatever policy


@dataclass(frozen=True)
class Row:
    """One cell. `relative` is its time in units of `reference`, the first cell of the same kind."""

    id: str
    model: str
    placement: str
    also: str
    repeats: int
    failures: int
    summary: Summary | None
    relative: Ratio | None
    reference: str | None
    anon_shares: dict[str, float]
    vmstat: dict[str, float]
    samples: list[list[float]]


@dataclass(frozen=True)
class Failure:
    """One failed try; `made_good` if the repeat was finished later."""

    cell: str
    label: str
    repeat: int
    attempt: int
    verdict: str
    message: str
    real_seconds: float
    path: str
    made_good: bool


@dataclass(frozen=True)
class Report:
    """All that is reported of a run. `provenance` maps each key to the values it took, most telling first."""

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
    """Work out the report of a run."""
    finished = [repeat for cell in run.cells for repeat in cell.repeats]
    clock = clock_of(finished)
    rows = _rows(run, clock)
    return Report(
        path=str(run.path),
        suite=plain(run.info.suite),
        created=f"{run.info.created:%Y-%m-%d %H:%M} UTC",
        clock=clock,
        rows=rows,
        losses=losses.check_cells(run.cells),
        failures=_failures(run),
        notes=_notes(run, rows, clock),
        warnings=[plain(warning) for warning in run.warnings],
        provenance=_provenance(finished),
        commands=list(dict.fromkeys(repeat.provenance.command for repeat in finished)),
    )


def throttled(repeats: Iterable[Repeat]) -> bool:
    """Whether all of these ran where slow memory was slow, so that their times may be judged."""
    return all(repeat.provenance.throttle.is_slow for repeat in repeats)


def _rows(run: Run, clock: Clock) -> list[Row]:
    keys = cells.differing(cell.resolved for cell in run.cells if len(cell.resolved) > 1)
    references: dict[str, Cell] = {}
    rows = []
    for cell in run.cells:
        own = samples(cell.repeats, clock)
        alike = {k: v for k, v in cell.resolved.items() if k not in ("id", "placement", "fast_memory")}
        kind = cells.canonical(alike)
        reference = references.setdefault(kind, cell) if own else None
        compared = reference is not None and reference is not cell
        rows.append(
            Row(
                id=cell.id,
                model=cells.model_label(cell.resolved),
                placement=cells.placement_label(cell.resolved),
                also=cells.also(cell.resolved, keys) if len(cell.resolved) > 1 else f"cell {cell.id}",
                repeats=len(cell.repeats),
                failures=len(cell.failures),
                summary=summarise(own),
                relative=ratio(samples(reference.repeats, clock), own) if reference and compared else None,
                reference=reference.id if reference and compared else None,
                anon_shares=shares(cell.repeats),
                vmstat=per_step(cell.repeats),
                samples=own,
            )
        )
    return rows


def _failures(run: Run) -> list[Failure]:
    return [
        Failure(
            cell=cell.id,
            label=cells.label(cell.resolved),
            repeat=failure.number,
            attempt=failure.attempt or 0,
            verdict=failure.result.verdict or "",
            message=plain(failure.result.message),
            real_seconds=failure.result.real_seconds,
            path=str(failure.path.relative_to(run.path)),
            made_good=any(repeat.number == failure.number for repeat in cell.repeats),
        )
        for cell in run.cells
        for failure in cell.failures
    ]


def _notes(run: Run, rows: list[Row], clock: Clock) -> list[str]:
    notes = []
    finished = [cell for cell in run.cells if cell.repeats]
    level = [cell for cell in finished if not throttled(cell.repeats)]
    if level and len(level) == len(finished):
        notes.append(NO_PERFORMANCE)
    elif level:
        notes.append(f"{NO_PERFORMANCE}, in {', '.join(cells.label(cell.resolved) for cell in level)}")
    if finished:
        notes.append(
            f"step times are medians over repeats of each repeat's median, by the {clock} clock, warm-up "
            f"excluded; in parentheses the middle {CONFIDENCE:.0%} of a bootstrap over repeats and steps"
        )
    if clock == "guest" and any(clock_of(cell.repeats) == "model" for cell in finished):
        notes.append("only some cells have the model clock; the guest clock is used for all")
    if any(row.repeats == 1 for row in rows):
        notes.append("where there is one repeat, the spread is that of its steps alone")
    if any(row.relative for row in rows):
        notes.append("relative time: in units of the first placement listed that is alike in all else")
    pending = len(run.cells) - len(finished)
    if pending:
        notes.append(f"incomplete: {pending} of {len(run.cells)} cells have no finished repeat")
    return notes


def _provenance(repeats: list[Repeat]) -> dict[str, list[str]]:
    found: dict[str, dict[str, None]] = {}
    for repeat in repeats:
        for key, value in cells.flat(repeat.provenance.model_dump(mode="json", exclude={"command"})).items():
            if value not in (None, {}, []):
                found.setdefault(key, {})[
                    value if isinstance(value, str) else cells.canonical(value)[1:-1]
                ] = None
    first = ["git_commit", "accelerator", "throttle.method", "throttle.nodes_alike", "qemu"]
    ordered = [key for key in first if key in found] + [key for key in found if key not in first]
    return {key: list(found[key]) for key in ordered}
