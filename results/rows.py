# SPDX-License-Identifier: Apache-2.0
"""The cells of a run as rows of its report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from results import labels
from results.labels import Axes
from results.runs import Cell, Run
from results.stats import Clock, Ratio, Summary, has_clock, per_step, ratio, samples, shares, summarise
from results.tensors import Tensors, tensors


@dataclass(frozen=True)
class Row:
    """A cell in a report. `relative` is its step time divided by that of the cell `reference`.

    `off_clock` counts finished repeats without the report's clock, which no figure includes. `tensors` is
    None if the records have no tensor statistics. `samples` are step times in nanoseconds by repeat.
    """

    id: str
    label: str
    model: str
    variant: str
    policy: str
    policy_name: str
    budget: str
    settings: str
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

    def figures(self, clock: Clock) -> dict[str, Any]:
        """Return the row's numbers for JSON and exports; None where there is no measurement."""
        s, r = self.summary, self.relative
        return {
            "repeats": self.repeats,
            "off_clock": self.off_clock,
            "failures": self.failures,
            "clock": clock if s else None,
            "steps": s.steps if s else 0,
            "median_ns": s.median_ns if s else None,
            "centre_ns": s.centre_ns if s else None,
            "low_ns": s.low_ns if s else None,
            "high_ns": s.high_ns if s else None,
            "reference": self.reference,
            "relative": r.value if r else None,
            "relative_low": r.low if r else None,
            "relative_high": r.high if r else None,
        }


def build_rows(run: Run, axes: Axes, clock: Clock) -> list[Row]:
    """Compute the row of every cell of a run, in the order of the suite."""
    references = _references(run, clock)
    rows = []
    for cell in run.cells:
        resolved = cell.resolved
        times = samples(cell.repeats, clock)
        reference = references.get(cell.id)
        rows.append(
            Row(
                id=cell.id,
                label=axes.label(resolved),
                model=axes.model(resolved),
                variant=axes.variant(resolved),
                policy=labels.policy(resolved),
                policy_name=labels.policy_name(resolved),
                budget=labels.budget(resolved),
                settings=axes.settings(resolved) if labels.is_resolved(resolved) else f"cell {cell.id}",
                repeats=len(cell.repeats),
                off_clock=sum(not has_clock(repeat, clock) for repeat in cell.repeats),
                failures=len(cell.failures),
                summary=summarise(times),
                relative=ratio(samples(reference.repeats, clock), times) if reference else None,
                reference=reference.id if reference else None,
                anon_shares=shares(cell.repeats),
                tensors=tensors(cell.repeats),
                vmstat=per_step(cell.repeats),
                samples=times,
            )
        )
    return rows


def _references(run: Run, clock: Clock) -> dict[str, Cell]:
    """Return, by cell id, the cell to which a cell's step time is relative.

    The reference is the first cell of the run that differs in policy only, or in policy and in having no
    budget. Two different budgets are never compared.
    """
    groups: dict[str, list[Cell]] = {}  # cells that differ only in policy and budget
    for cell in run.cells:
        if samples(cell.repeats, clock):
            rest = {k: v for k, v in cell.resolved.items() if k not in ("id", "placement", "fast_memory")}
            groups.setdefault(labels.canonical(rest), []).append(cell)
    references: dict[str, Cell] = {}
    for group in groups.values():
        for cell in group:
            budgets = ("", labels.budget(cell.resolved))
            reference = next(other for other in group if labels.budget(other.resolved) in budgets)
            if reference is not cell:
                references[cell.id] = reference
    return references
