# SPDX-License-Identifier: Apache-2.0
"""The format of suite files.

name: first
machine: two-node
preset: optane-6dimm
kernel: auto
models:
  - { name: cnn, batch: 8 }
  - { script: my/train.py, args: [--epochs, "2"], files: [my/data] }
placements: [fast-only, slow-only, first-touch, sentinel-opt]
fast_memory: [20%, 40%]
steps: 5
warmup: 1
repeats: 3
seed: 7

Files may extend others (suite_file.py), and select, add and change cells (combinations.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from experiments import policies
from experiments.suite_fields import (
    Budget,
    ModelDefaults,
    ModelEntry,
    OneOf,
    Placement,
    Repeats,
    Seed,
    Steps,
    Threads,
    Warmup,
    suite_name,
)
from kernel import source as kernels
from sentinel.planner.policy import MOVE_PAGES, Mechanism
from testbed.common.schema import Strict
from testbed.targets.spec import TargetField

AXES = ("models", "placements", "fast_memory")
MECHANISM = MOVE_PAGES


class Vary(Strict):
    """Settings of a suite that have several values."""

    seed: Annotated[tuple[Seed, ...], Field(examples=["[7, 8]"], description="seeds")] = ()
    threads: Annotated[tuple[Threads, ...], Field(examples=["[1, 2]"], description="compute threads")] = ()
    steps: Annotated[tuple[Steps, ...], Field(examples=["[5, 10]"], description="measured steps")] = ()
    warmup: Annotated[tuple[Warmup, ...], Field(examples=["[1, 2]"], description="unmeasured steps")] = ()
    mechanism: Annotated[
        tuple[Mechanism, ...],
        Field(examples=["[frames, move_pages]"], description="how plans of sentinel-opt migrate"),
    ] = ()


VARIED = tuple(Vary.model_fields)


class Selector(Vary):
    """Cells by their settings: those that have one of the values of each setting."""

    models: Annotated[
        tuple[dict[str, Any], ...],
        Field(
            examples=["[{name: cnn}]"],
            description="models with these parameters; those not given may have any value",
        ),
    ] = ()
    placements: Annotated[tuple[Placement, ...], Field(examples=["[slow-only]"], description="policies")] = ()
    fast_memory: Annotated[tuple[Budget, ...], Field(examples=["[20%]"], description="budgets")] = ()


class Included(Vary):
    """A further matrix of cells. Settings that it does not give are those of the suite."""

    models: Annotated[
        tuple[ModelEntry, ...], Field(examples=["[{name: cnn}]"], description="models and scripts")
    ] = ()
    placements: Annotated[tuple[Placement, ...], Field(examples=["[slow-only]"], description="policies")] = ()
    fast_memory: Annotated[tuple[Budget, ...], Field(examples=["[20%]"], description="budgets")] = ()


class Override(Strict):
    """Settings of some cells that differ from those of the suite: the fields that are given."""

    where: Annotated[Selector, Field(description="the cells")]
    steps: Annotated[Steps, Field(default_factory=int, description="measured steps of a repeat")]
    warmup: Annotated[Warmup, Field(default_factory=int, description="unmeasured steps before them")]
    threads: Annotated[Threads, Field(default_factory=int, description="compute threads")]
    seed: Annotated[Seed, Field(default_factory=int, description="seed of weights and data")]
    mechanism: Annotated[
        Mechanism, Field(default_factory=lambda: MECHANISM, description="how plans of sentinel-opt migrate")
    ]
    repeats: Annotated[Repeats, Field(default_factory=int, description="repeats of each cell")]


_ZipName = Annotated[str, OneOf(lambda: (*AXES, *VARIED))]


class Suite(Strict):
    """A suite. `steps` counts the measured steps, which follow `warmup` unmeasured ones."""

    name: Annotated[str, AfterValidator(suite_name), Field(description="name of the suite")]
    description: str = ""
    extends: Annotated[
        str | None,
        Field(description="a suite that gives the keys which this one does not; relative to this file"),
    ] = None
    machine: Annotated[str, Field(description="a machine by name, or a path to its YAML file")] = "two-node"
    preset: Annotated[
        str | None,
        Field(
            description="a preset by name, or a path to its YAML file; without one, nodes are equally fast"
        ),
    ] = None
    kernel: Annotated[str, OneOf(kernels.names)] = kernels.AUTO
    target: Annotated[
        TargetField,
        Field(description="where cells run: vm, host, or a real machine over SSH, {ssh: user@host}"),
    ] = None
    defaults: Annotated[
        ModelDefaults,
        Field(
            default_factory=dict,
            description="parameters of each model that has them and does not give them",
        ),
    ]
    models: Annotated[
        tuple[ModelEntry, ...],
        Field(min_length=1, examples=["[{name: cnn}]"], description="models, and scripts of users"),
    ]
    placements: Annotated[
        tuple[Placement, ...],
        Field(min_length=1, examples=["[fast-only, slow-only]"], description="policies to compare"),
    ]
    fast_memory: Annotated[
        tuple[Budget, ...],
        Field(
            examples=["[40%]"],
            description="budgets: shares of the model's peak, or sizes; without them all of node 0 is used",
        ),
    ] = ()
    vary: Annotated[Vary, Field(description="settings with several values, each of which has its cells")] = (
        Vary()
    )
    zip: Annotated[
        tuple[Annotated[tuple[_ZipName, ...], Field(min_length=2)], ...],
        Field(
            examples=["[[models, fast_memory]]"],
            description="groups of lists that are paired value by value instead of combined",
        ),
    ] = ()
    exclude: Annotated[
        tuple[Selector, ...], Field(description="cells of the matrix to leave out, by their settings")
    ] = ()
    include: Annotated[tuple[Included, ...], Field(description="further cells")] = ()
    overrides: Annotated[
        tuple[Override, ...], Field(description="other settings of some cells; later ones win")
    ] = ()
    steps: Annotated[Steps, Field(description="measured steps of a repeat; null: until the script ends")] = 5
    warmup: Annotated[Warmup, Field(description="unmeasured steps before them")] = 1
    repeats: Annotated[Repeats, Field(description="repeats of each cell")] = 5
    threads: Annotated[Threads, Field(description="compute threads of the framework")] = 1
    seed: Annotated[Seed, Field(description="seed of weights and data")] = 7
    mechanism: Annotated[
        Mechanism,
        Field(description="how plans of sentinel-opt migrate: by windows of frames, or by move_pages"),
    ] = MECHANISM

    order_seed: Annotated[
        Annotated[int, Field(ge=0, lt=2**31)] | None,
        Field(description="seed of the order in which repeats run; null: cell by cell, as listed"),
    ] = 0

    online: Annotated[
        bool, Field(description="profile and plan within the training, for policies that can")
    ] = False

    mode: Annotated[
        Literal["emulate", "replay"],
        Field(description="replay: record a step of each model once, and replay it for each cell"),
    ] = "emulate"

    @property
    def runtime(self) -> bool:
        """Whether the Sentinel runtime manages the tensors: in all cells or none, for equal allocators."""
        parts: list[Suite | Included] = [self, *self.include]
        return any(part.fast_memory for part in parts) or any(
            policies.get(name).needs.runtime for part in parts for name in part.placements
        )

    def all_models(self) -> Iterator[tuple[tuple[str | int, ...], dict[str, Any]]]:
        """Yield the models of the suite, then those of `include`, each with its place in the file."""
        for i, model in enumerate(self.models):
            yield ("models", i), model
        for n, entry in enumerate(self.include):
            for i, model in enumerate(entry.models):
                yield ("include", n, "models", i), model
