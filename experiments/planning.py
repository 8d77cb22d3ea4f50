# SPDX-License-Identifier: Apache-2.0
"""Budgets in bytes, and plans for cells whose policy has one."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from experiments import profiles
from experiments.backend import Backend
from experiments.matrix import Cell, Matrix
from experiments.policies import PlanContext
from experiments.profiles import Profiled
from results.records import FastMemory
from sentinel.planner import check
from sentinel.planner.errors import BudgetError, PlannerError
from sentinel.planner.formats import files as planner
from sentinel.planner.formats.figures import Figures
from testbed.common.cache import Entry
from testbed.common.errors import UsageError

_GUEST_FOLDER = "/run/sentinel"


class NoPlanError(UsageError):
    """A cell's plan cannot be made. The cell fails; the others run."""


class Planning:
    """Profiles each model once, and makes each cell's plan once."""

    def __init__(self, matrix: Matrix, backend: Backend) -> None:
        self._matrix, self._backend = matrix, backend
        self._profiles: dict[str, Profiled] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="sentinel-plans-")

    def budget(self, cell: Cell, waiting: Entry) -> FastMemory | None:
        """The cell's budget. `waiting` is the barrier snapshot of its model, for its profile."""
        if cell.budget_share is None:
            return None
        peak = self.profile(waiting).peak
        return FastMemory(budget_bytes=int(peak * cell.budget_share), peak_bytes=peak)

    def order(
        self, cell: Cell, waiting: Entry, budget: FastMemory | None
    ) -> tuple[dict[str, Any], Path | None]:
        """The policy's part of the order, and the plan's file on the host. Raises `NoPlanError`."""
        size = None if budget is None else budget.budget_bytes
        path = None if size is None else self._plan(cell, waiting, size)
        plan = None if path is None else f"{_GUEST_FOLDER}/{path.name}"
        return cell.policy.order(budget=size, plan=plan), path

    def profile(self, waiting: Entry) -> Profiled:
        """The profile of the model that waits in the snapshot."""
        if waiting.key not in self._profiles:
            preset = self._matrix.preset
            if preset is None:
                raise NoPlanError("a budget needs a `preset`: shares refer to the peak of a profile")
            self._profiles[waiting.key] = self._backend.profile(waiting, preset)
        return self._profiles[waiting.key]

    def _plan(self, cell: Cell, waiting: Entry, budget: int) -> Path | None:
        """Write the cell's plan to a file, once for all repeats; None for a policy without plans."""
        policy, path = cell.policy, Path(self._folder.name) / f"{cell.id}.json.gz"
        if policy.plan is None:
            return None
        if path.exists():
            return path
        profiled = self.profile(waiting)
        label = self._matrix.axes.label(cell.resolved)
        try:
            plan = policy.plan(PlanContext(profiled, budget, self._figures()))
            if plan is not None:
                planner.write_plan(path, check.ensure_sound(profiled.profile, plan))
                return path
        except BudgetError as e:
            raise _below_floor(label, budget, e.floor, profiled.peak) from None
        except PlannerError as e:
            raise NoPlanError(f"no plan for {label}: {e}") from None
        if policy.guest.limit is None:
            raise NoPlanError(f"no plan for {label}: {policy.name} did not make one")
        return None

    def _figures(self) -> Figures:
        """The machine's figures for the planner."""
        assert self._matrix.preset is not None  # noqa: S101 -- profile() checks it
        helpers = profiles.helpers_of(self._matrix.machine)
        return profiles.figures_of(self._matrix.preset, helpers=helpers)


def _below_floor(label: str, budget: int, floor: int, peak: int) -> NoPlanError:
    share = -(-100 * floor // peak)
    least = f"the smallest share is {share}%" if share <= 100 else "no share of the model's peak is enough"
    return NoPlanError(
        f"the budget of {label}, {budget / 2**20:.1f} MiB, is below the floor of "
        f"{floor / 2**20:.1f} MiB: {least}"
    )
