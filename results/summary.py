# SPDX-License-Identifier: Apache-2.0
"""What a report says about a run, as data; how it looks is left to `report`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from results import labels, losses
from results.labels import Axes
from results.runs import Cell, Repeat, Run
from results.stats import (
    CONFIDENCE,
    Clock,
    Ratio,
    Summary,
    clock_of,
    has_clock,
    per_step,
    ratio,
    samples,
    shares,
    summarise,
)
from results.tensors import Tensors, tensors
from results.units import parts, plain

NO_PERFORMANCE = "times show function, not performance: both nodes have the same speed here"
MIGRATED = "pgmigrate_success"  # /proc/vmstat: pages moved, by whatever policy


@dataclass(frozen=True)
class Row:
    """One cell. `relative` is its time in units of `reference`: see `_references`.

    `off_clock` counts finished repeats that lack the report's clock; their times are in no figure. `tensors`
    is None where no record tells tensors from the rest of the process.
    """

    id: str
    label: str
    model: str
    setting: str
    placement: str
    placement_name: str
    budget: str
    also: str
    repeats: int
    off_clock: int
    failures: int
    summary: Summary | None
    relative: Ratio | None
    reference: str | None
    anon_shares: dict[str, float]
    tensors: Tensors | None
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
    axes = Axes.of(cell.resolved for cell in run.cells)
    clock = clock_of(finished)
    rows = _rows(run, axes, clock)
    return Report(
        path=str(run.path),
        suite=plain(run.info.suite),
        created=f"{run.info.created:%Y-%m-%d %H:%M} UTC",
        clock=clock,
        rows=rows,
        losses=losses.check_cells(run.cells, axes),
        failures=_failures(run, axes),
        notes=_notes(run, axes, rows, clock),
        warnings=[*(plain(warning) for warning in run.warnings), *_doubts(run, axes, rows, clock)],
        provenance=_provenance(finished),
        commands=list(dict.fromkeys(repeat.provenance.command for repeat in finished)),
    )


def throttled(repeats: Iterable[Repeat]) -> bool:
    """Whether all of these ran where slow memory was slow, so that their times may be judged."""
    return all(repeat.provenance.throttle.is_slow for repeat in repeats)


def off_clock(axes: Axes, cell: Cell, clock: Clock) -> list[str]:
    """A line for each repeat that lacks the clock by which all others are judged."""
    return [
        f"{axes.label(cell.resolved)}, repeat {repeat.number}: no {clock} clock; "
        "its times are left out of every figure"
        for repeat in cell.repeats
        if not has_clock(repeat, clock)
    ]


def _rows(run: Run, axes: Axes, clock: Clock) -> list[Row]:
    references = _references(run, clock)
    rows = []
    for cell in run.cells:
        own = samples(cell.repeats, clock)
        reference = references.get(cell.id)
        rows.append(
            Row(
                id=cell.id,
                label=axes.label(cell.resolved),
                model=axes.model(cell.resolved),
                setting=axes.setting(cell.resolved),
                placement=labels.placement(cell.resolved),
                placement_name=labels.placement_name(cell.resolved),
                budget=labels.budget(cell.resolved),
                also=axes.also(cell.resolved) if labels.known(cell.resolved) else f"cell {cell.id}",
                repeats=len(cell.repeats),
                off_clock=sum(not has_clock(repeat, clock) for repeat in cell.repeats),
                failures=len(cell.failures),
                summary=summarise(own),
                relative=ratio(samples(reference.repeats, clock), own) if reference else None,
                reference=reference.id if reference else None,
                anon_shares=shares(cell.repeats),
                tensors=tensors(cell.repeats),
                vmstat=per_step(cell.repeats),
                samples=own,
            )
        )
    return rows


def _references(run: Run, clock: Clock) -> dict[str, Cell]:
    """By id: the cell that a cell's time is held against.

    It is the first of the run that differs in nothing but the placement. Its budget is the same, or it has
    none: times are never held against those within another budget.
    """
    groups: dict[str, list[Cell]] = {}  # cells that differ in placement and budget alone
    for cell in run.cells:
        if samples(cell.repeats, clock):
            rest = {k: v for k, v in cell.resolved.items() if k not in ("id", "placement", "fast_memory")}
            groups.setdefault(labels.canonical(rest), []).append(cell)
    references: dict[str, Cell] = {}
    for group in groups.values():
        for cell in group:
            budgets = ("", labels.budget(cell.resolved))
            first = next(other for other in group if labels.budget(other.resolved) in budgets)
            if first is not cell:
                references[cell.id] = first
    return references


def _failures(run: Run, axes: Axes) -> list[Failure]:
    return [
        Failure(
            cell=cell.id,
            label=axes.label(cell.resolved),
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


def _notes(run: Run, axes: Axes, rows: list[Row], clock: Clock) -> list[str]:
    notes = []
    finished = [cell for cell in run.cells if cell.repeats]
    level = [cell for cell in finished if not throttled(cell.repeats)]
    if level and len(level) == len(finished):
        notes.append(NO_PERFORMANCE)
    elif level:
        notes.append(f"{NO_PERFORMANCE}, in {', '.join(axes.label(cell.resolved) for cell in level)}")
    if finished:
        notes.append(
            f"step times are medians over repeats of each repeat's median, by the {clock} clock, warm-up "
            f"excluded; in parentheses the middle {CONFIDENCE:.0%} of a bootstrap over repeats and steps"
        )
    counts = {(row.summary.repeats, row.summary.steps) for row in rows if row.summary}
    if len(counts) == 1:
        repeats, steps = counts.pop()
        notes.append(f"repeats of every cell: {repeats}, with {steps} measured steps in all")
    if any(row.summary and row.summary.repeats == 1 for row in rows):
        notes.append("where there is one repeat, the spread is that of its steps alone")
    if any(row.relative for row in rows):
        units = [row for row in rows if any(other.reference == row.id for other in rows)]
        names = sorted({row.setting for row in units})
        notes.append(
            f"relative time: in units of {' or '.join(names)}, within the same budget or without one"
        )
    notes += _notes_on_tensors(rows)
    pending = len(run.cells) - len(finished)
    if pending:
        notes.append(f"incomplete: {pending} of {len(run.cells)} cells have no finished repeat")
    return notes


def _notes_on_tensors(rows: list[Row]) -> list[str]:
    """What the figures of memory mean, and which records have none."""
    finished = [row for row in rows if row.repeats]
    without = [row for row in finished if row.tensors is None]
    if not finished:
        return []
    if len(without) == len(finished):
        return [
            "these records do not tell tensors from the rest of the process: Process on node 0 is the share "
            "of its anonymous memory, the interpreter's included, and says nothing of a budget"
        ]
    notes = [
        "tensors on node 0: bytes at the end of the measured step that had most there, of the budget if any; "
        "what is not a tensor is within no budget"
    ]
    if without:
        notes.append(f"no figure for tensors: {', '.join(row.label for row in without)}")
    unknown = [row for row in finished if row.budget and row.tensors and row.tensors.budget is None]
    if unknown:
        notes.append(f"the budget in bytes is not recorded: {', '.join(row.label for row in unknown)}")
    return notes


def _doubts(run: Run, axes: Axes, rows: list[Row], clock: Clock) -> list[str]:
    """What makes single figures doubtful."""
    lines = [line for cell in run.cells for line in off_clock(axes, cell, clock)]
    for row in rows:
        if row.tensors is not None and row.tensors.budget is not None and row.tensors.over:
            size, budget, unit = parts(row.tensors.nodes[0], row.tensors.budget)
            lines.append(f"{row.label}: over the budget: {size} of {budget} {unit} of tensors on node 0")
    return lines


def _provenance(repeats: list[Repeat]) -> dict[str, list[str]]:
    found: dict[str, dict[str, None]] = {}
    for repeat in repeats:
        for key, value in labels.flat(
            repeat.provenance.model_dump(mode="json", exclude={"command", "fast_memory"})
        ).items():
            if value not in (None, {}, []):
                found.setdefault(key, {})[
                    value if isinstance(value, str) else labels.canonical(value)[1:-1]
                ] = None
    first = ["git_commit", "accelerator", "throttle.method", "throttle.nodes_alike", "qemu"]
    ordered = [key for key in first if key in found] + [key for key in found if key not in first]
    return {key: list(found[key]) for key in ordered}
