# SPDX-License-Identifier: Apache-2.0
"""Expansion of a suite into its cells."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from experiments import host_files, policies, scripts, suite_checks, suite_file
from experiments.combinations import Combination, Error, expand
from experiments.host_files import HostFiles
from experiments.models import DATA
from experiments.policies import Policy
from experiments.scripts import Script, ScriptError
from experiments.suite import Suite
from results import labels
from results.labels import Axes
from sentinel.planner import budget as budgets
from sentinel.planner.policy import MOVE_PAGES, Mechanism
from testbed import machine as machines
from testbed.common import files
from testbed.common.core_yaml import KeyPath
from testbed.common.errors import UsageError
from testbed.common.schema import MissingFileError
from testbed.machine import Machine
from testbed.timing import preset as presets
from testbed.timing.preset import Preset

# 2: policies are renamed, so that an equal name no longer means an equal cell; 3: each step draws a batch;
# 4: the timing model charges dependent misses
_ID_FORMAT = 4


@dataclass(frozen=True)
class Cell:
    """One combination to measure. `resolved` holds all settings that affect the result; `id` is its hash.

    `repeats` is the number of its repeats.
    `script` is set if the cell trains a script instead of a model, `data` if its model has a data set.
    """

    id: str
    resolved: dict[str, Any]
    repeats: int = 1
    script: Script | None = None
    data: HostFiles | None = None

    @property
    def model(self) -> dict[str, Any]:
        """The name and the parameters of the model, or the description of the script."""
        return dict(self.resolved["model"])

    @property
    def policy(self) -> Policy:
        """The policy of the cell's placement."""
        return policies.get(labels.policy_name(self.resolved))

    @property
    def budget_share(self) -> float | None:
        """The budget of fast memory as a share of the model's peak, 0 to 1; None if it is not a share."""
        budget = self.resolved.get("fast_memory", "")
        return float(budget.removesuffix("%")) / 100 if budget.endswith("%") else None

    @property
    def budget_bytes(self) -> int | None:
        """The budget of fast memory in bytes; None if it is not a size."""
        budget = self.resolved.get("fast_memory", "%")
        return None if budget.endswith("%") else budgets.parse(budget, peak=0)

    @property
    def mechanism(self) -> Mechanism:
        """How the cell's plans migrate."""
        placement = self.resolved["placement"]
        parameters = placement if isinstance(placement, dict) else {}
        mechanism: Mechanism = parameters.get("mechanism", MOVE_PAGES)
        return mechanism

    @property
    def online(self) -> bool:
        """Whether the process in the guest profiles and plans by itself."""
        placement = self.resolved["placement"]
        return isinstance(placement, dict) and bool(placement.get("online"))


@dataclass(frozen=True)
class Matrix:
    """A suite with its machine and preset, and the cells that it expands to.

    `scripts` are the scripts among all models of the suite, by their index, and `data` the models' data sets.
    """

    suite: Suite
    machine: Machine
    preset: Preset | None
    scripts: Mapping[int, Script] = field(default_factory=dict)
    data: Mapping[int, HostFiles] = field(default_factory=dict)

    @functools.cached_property
    def combinations(self) -> tuple[Combination, ...]:
        """The settings of each cell, with their places in the suite."""
        return tuple(expand(self.suite))

    @functools.cached_property
    def cells(self) -> tuple[Cell, ...]:
        """The cells in the order of the suite, model by model."""
        return tuple(self._expand())

    @property
    def models(self) -> list[dict[str, Any]]:
        """The models and scripts as the cells record them: a data set by its content."""
        models = []
        for i, (_, model) in enumerate(self.suite.all_models()):
            data = {DATA: self.data[i].content} if i in self.data else {}
            models.append(self.scripts[i].resolve() if i in self.scripts else {**model, **data})
        return models

    @functools.cached_property
    def axes(self) -> Axes:
        """The settings that vary between the cells; they make the labels."""
        return Axes.of(cell.resolved for cell in self.cells)

    def with_kernel(self, kernel: str) -> Self:
        """The same matrix with the kernel that `auto` resolved to, so that cells name what they ran on."""
        return replace(self, suite=self.suite.model_copy(update={"kernel": kernel}))

    def _expand(self) -> Iterator[Cell]:
        suite, models = self.suite, self.models
        machine = self.machine.model_dump(mode="json", exclude={"description"})
        where: dict[str, Any] = {"machine": machine, "kernel": suite.kernel}
        if suite.target is not None:
            where = {"target": suite.target.identity()}  # it has a kernel and nodes of its own
        preset = None
        if self.preset is not None:
            preset = self.preset.model_dump(mode="json", exclude={"description", "source"})
        for one in self.combinations:
            placement, budget = one["placements"], one["fast_memory"]
            parameters: dict[str, Any] = {}
            if suite.online and policies.get(placement).online:
                parameters["online"] = True
            if one["mechanism"] not in (None, MOVE_PAGES):
                parameters["mechanism"] = one["mechanism"]
            resolved: dict[str, Any] = {
                "model": models[one["models"]],
                "placement": {"policy": placement, **parameters} if parameters else placement,
                **where,
                **{name: one[name] for name in ("steps", "warmup", "threads", "seed")},
            }
            if suite.mode != "emulate":
                resolved["mode"] = suite.mode
            if suite.runtime:
                resolved["runtime"] = True
            if budget is not None:
                resolved["fast_memory"] = budget
            if preset is not None:
                resolved["preset"] = preset
            cell_id = files.sha256_json([_ID_FORMAT, resolved])[:16]
            index = one["models"]
            yield Cell(cell_id, resolved, one.repeats, self.scripts.get(index), self.data.get(index))


def load(path: Path, **instead: Any) -> Matrix:
    """Read, validate and expand a suite. Raises `UsageError` with the position of each mistake.

    `instead` are values of fields that take the place of those in the file.
    """
    document = suite_file.read(path)
    suite = document.parse(Suite).model_copy(update=instead)
    return resolve(suite, folder_of=document.folder_of, error=document.error)


def resolve(suite: Suite, *, folder_of: Callable[[str], Path], error: Error) -> Matrix:
    """Read what a suite names, and expand it.

    `folder_of` gives the folder that the paths in a key of the suite are relative to, and `error` makes the
    `UsageError` for a field with a mistake.
    """
    try:
        machine = machines.load(suite.machine, relative_to=folder_of("machine"))
    except MissingFileError as e:
        raise error(("machine",), e.message) from None
    preset = None
    if suite.preset is not None:
        try:
            preset = presets.load(suite.preset, relative_to=folder_of("preset"))
        except MissingFileError as e:
            raise error(("preset",), e.message) from None
    combinations = expand(suite, error)
    suite_checks.check(suite, machine, combinations, error)
    scripts_, data = {}, {}
    for i, (place, model) in enumerate(suite.all_models()):
        folder = folder_of(str(place[0]))
        if "script" in model:
            scripts_[i] = _load_script(model, place, folder, error)
        elif DATA in model:
            try:
                data[i] = host_files.load_data(folder / model[DATA])
            except UsageError as e:
                raise error((*place, DATA), e.message) from None
    matrix = Matrix(suite, machine, preset, scripts_, data)
    _check_duplicates(matrix, error)
    return matrix


def _load_script(model: dict[str, Any], place: KeyPath, folder: Path, error: Error) -> Script:
    paths = [folder / path for path in model["files"]]
    try:
        return scripts.load(folder / model["script"], model["args"], paths, step_ops=model["step_ops"])
    except ScriptError as e:
        raise error((*place, *e.field), e.message) from None


def _check_duplicates(matrix: Matrix, error: Error) -> None:
    """Refuse equal cells, such as of two copies of a script."""
    seen: set[str] = set()
    for cell, one in zip(matrix.cells, matrix.combinations, strict=True):
        if cell.id in seen:
            raise error(one.place("models"), "duplicate value")
        seen.add(cell.id)
