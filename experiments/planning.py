# SPDX-License-Identifier: Apache-2.0
"""Budgets in bytes, and plans for cells whose policy has one."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments import guest_code, profiles
from experiments.backend import Backend
from experiments.matrix import Cell, Matrix
from experiments.policies import PlanContext, Policy
from experiments.profiles import SUFFIX, Profiled, Profiles
from results.records import FastMemory
from sentinel.bound import Bound
from sentinel.planner import check, joint
from sentinel.planner.errors import BudgetError, PlannerError
from sentinel.planner.formats import files as planner
from sentinel.planner.formats.figures import Figures
from sentinel.planner.formats.plan import Plan
from sentinel.planner.policy import MOVE_PAGES, Mechanism
from testbed.common.cache_entry import Entry
from testbed.common.errors import UsageError

# Paths in the guest
_PLANS = "/run/sentinel/plans"
_PLANNER = f"{guest_code.FOLDER}/{guest_code.PLANNER}"
_FIGURES = f"{guest_code.FOLDER}/{guest_code.FIGURES}"


class NoPlanError(UsageError):
    """A cell's plan cannot be made. The cell fails; the others run."""


@dataclass(frozen=True)
class Order:
    """The policy's part of the order to the training process.

    `inputs` are the files and folders that the order refers to, by their path in the guest; `plans` are the
    plans among them, by kind of step; `profiles` are those that the plans were made from.
    """

    values: dict[str, Any]
    inputs: Mapping[str, Path] = field(default_factory=dict)
    plans: Mapping[str, Path] = field(default_factory=dict)
    profiles: Sequence[Path] = ()


class Planning:
    """Profiles each model once, and makes each cell's plans once."""

    def __init__(self, matrix: Matrix, backend: Backend) -> None:
        self._matrix, self._backend = matrix, backend
        self._profiles: dict[str, Profiles] = {}
        self._bounds: dict[tuple[Path, int, Mechanism], Bound] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="sentinel-plans-")

    def budget(self, cell: Cell, waiting: Entry) -> FastMemory | None:
        """The cell's budget. `waiting` is the barrier snapshot of its model, for its profile."""
        if cell.budget_bytes is not None:
            return FastMemory(budget_bytes=cell.budget_bytes)
        if cell.budget_share is None or cell.online:  # online, the guest knows the peak
            return None
        peak = self.profiles(cell, waiting).peak
        return FastMemory(budget_bytes=int(peak * cell.budget_share), peak_bytes=peak)

    def order(self, cell: Cell, waiting: Entry, budget: FastMemory | None) -> Order:
        """The policy's part of the order. Raises `NoPlanError`."""
        inputs = self._figures_file()
        size = None if budget is None else budget.budget_bytes
        if cell.online:
            values = cell.policy.online_order(
                budget=size or cell.resolved["fast_memory"],
                figures=_FIGURES,
                skip=cell.resolved["warmup"],
            )
            return Order(values, {**inputs, _PLANNER: guest_code.PLANNER_SOURCE})
        plans = {} if size is None else self._plans(cell, waiting, size)
        if not plans:
            return Order(cell.policy.order(budget=size), inputs)
        inputs[_PLANS] = next(iter(plans.values())).parent
        profiles = [self.profiles(cell, waiting).kinds[kind].path for kind in plans]
        return Order(cell.policy.order(budget=size, plan=_PLANS), inputs, plans, profiles)

    def profiles(self, cell: Cell, waiting: Entry) -> Profiles:
        """The profiles of the cell's process, which waits in the snapshot."""
        if waiting.key not in self._profiles:
            preset = self._matrix.preset
            if preset is None:
                raise NoPlanError("a budget needs a `preset`: shares refer to the peak of a profile")
            self._profiles[waiting.key] = self._backend.profiles(
                waiting, preset, script=cell.script is not None
            )
        return self._profiles[waiting.key]

    def _plans(self, cell: Cell, waiting: Entry, budget: int) -> dict[str, Path]:
        """The cell's plans by kind, written once for all repeats; empty for a policy without plans."""
        folder = Path(self._folder.name) / cell.id
        if cell.policy.plan is None:
            return {}
        if not folder.exists():
            plans = self._make_plans(cell, self.profiles(cell, waiting), budget)
            folder.mkdir()
            for kind, plan in plans.items():
                planner.write_plan(folder / f"{kind}{SUFFIX}", plan)
        return profiles.by_kind(folder)

    def _make_plans(self, cell: Cell, profiles: Profiles, budget: int) -> dict[str, Plan]:
        """Make a plan for each kind; kinds for which the policy makes none are left out."""
        policy, label, kinds = cell.policy, self._matrix.axes.label(cell.resolved), profiles.kinds
        try:
            plans = make_plans(policy, kinds, budget, self._figures(), mechanism=cell.mechanism)
        except BudgetError as e:
            raise _below_floor(label, budget, e.floor, profiles.peak) from None
        except PlannerError as e:
            raise NoPlanError(f"no plan for {label}: {e}") from None
        if not plans and policy.guest.limit is None:
            raise NoPlanError(f"no plan for {label}: {policy.name} did not make one")
        return {
            name: self._bound(kinds[name], budget, cell.mechanism).recorded_in(plan)
            for name, plan in plans.items()
        }

    def _bound(self, profiled: Profiled, budget: int, mechanism: Mechanism) -> Bound:
        """The bound for a kind of step, computed once for all policies."""
        key = profiled.path, budget, mechanism
        if key not in self._bounds:
            self._bounds[key] = profiled.bound(budget, self._figures(), mechanism)
        return self._bounds[key]

    def _figures_file(self) -> dict[str, Path]:
        """The file with the machine's figures by its path in the guest, if there is a preset."""
        if self._matrix.preset is None:
            return {}
        path = Path(self._folder.name) / guest_code.FIGURES
        if not path.exists():
            profiles.write_figures(path, self._figures())
        return {_FIGURES: path}

    def _figures(self) -> Figures:
        """The machine's figures for the planner."""
        assert self._matrix.preset is not None  # noqa: S101 -- profiles() checks it
        return self._backend.figures(self._matrix.preset, self._matrix.machine)


def make_plans(
    policy: Policy,
    kinds: Mapping[str, Profiled],
    budget: int,
    figures: Figures,
    *,
    mechanism: Mechanism = MOVE_PAGES,
) -> dict[str, Plan]:
    """Make the policy's plan for each kind of step; kinds for which it makes none are left out.

    Raises the planner's errors; a `BudgetError` has the floor of all kinds.
    """
    plan_of = policy.plan
    if plan_of is None:
        return {}

    def make(names: Iterable[str], resident: frozenset[str] | None) -> dict[str, Plan]:
        plans, floors = {}, []
        for name in names:
            try:
                plan = plan_of(PlanContext(kinds[name], budget, figures, resident, mechanism=mechanism))
                if plan is not None:
                    plans[name] = check.ensure_sound(kinds[name].profile, plan)
            except BudgetError as e:
                floors.append(e.floor)
        if floors:
            raise BudgetError("the budget is below the floor", floor=max(floors))
        return plans

    plans = make(kinds, None)
    if not policy.joint:
        return plans
    planned = {
        name: joint.Kind(kinds[name].profile, kinds[name].fast_step_ns, plan) for name, plan in plans.items()
    }
    return joint.replan(planned, figures, lambda resident: make(planned, resident))


def _below_floor(label: str, budget: int, floor: int, peak: int) -> NoPlanError:
    share = -(-100 * floor // peak)
    least = f"the smallest share is {share}%" if share <= 100 else "no share of the model's peak is enough"
    return NoPlanError(
        f"the budget of {label}, {budget / 2**20:.1f} MiB, is below the floor of "
        f"{floor / 2**20:.1f} MiB: {least}"
    )
