# SPDX-License-Identifier: Apache-2.0
"""The notes and warnings below a report: how to read its figures, and which figures are doubtful."""

from __future__ import annotations

from collections.abc import Iterable

from results.intervals import CONFIDENCE
from results.labels import Axes
from results.rows import Row
from results.runs import Cell, Repeat, Run
from results.stats import Clock, has_clock
from results.units import in_common_unit, printable

NO_PERFORMANCE = "not performance measurements: both nodes are equally fast"
MIGRATED = "pgmigrate_success"  # in /proc/vmstat: pages migrated, by any policy


def throttled(repeats: Iterable[Repeat]) -> bool:
    """Return whether node 1 was slower than node 0 in all repeats, so that times measure performance."""
    return all(repeat.provenance.throttle.is_slow for repeat in repeats)


def off_clock(axes: Axes, cell: Cell, clock: Clock) -> list[str]:
    """Return a warning for each repeat of a cell that lacks the clock."""
    return [
        f"{axes.label(cell.resolved)}, repeat {repeat.number}: no {clock} clock; excluded from all figures"
        for repeat in cell.repeats
        if not has_clock(repeat, clock)
    ]


def notes(run: Run, axes: Axes, rows: list[Row], clock: Clock) -> list[str]:
    """Return the notes that explain a report's figures."""
    lines = []
    finished = [cell for cell in run.cells if cell.repeats]
    alike = [cell for cell in finished if not throttled(cell.repeats)]
    if alike and len(alike) == len(finished):
        lines.append(NO_PERFORMANCE)
    elif alike:
        lines.append(f"{NO_PERFORMANCE}, in {', '.join(axes.label(cell.resolved) for cell in alike)}")
    if finished:
        lines.append(
            f"step time: geometric mean over repeats of each repeat's median, by the {clock} clock, without "
            f"warm-up; in parentheses: {CONFIDENCE:.0%} interval (Student's t over repeats)"
        )
    counts = {(row.summary.repeats, row.summary.steps) for row in rows if row.summary}
    if len(counts) == 1:
        repeats, steps = counts.pop()
        lines.append(
            f"each cell has {_count(repeats, 'repeat')} with {_count(steps, 'measured step')} in total"
        )
    if any(row.summary and row.summary.repeats == 1 for row in rows):
        lines.append("a single repeat has no interval")
    references = {row.reference for row in rows if row.relative}
    if references:
        policies = sorted({row.policy for row in rows if row.id in references})
        budget = ", at the same budget" if any(row.budget for row in rows if row.id in references) else ""
        lines.append(f"relative to {' or '.join(policies)} of the same model and settings{budget}")
    lines += _tensor_notes(rows)
    if any(row.prediction for row in rows):
        lines.append(
            "predicted: the step time that the plan expects, and how far it is from the measured one"
        )
    if any(row.migration for row in rows):
        lines.append(
            "promoted, demoted: bytes that the runtime moved per measured step; exposed: time that "
            "computation waited for migrations"
        )
    if any(row.vmstat.get(MIGRATED) and row.migration is None for row in rows):
        lines.append(f"moved pages: mean per measured step ({MIGRATED})")
    pending = len(run.cells) - len(finished)
    if pending:
        lines.append(f"incomplete: {pending} of {len(run.cells)} cells have no finished repeat")
    return lines


def warnings(run: Run, axes: Axes, rows: list[Row], clock: Clock) -> list[str]:
    """Return the warnings of a report: skipped records, repeats without the clock, exceeded budgets."""
    lines = [printable(warning) for warning in run.warnings]
    lines += [line for cell in run.cells for line in off_clock(axes, cell, clock)]
    for row in rows:
        if row.tensors is not None and row.tensors.budget is not None and row.tensors.over:
            size, budget, unit = in_common_unit(row.tensors.nodes[0], row.tensors.budget)
            lines.append(f"{row.label}: over budget: {size} of {budget} {unit} of tensors on node 0")
    return lines


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _tensor_notes(rows: list[Row]) -> list[str]:
    """Return the notes on residency: what the figures count, and which records lack them."""
    finished = [row for row in rows if row.repeats]
    missing = [row for row in finished if row.tensors is None]
    if not finished:
        return []
    if len(missing) == len(finished):
        return [
            "no tensor statistics: Process on node 0 is the share of the process's anonymous memory, "
            "which includes the interpreter and has no budget"
        ]
    lines = [
        "tensors on node 0: bytes at the end of the measured step with most of them there, and the budget; "
        "the rest of the process has no budget"
    ]
    if missing:
        lines.append(f"no tensor statistics: {', '.join(row.label for row in missing)}")
    unknown = [row for row in finished if row.budget and row.tensors and row.tensors.budget is None]
    if unknown:
        lines.append(f"budget in bytes not recorded: {', '.join(row.label for row in unknown)}")
    return lines
