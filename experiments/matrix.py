# SPDX-License-Identifier: Apache-2.0
"""Expansion of a suite into its cells."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from experiments import policies
from experiments.policies import Policy
from experiments.suite import Suite
from results.labels import Axes
from testbed import machine as machines
from testbed.common import files
from testbed.common.schema import Document, MissingFileError
from testbed.machine import Machine
from testbed.timing import preset as presets
from testbed.timing.preset import Preset

_ID_FORMAT = 2  # 2: policies are renamed, so that an equal name no longer means an equal cell


@dataclass(frozen=True)
class Cell:
    """One combination to measure. `resolved` holds all settings that affect the result; `id` is its hash."""

    id: str
    resolved: dict[str, Any]

    @property
    def model(self) -> dict[str, Any]:
        """The model's name and parameters."""
        return dict(self.resolved["model"])

    @property
    def policy(self) -> Policy:
        """The policy of the cell's placement."""
        return policies.get(self.resolved["placement"])

    @property
    def budget_share(self) -> float | None:
        """The budget of fast memory as a share of the model's peak, 0 to 1; None without a budget."""
        share = self.resolved.get("fast_memory")
        return None if share is None else float(share.removesuffix("%")) / 100


@dataclass(frozen=True)
class Matrix:
    """A suite with its machine and preset, and the cells that it expands to."""

    suite: Suite
    machine: Machine
    preset: Preset | None

    @functools.cached_property
    def cells(self) -> tuple[Cell, ...]:
        """The cells in the order they run: model by model, since the cells of a model share its snapshot."""
        return tuple(_expand(self.suite, self.machine, self.preset))

    @property
    def axes(self) -> Axes:
        """The settings that vary between the cells; they make the labels."""
        return Axes.of(cell.resolved for cell in self.cells)

    def with_kernel(self, kernel: str) -> Self:
        """The same matrix with the kernel that `auto` resolved to, so that cells name what they ran on."""
        return replace(self, suite=self.suite.model_copy(update={"kernel": kernel}))


def load(path: Path) -> Matrix:
    """Read, validate and expand a suite. Raises `UsageError` with the position of each mistake."""
    document = Document(path)
    suite = document.parse(Suite)
    try:
        machine = machines.load(suite.machine, relative_to=path.parent)
    except MissingFileError as e:
        raise document.error(("machine",), e.message) from None
    try:
        preset = presets.load(suite.preset, relative_to=path.parent) if suite.preset is not None else None
    except MissingFileError as e:
        raise document.error(("preset",), e.message) from None
    _check_machine(document, suite, machine)
    _check_policies(document, suite)
    _check_duplicates(document, suite)
    return Matrix(suite, machine, preset)


def _check_machine(document: Document, suite: Suite, machine: Machine) -> None:
    if len(machine.nodes) < 2:
        raise document.error(("machine",), "a suite needs a machine with at least two nodes")
    if suite.preset is not None and len(machine.nodes) != 2:
        raise document.error(("preset",), "the timing model supports machines with two nodes only")
    if suite.threads > machine.vcpus:
        raise document.error(("threads",), f"the machine has {machine.vcpus} CPUs")


def _check_policies(document: Document, suite: Suite) -> None:
    if suite.fast_memory and not suite.warmup:
        raise document.error(("warmup",), "must be at least 1 with a budget, which applies after the warm-up")
    for i, name in enumerate(suite.placements):
        needs = policies.get(name).needs
        if needs.budget == "required" and not suite.fast_memory:
            raise document.error(("placements", i), f"{name} needs `fast_memory`, such as [20%, 40%]")
        if (needs.preset or needs.profile) and suite.preset is None:
            raise document.error(("placements", i), f"{name} needs a `preset`, such as optane-6dimm")
        if suite.fast_memory and needs.budget != "none" and suite.preset is None:
            raise document.error(("fast_memory",), "needs a `preset`, such as optane-6dimm")


def _check_duplicates(document: Document, suite: Suite) -> None:
    lists = {"models": suite.models, "placements": suite.placements, "fast_memory": suite.fast_memory}
    for field, values in lists.items():
        for i, value in enumerate(values):
            if value in values[:i]:
                raise document.error((field, i), "duplicate value")


def _expand(suite: Suite, machine: Machine, preset: Preset | None) -> Iterator[Cell]:
    for model in suite.models:
        for placement, budget in _budgets(suite):
            resolved: dict[str, Any] = {
                "model": model,
                "placement": placement,
                "machine": machine.model_dump(mode="json", exclude={"description"}),
                "kernel": suite.kernel,
                "steps": suite.steps,
                "warmup": suite.warmup,
                "threads": suite.threads,
                "seed": suite.seed,
            }
            if suite.runtime:
                resolved["runtime"] = True
            if budget is not None:
                resolved["fast_memory"] = budget
            if preset is not None:
                resolved["preset"] = preset.model_dump(mode="json", exclude={"description", "source"})
            yield Cell(files.sha256_json([_ID_FORMAT, resolved])[:16], resolved)


def _budgets(suite: Suite) -> Iterator[tuple[str, str | None]]:
    """Pair each placement with each budget that affects it."""
    for placement in suite.placements:
        affected = policies.get(placement).needs.budget != "none" and suite.fast_memory
        for budget in suite.fast_memory if affected else (None,):
            yield placement, budget
