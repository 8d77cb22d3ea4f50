# SPDX-License-Identifier: Apache-2.0
"""A backend that starts no machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from experiments import profiles
from experiments.backend import Callbacks
from experiments.job import Work
from experiments.matrix import Matrix
from experiments.profiles import Profiles
from sentinel.planner.formats import files
from sentinel.planner.formats.figures import Figures
from testbed.common.cache_entry import Entry

WHEEL = "tensorflow-1.13.1-cp27-cp27mu-manylinux1_x86_64.whl"


def record(number: int) -> dict[str, Any]:
    return {
        "step": number,
        "warmup": number == 0,
        "guest_ns": 1_000_000 + number,
        "model_ns": None,
        "loss": (2.5 - number).hex(),
        "residency": {"anon": {"0": 4096}, "file": {}},
        "vmstat": {"pgfault": 1},
    }


@dataclass
class FakeBackend:
    """Records what it is asked to do. `failures` maps the number of a training to what it raises."""

    folder: Path
    profiles_: Profiles | None = None
    on_prepare: Callable[[], None] = lambda: None
    snapshot_failure: BaseException | None = None
    failures: dict[int, BaseException] = field(default_factory=dict)
    trial_steps: int = 0  # unmeasured steps beyond the warm-up
    python: dict[str, str] = field(default_factory=lambda: {WHEEL: "hash"})
    kernel_config: str = ""
    orders: list[dict[str, Any]] = field(default_factory=list)
    works: list[Work] = field(default_factory=list)
    profiled_snapshots: list[str] = field(default_factory=list)
    inputs: list[Mapping[str, Path]] = field(default_factory=list)
    figures_received: Figures | None = None
    summary: dict[str, Any] = field(default_factory=dict)
    plans: list[list[str]] = field(default_factory=list)
    runtime: str = "a digest"

    def prepare(self, matrix: Matrix) -> Any:
        self.on_prepare()
        (self.folder / "config").write_text(self.kernel_config)
        manifest = {"release": "4.9.0", "packages": {"long": "list"}}
        kernel = Entry("kernel", "k", self.folder, manifest)
        image = Entry("image", "i", self.folder, {**manifest, "python": self.python})
        return SimpleNamespace(
            kernel=SimpleNamespace(
                source="4.9", release="4.9.0", entry=kernel, config=self.folder / "config"
            ),
            image=SimpleNamespace(entry=image),
            boot=SimpleNamespace(accelerator="tcg", preset=None, remote=None),
            origin={},
        )

    def calibrate(self, boot: Any) -> None:
        return None

    def barrier_snapshot(self, boot: Any, work: Work) -> Any:
        self.works.append(work)
        if self.snapshot_failure is not None:
            raise self.snapshot_failure
        return SimpleNamespace(key=f"snapshot of {work.name}", manifest={"runtime": self.runtime})

    def profiles(self, waiting: Any, preset: Any, *, script: bool) -> Profiles:
        self.profiled_snapshots.append(waiting.key)
        assert self.profiles_ is not None
        return self.profiles_

    def figures(self, preset: Any, machine: Any) -> Figures:
        return profiles.machine_figures(preset, machine)

    def train(
        self,
        waiting: Any,
        preset: Any,
        order: dict[str, Any],
        *,
        inputs: Mapping[str, Path],
        callbacks: Callbacks,
    ) -> None:
        number = len(self.orders)
        self.orders.append(order)
        self.inputs.append(inputs)
        if path := inputs.get("/opt/sentinel/figures.json"):
            self.figures_received = files.read_figures(path)
        if "plan" in order:
            plans = sorted(inputs[order["plan"]].iterdir())
            assert {files.read_plan(path).budget for path in plans} == {order["fast_memory"]}
            self.plans.append([path.name for path in plans])
        console = self.folder / "console.log"
        console.write_text(f"{waiting.key} trained as number {number}\n")
        callbacks.on_start(console)
        if callbacks.on_output is not None:
            callbacks.on_output(b"epoch 1\n")
        warmup = order["warmup"] + self.trial_steps
        total = warmup + order["steps"]
        for i in range(total):
            if i == total - 1 and number in self.failures:
                raise self.failures[number]
            callbacks.on_step({**record(i), "warmup": i < warmup})
        if "online" in order:
            callbacks.on_summary(self.summary)
