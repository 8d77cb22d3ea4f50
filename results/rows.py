# SPDX-License-Identifier: Apache-2.0
"""The cells of a run as rows of its report."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, NamedTuple

from results import counters, labels
from results.labels import Axes
from results.migration import Migration, migration
from results.plans import Planned, Prediction, predict, read_plans
from results.runs import Cell, Run
from results.stats import Clock, Ratio, Summary, has_clock, per_step, ratio, samples, shares, summarise
from results.tensors import Tensors, tensors


class Speed(NamedTuple):
    """A speed relative to another one, with its interval if it has one."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Row:
    """A cell in a report. `relative` is its step time divided by that of the cell `reference`.

    `fast_only` tells whether the reference keeps all tensors on node 0, so that 1 / `relative` is the share
    of its speed. `prediction` and `plans` are those of the cell's plan, `migration` what the runtime did.
    `traffic` is bytes of memory read and written per measured step of its first repeat, by the timing model;
    None without a plan. `budget_share` is the budget as a share of the peak, 0 to 1.

    `known` is False for a cell that has not run: only its id is known.

    `off_clock` counts finished repeats without the report's clock, which no figure includes. `tensors` is
    None if the records have no tensor statistics. `samples` are step times in nanoseconds by repeat.
    """

    id: str
    known: bool
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
    fast_only: bool
    budget_share: float | None
    plans: list[Planned]
    prediction: Prediction | None
    migration: Migration | None
    traffic: float | None
    anon_shares: dict[str, float]
    tensors: Tensors | None
    vmstat: dict[str, float]
    samples: list[list[float]]

    @property
    def speed(self) -> Speed | None:
        """The speed as a share of fast-only's, or None without that reference."""
        r = self.relative
        if r is None or not self.fast_only:
            return None
        low, high = (None if bound is None else 1 / bound for bound in (r.high, r.low))
        return Speed(1 / r.value, low, high)

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
        plans = read_plans(run, cell.repeats)[0]
        rows.append(
            Row(
                id=cell.id,
                known=labels.is_resolved(resolved),
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
                fast_only=labels.policy_name((reference or cell).resolved) == "fast-only",
                budget_share=_budget_share(cell),
                plans=plans,
                prediction=predict(plans, cell.repeats),
                migration=migration(cell.repeats),
                traffic=counters.per_step(cell.repeats[0]).get("bytes") if plans else None,
                anon_shares=shares(cell.repeats),
                tensors=tensors(cell.repeats),
                vmstat=per_step(cell.repeats),
                samples=times,
            )
        )
    return rows


def _budget_share(cell: Cell) -> float | None:
    """Return the budget as a share of the peak, from the records or else from the suite."""
    for repeat in cell.repeats:
        memory = repeat.provenance.fast_memory
        if memory is not None and memory.peak_bytes:
            return memory.budget_bytes / memory.peak_bytes
    match = re.fullmatch(r"([0-9.]+)%", labels.budget(cell.resolved))
    return float(match[1]) / 100 if match else None


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
