# SPDX-License-Identifier: Apache-2.0
"""What a suite file may say, and the cells it expands to.

name: first
machine: two-node
preset: optane-6dimm
kernel: auto
models:
  - { name: cnn, batch: 8 }
placements: [fast-only, slow-only, first-touch, sentinel]
fast_memory: [20%, 40%]
steps: 5
warmup: 1
repeats: 3
seed: 7
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from results.labels import Axes
from testbed import machine as machines
from testbed.common import files
from testbed.common.schema import Document, MissingFileError, Strict
from testbed.machine import Machine
from testbed.timing import preset as presets
from testbed.timing.preset import Preset

# Bounds come from the guest's memory and from what one step costs under emulation, not from TensorFlow.
MODELS: dict[str, dict[str, int]] = {  # parameters with their defaults; sentinel/guest/models.py builds them
    "cnn": {"batch": 8},
    "lstm": {"batch": 8, "time_steps": 20, "hidden": 128},
    "resnet20": {"batch": 8},
    "resnet56": {"batch": 4},
}

ModelName = Literal["cnn", "lstm", "resnet20", "resnet56"]
Placement = Literal["fast-only", "slow-only", "first-touch", "interleave", "sentinel", "published"]
PLANNED = ("sentinel", "published")  # carried out by the runtime
UNLIMITED = ("fast-only", "slow-only")  # no budget of fast memory makes a difference to them


def _named(text: str) -> str:
    if not re.fullmatch("[a-z0-9][a-z0-9-]{0,39}", text):
        raise ValueError("must be lower-case letters, digits and dashes, 40 at most, with no dash first")
    return text


def _share(value: object) -> object:
    match = re.fullmatch("([1-9][0-9]{0,2})%", value) if isinstance(value, str) else None
    if match is None or int(match[1]) > 100:
        raise ValueError("must be a share of the model's peak from 1% to 100%, such as 40%")
    return value


class Model(Strict):
    """A model and its parameters; what is not given has the default of `MODELS`."""

    name: ModelName
    batch: Annotated[int, Field(ge=1, le=1024)] | None = None
    time_steps: Annotated[int, Field(ge=1, le=1000)] | None = None
    hidden: Annotated[int, Field(ge=1, le=4096)] | None = None

    def resolved(self) -> dict[str, Any]:
        """Every parameter with its value."""
        given = {k: getattr(self, k) for k in MODELS[self.name]}
        return {"name": self.name, **{k: MODELS[self.name][k] if v is None else v for k, v in given.items()}}


class Suite(Strict):
    """A whole suite; `steps` counts the measured ones, after `warmup` unmeasured ones."""

    name: Annotated[str, AfterValidator(_named)]
    description: str = ""
    machine: str = "two-node"
    preset: str | None = None  # what memory costs; without one both nodes have the host's speed
    kernel: Literal["auto", "4.9", "6.1"] = "auto"
    models: Annotated[tuple[Model, ...], Field(min_length=1, examples=["[{name: cnn}]"])]
    placements: Annotated[tuple[Placement, ...], Field(min_length=1, examples=["[fast-only, slow-only]"])]
    # Of the most memory that the model's tensors take at once; without it fast memory is all of node 0
    fast_memory: Annotated[
        tuple[Annotated[str, BeforeValidator(_share)], ...], Field(examples=["[40%]"])
    ] = ()
    steps: Annotated[int, Field(ge=1, le=100_000)] = 5
    warmup: Annotated[int, Field(ge=0, le=1000)] = 1
    repeats: Annotated[int, Field(ge=1, le=999)] = 3
    threads: Annotated[int, Field(ge=1, le=64)] = 1
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 7


@dataclass(frozen=True)
class Cell:
    """One combination to measure. `resolved` is everything that decides its result; `id` is its hash."""

    id: str
    resolved: dict[str, Any]

    @property
    def model(self) -> dict[str, Any]:
        return dict(self.resolved["model"])

    @property
    def placement(self) -> str:
        return str(self.resolved["placement"])

    @property
    def fast_memory(self) -> float | None:
        """The budget of fast memory, as a share of the model's peak; None if there is none."""
        share = self.resolved.get("fast_memory")
        return None if share is None else float(share.removesuffix("%")) / 100


@dataclass(frozen=True)
class Plan:
    """A suite made concrete: which machine, and which cells, in the order they run."""

    suite: Suite
    machine: Machine
    preset: Preset | None
    cells: tuple[Cell, ...]

    @property
    def axes(self) -> Axes:
        """What the cells differ in: it makes their labels."""
        return Axes.of(cell.resolved for cell in self.cells)


def load(path: Path) -> Plan:
    """Read, validate and expand a suite. Raises `UsageError` with the place of what is wrong."""
    document = Document(path)
    suite = document.parse(Suite)
    try:
        machine = machines.load(suite.machine, relative_to=path.parent)
    except MissingFileError as e:
        raise document.error(("machine",), e.message) from None
    if len(machine.nodes) < 2:
        raise document.error(("machine",), "placements need a fast and a slow node: at least two nodes")
    try:
        preset = presets.load(suite.preset, relative_to=path.parent) if suite.preset is not None else None
    except MissingFileError as e:
        raise document.error(("preset",), e.message) from None
    if preset is not None and len(machine.nodes) != 2:
        raise document.error(("preset",), "the timing model takes machines of two nodes")
    if suite.threads > machine.vcpus:
        raise document.error(("threads",), f"the machine has {machine.vcpus} CPUs")
    for i, model in enumerate(suite.models):
        for key in model.model_fields_set - {"name"} - set(MODELS[model.name]):
            allowed = ", ".join(MODELS[model.name])
            raise document.error(
                ("models", i, key), f"{model.name} has no such parameter; allowed: {allowed}", at_key=True
            )
    models = [model.resolved() for model in suite.models]
    if suite.fast_memory and not suite.warmup:
        raise document.error(
            ("warmup",), "a budget of fast memory holds from the end of the warm-up on: 1 or more"
        )
    planned = next((placement for placement in suite.placements if placement in PLANNED), None)
    if planned is not None:
        at = ("placements", suite.placements.index(planned))
        if not suite.fast_memory:
            raise document.error(at, f"{planned} needs `fast_memory`, such as [20%, 40%]")
        if suite.preset is None:
            raise document.error(at, f"{planned} needs a `preset`: plans are made for what memory costs")
    lists = (("models", models), ("placements", suite.placements), ("fast_memory", suite.fast_memory))
    for field, values in lists:
        for i, value in enumerate(values):
            if value in values[:i]:
                raise document.error((field, i), "stands here twice")
    return Plan(suite, machine, preset, tuple(expand(suite, machine, preset)))


def on_kernel(plan: Plan, kernel: str) -> Plan:
    """The same plan with `auto` replaced by the kernel it came to, so that cells say what they ran on."""
    suite = plan.suite.model_copy(update={"kernel": kernel})
    return Plan(suite, plan.machine, plan.preset, tuple(expand(suite, plan.machine, plan.preset)))


def expand(suite: Suite, machine: Machine, preset: Preset | None) -> list[Cell]:
    """The cells of a suite, model by model: all placements of a model share its snapshot."""
    cells = []
    for model in suite.models:
        for placement, budget in _budgeted(suite):
            resolved: dict[str, Any] = {
                "model": model.resolved(),
                "placement": placement,
                "machine": machine.model_dump(mode="json", exclude={"description"}),
                "kernel": suite.kernel,
                "steps": suite.steps,
                "warmup": suite.warmup,
                "threads": suite.threads,
                "seed": suite.seed,
            }
            if suite.fast_memory:
                resolved["runtime"] = True
            if budget is not None:
                resolved["fast_memory"] = budget
            if preset is not None:
                resolved["preset"] = preset.model_dump(mode="json", exclude={"description", "source"})
            cells.append(Cell(files.sha256_json(resolved)[:16], resolved))
    return cells


def _budgeted(suite: Suite) -> Iterator[tuple[Placement, str | None]]:
    """Each placement with each budget it is to be measured with."""
    for placement in suite.placements:
        for budget in (None,) if placement in UNLIMITED else suite.fast_memory or (None,):
            yield placement, budget
