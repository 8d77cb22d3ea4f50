# SPDX-License-Identifier: Apache-2.0
"""Expansion of a suite into its cells."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from experiments import host_files, policies, scripts
from experiments.host_files import HostFiles
from experiments.models import DATA
from experiments.policies import Policy
from experiments.scripts import Script, ScriptError
from experiments.suite import Suite
from results import labels
from results.labels import Axes
from sentinel.planner import budget as budgets
from testbed import machine as machines
from testbed.common import files
from testbed.common.core_yaml import KeyPath
from testbed.common.errors import UsageError
from testbed.common.schema import Document, MissingFileError
from testbed.machine import Machine
from testbed.timing import preset as presets
from testbed.timing.preset import Preset

Error = Callable[[KeyPath, str], UsageError]
# 2: policies are renamed, so that an equal name no longer means an equal cell; 3: each step draws a batch;
# 4: the timing model charges dependent misses
_ID_FORMAT = 4


@dataclass(frozen=True)
class Cell:
    """One combination to measure. `resolved` holds all settings that affect the result; `id` is its hash.

    `script` is set if the cell trains a script instead of a model, `data` if its model has a data set.
    """

    id: str
    resolved: dict[str, Any]
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
    def online(self) -> bool:
        """Whether the process in the guest profiles and plans by itself."""
        placement = self.resolved["placement"]
        return isinstance(placement, dict) and bool(placement["online"])


@dataclass(frozen=True)
class Matrix:
    """A suite with its machine and preset, and the cells that it expands to.

    `scripts` are the scripts among the suite's models, by their index, and `data` the models' data sets.
    """

    suite: Suite
    machine: Machine
    preset: Preset | None
    scripts: Mapping[int, Script] = field(default_factory=dict)
    data: Mapping[int, HostFiles] = field(default_factory=dict)

    @functools.cached_property
    def cells(self) -> tuple[Cell, ...]:
        """The cells in the order they run: model by model, since the cells of a model share its snapshot."""
        return tuple(self._expand())

    @property
    def models(self) -> list[dict[str, Any]]:
        """The models and scripts as the cells record them: a data set by its content."""
        models = []
        for i, model in enumerate(self.suite.models):
            data = {DATA: self.data[i].content} if i in self.data else {}
            models.append(self.scripts[i].resolve() if i in self.scripts else {**model, **data})
        return models

    @property
    def axes(self) -> Axes:
        """The settings that vary between the cells; they make the labels."""
        return Axes.of(cell.resolved for cell in self.cells)

    def with_kernel(self, kernel: str) -> Self:
        """The same matrix with the kernel that `auto` resolved to, so that cells name what they ran on."""
        return replace(self, suite=self.suite.model_copy(update={"kernel": kernel}))

    def _expand(self) -> Iterator[Cell]:
        suite = self.suite
        for i, model in enumerate(self.models):
            for placement, budget in _budgets(suite):
                online = suite.online and policies.get(placement).online
                resolved: dict[str, Any] = {
                    "model": model,
                    "placement": {"policy": placement, "online": True} if online else placement,
                    "machine": self.machine.model_dump(mode="json", exclude={"description"}),
                    "kernel": suite.kernel,
                    "steps": suite.steps,
                    "warmup": suite.warmup,
                    "threads": suite.threads,
                    "seed": suite.seed,
                }
                if suite.mode != "emulate":
                    resolved["mode"] = suite.mode
                if suite.runtime:
                    resolved["runtime"] = True
                if budget is not None:
                    resolved["fast_memory"] = budget
                if self.preset is not None:
                    exclude = {"description", "source"}
                    resolved["preset"] = self.preset.model_dump(mode="json", exclude=exclude)
                cell_id = files.sha256_json([_ID_FORMAT, resolved])[:16]
                yield Cell(cell_id, resolved, self.scripts.get(i), self.data.get(i))


def load(path: Path) -> Matrix:
    """Read, validate and expand a suite. Raises `UsageError` with the position of each mistake."""
    document = Document(path)
    return resolve(document.parse(Suite), folder=path.parent, error=document.error)


def resolve(suite: Suite, *, folder: Path, error: Error) -> Matrix:
    """Read what a suite names, and expand it. Its paths are relative to `folder`.

    `error` makes the `UsageError` for a field with a mistake.
    """
    try:
        machine = machines.load(suite.machine, relative_to=folder)
    except MissingFileError as e:
        raise error(("machine",), e.message) from None
    try:
        preset = presets.load(suite.preset, relative_to=folder) if suite.preset is not None else None
    except MissingFileError as e:
        raise error(("preset",), e.message) from None
    _check_machine(error, suite, machine)
    _check_policies(error, suite)
    _check_mode(error, suite)
    matrix = Matrix(
        suite, machine, preset, _load_scripts(error, suite, folder), _load_data(error, suite, folder)
    )
    _check_duplicates(error, matrix)
    return matrix


def _load_scripts(error: Error, suite: Suite, folder: Path) -> dict[int, Script]:
    found: dict[int, Script] = {}
    for i, model in enumerate(suite.models):
        if "script" not in model:
            if suite.steps is None:
                raise error(("steps",), f"{model['name']} needs a number: only scripts end by themselves")
            continue
        paths = [folder / path for path in model["files"]]
        try:
            found[i] = scripts.load(
                folder / model["script"], model["args"], paths, step_ops=model["step_ops"]
            )
        except ScriptError as e:
            raise error(("models", i, *e.field), e.message) from None
    return found


def _load_data(error: Error, suite: Suite, folder: Path) -> dict[int, HostFiles]:
    data: dict[int, HostFiles] = {}
    for i, model in enumerate(suite.models):
        if "script" not in model and DATA in model:
            try:
                data[i] = host_files.load_data(folder / model[DATA])
            except UsageError as e:
                raise error(("models", i, DATA), e.message) from None
    return data


def _check_machine(error: Error, suite: Suite, machine: Machine) -> None:
    if len(machine.nodes) < 2:
        raise error(("machine",), "a suite needs a machine with at least two nodes")
    if suite.preset is not None and len(machine.nodes) != 2:
        raise error(("preset",), "the timing model supports machines with two nodes only")
    if suite.threads > machine.vcpus:
        raise error(("threads",), f"the machine has {machine.vcpus} CPUs")


def _check_policies(error: Error, suite: Suite) -> None:
    if suite.fast_memory and not suite.warmup:
        raise error(("warmup",), "must be at least 1 with a budget, which applies after the warm-up")
    for model in suite.models if suite.online else ():
        if "script" not in model:
            raise error(("online",), f"only scripts plan within the training, and {model['name']} is a model")
    if suite.online and not any(policies.get(name).online for name in suite.placements):
        able = ", ".join(name for name, policy in policies.registry().items() if policy.online)
        raise error(("online",), f"none of the `placements` can plan within the training; these can: {able}")
    for i, name in enumerate(suite.placements):
        needs = policies.get(name).needs
        if needs.budget == "required" and not suite.fast_memory:
            raise error(("placements", i), f"{name} needs `fast_memory`, such as [20%, 40%]")
        if (needs.preset or needs.profile) and suite.preset is None:
            raise error(("placements", i), f"{name} needs a `preset`, such as optane-6dimm")
        if suite.fast_memory and needs.budget != "none" and suite.preset is None:
            raise error(("fast_memory",), "needs a `preset`, such as optane-6dimm")


def _check_mode(error: Error, suite: Suite) -> None:
    """Replays need the model, and a step that can be recorded."""
    if suite.mode == "emulate":
        return
    if suite.preset is None or not suite.runtime:
        raise error(("mode",), "replays need a `preset`, and `fast_memory` or a policy with a plan")
    if suite.threads > 1:
        raise error(("mode",), "only steps of one thread can be replayed")
    for i, model in enumerate(suite.models):
        if "script" in model:
            raise error(("models", i), "a script cannot be replayed: its steps may be of several kinds")


def _check_duplicates(error: Error, matrix: Matrix) -> None:
    suite = matrix.suite
    lists = {"models": matrix.models, "placements": suite.placements, "fast_memory": suite.fast_memory}
    for name, values in lists.items():
        for i, value in enumerate(values):
            if value in values[:i]:
                raise error((name, i), "duplicate value")


def _budgets(suite: Suite) -> Iterator[tuple[str, str | None]]:
    """Pair each placement with each budget that affects it."""
    for placement in suite.placements:
        affected = policies.get(placement).needs.budget != "none" and suite.fast_memory
        for budget in suite.fast_memory if affected else (None,):
            yield placement, budget
