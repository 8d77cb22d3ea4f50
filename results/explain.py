# SPDX-License-Identifier: Apache-2.0
"""What the cells of a run planned for a step, and what one of their measured steps did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from results import labels
from results.decoding import DamagedError
from results.executed import Executed, execute
from results.labels import Axes
from results.plans import Planned, read_plans
from results.records import Step
from results.runs import Cell, Repeat, Run
from results.stats import Clock, has_clock, measured, step_ns
from results.trace import find_cell, find_repeat
from sentinel.planner.formats.profile import Profile
from sentinel.planner.simulate import Simulation
from testbed.common.errors import UsageError


@dataclass(frozen=True)
class Explanation:
    """A plan of a cell and the measured step with the median time, among `steps` of the repeat.

    `kind` is the kind of the step, empty if the cell has only one. `notes` say what is not known.
    """

    cell: str
    label: str
    policy: str
    kind: str
    repeat: int
    steps: int
    clock: Clock
    replayed: bool
    executed: Executed
    profile: Profile | None
    simulation: Simulation | None
    notes: list[str]


def explain(
    run: Run, cell: str | None = None, repeat: int | None = None
) -> tuple[list[Explanation], list[str]]:
    """Return an explanation for each plan of each cell, or of one, and warnings.

    `cell` is an id, the beginning of an id, or a label; `repeat` the number of a repeat, or the first is
    taken that has plans.
    Raises `UsageError` if there is no such cell or repeat, or no plan at all.
    """
    chosen = [find_cell(run, cell)] if cell is not None else run.cells
    axes = Axes.of(other.resolved for other in run.cells)
    explanations, warnings = [], []
    for each in chosen:
        if cell is not None:
            find_repeat(each, repeat)
        source = next((r for r in each.repeats if repeat in (None, r.number) and r.plans), None)
        if source is None:
            continue
        plans, unreadable = read_plans(run, [source])
        warnings += unreadable
        for planned in plans:
            label = axes.label(each.resolved)
            try:
                explanations.append(_explain(each, label, source, planned))
            except DamagedError as e:
                warnings.append(f"{source.path}/steps.jsonl: {e}; plan skipped")
            except LookupError as e:
                warnings.append(f"{label}: {e}; plan skipped")
    if not explanations and not warnings:
        what = f"cell {chosen[0].id}" if cell is not None else str(run.path)
        raise UsageError(f"{what}: no plan", hint=_HINT)
    return explanations, warnings


_HINT = "plans are made for policies such as sentinel-opt, with a budget (`fast_memory`)"


def _explain(cell: Cell, label: str, repeat: Repeat, planned: Planned) -> Explanation:
    """Raises `LookupError` if no measured step ran with the plan alone."""
    clock: Clock = "model" if has_clock(repeat, "model") else "guest"
    kinds = len(repeat.plans)
    steps = [step for step in measured(repeat) if _is_of(repeat, step, planned.kind)]
    if not steps:
        kind = f" for steps {planned.kind}" if kinds > 1 else ""
        raise LookupError(f"no record of a measured step is of the plan{kind} alone")
    step = _median(steps, clock)
    executed = execute(planned.plan, planned.simulation, _before(repeat, step), step, ns=step_ns(step, clock))
    return Explanation(
        cell=cell.id,
        label=label,
        policy=labels.policy_name(cell.resolved),
        kind=planned.kind if kinds > 1 else "",
        repeat=repeat.number,
        steps=len(steps),
        clock=clock,
        replayed=cell.resolved.get("mode") == "replay",
        executed=executed,
        profile=planned.profile,
        simulation=planned.simulation,
        notes=notes(executed, planned.simulation),
    )


def notes(executed: Executed, simulation: Simulation | None) -> list[str]:
    """Return what is not known of a planned step and its execution, a sentence each."""
    found = []
    if simulation is None:
        found.append("the run did not keep the profile of the plan, so the planned times are not known")
    missing = executed.statuses["not recorded"]
    if missing == len(executed.moves) > 0:
        found.append("the record has no single moves by move_pages, only their sums")
    elif missing:
        found.append(f"{missing} moves by move_pages are not recorded, only their sums")
    elif executed.moves and executed.measured_begin is None:
        found.append("the record has no begin of the step, so its moves cannot be placed in time")
    return found


def _is_of(repeat: Repeat, step: Step, kind: str) -> bool:
    """Whether a record is of one session run, with the plan for this kind."""
    if step.runtime.get("planned") is not True:
        return False
    if len(repeat.plans) == 1:
        return True
    before = _before(repeat, step)
    runs = [None if s is None else s.runtime.get("steps") for s in (before, step)]
    alone = isinstance(runs[0], int) and isinstance(runs[1], int) and runs[1] == runs[0] + 1
    return step.kind == kind and alone


def _median(steps: Sequence[Step], clock: Clock) -> Step:
    return sorted(steps, key=lambda step: (step_ns(step, clock), step.step))[(len(steps) - 1) // 2]


def _before(repeat: Repeat, step: Step) -> Step | None:
    return next((other for other in reversed(repeat.steps) if other.step < step.step), None)
