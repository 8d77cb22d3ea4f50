# SPDX-License-Identifier: Apache-2.0
"""Synthetic runs: the cells of real suites, with records of times that a seed decides."""

from __future__ import annotations

import datetime
import random
from pathlib import Path
from typing import Any

from experiments.matrix import Matrix
from experiments.suite import Suite
from results.records import (
    FastMemory,
    Provenance,
    Residency,
    Result,
    RunInfo,
    Step,
    Throttle,
)
from results.runs import Run
from results.writer import write_repeat, write_run
from testbed import machine as machines
from testbed.timing import preset as presets

SLOW = Throttle.model_validate(
    {"method": "timing-plugin", "nodes_alike": False, "latency_ns": {"0": 82.0, "1": 300.0}}
)
ALIKE = Throttle(method="none", nodes_alike=True)
FACTOR = {
    "fast-only": 1.0,
    "slow-only": 3.4,
    "first-touch": 2.4,
    "interleave": 2.1,
    "sentinel": 1.15,
    "sentinel-opt": 1.3,
}
ANON = 64 << 20  # bytes of the process
TENSORS = 40 << 20  # bytes of them that are tensors

Cell = dict[str, Any]


def suite_of(**changes: Any) -> Suite:
    """A small suite, by the loader's own model."""
    fields: dict[str, Any] = {
        "name": "smoke",
        "preset": "optane-6dimm",
        "kernel": "4.9",
        "models": ({"name": "resnet20"},),
        "placements": ("fast-only", "slow-only"),
        **changes,
    }
    return Suite.model_validate(fields)


def cells_of(**changes: Any) -> list[Cell]:
    """The cells that such a suite expands to, as they are recorded."""
    suite = suite_of(**changes)
    preset = presets.load(suite.preset) if suite.preset is not None else None
    matrix = Matrix(suite, machines.load(suite.machine), preset)
    return [{"id": cell.id, **cell.resolved} for cell in matrix.cells]


def cell_of(model: str, placement: str, budget: str | None = None, **changes: Any) -> Cell:
    """One cell of a suite, by the name of its model, its placement and its budget."""
    budgets = {"fast_memory": (budget,)} if budget is not None else {}
    (cell,) = cells_of(models=({"name": model},), placements=(placement,), **budgets, **changes)
    return cell


def steps_of(
    cell: Cell,
    *,
    base_ns: float = 5e6,
    seed: int = 0,
    count: int = 8,
    model_clock: bool = True,
    told: bool = True,
) -> list[Step]:
    """The steps of a repeat; `told`: the runtime's statistics are there, if the cell has the runtime."""
    placement = cell["placement"]
    noise = random.Random(f"{placement} {seed}")  # noqa: S311
    near = {"fast-only": 1.0, "slow-only": 0.0, "interleave": 0.5}.get(placement, 0.2)
    held = budget_of(cell)
    tensors = round(TENSORS * near) if held is None else min(held, round(TENSORS * 0.5))
    steps = []
    for number in range(count):
        ns = round(base_ns * FACTOR[placement] * noise.lognormvariate(0, 0.02) * (3 if number < 2 else 1))
        moved = 900 + number if placement in ("sentinel", "sentinel-opt") else 0
        steps.append(
            Step(
                step=number,
                warmup=number < 2,
                guest_ns=ns * 40,
                model_ns=ns if model_clock else None,
                loss=(2.3 * 0.97**number).hex(),
                residency=Residency(anon={"0": round(ANON * near), "1": ANON - round(ANON * near)}),
                vmstat={"pgmigrate_success": moved},
                runtime=runtime_of(tensors) if told and cell.get("runtime") else {},
            )
        )
    return steps


def runtime_of(on_node_0: int) -> dict[str, Any]:
    """Statistics of the runtime; a quarter of the tensor bytes on node 0 is in another pool."""
    rest = TENSORS - on_node_0
    quarter = on_node_0 // 4
    return {
        "planned": True,
        "pools": {
            "ordinary": {"live": TENSORS, "resident": [on_node_0 - quarter, rest]},
            "reserved": {"live": 0, "resident": [quarter, 0]},
        },
    }


def budget_of(cell: Cell) -> int | None:
    """The bytes that the budget of a cell comes to."""
    share = cell.get("fast_memory")
    return None if share is None else TENSORS * int(share.removesuffix("%")) // 100


def provenance_of(cell: Cell, throttle: Throttle = SLOW, accelerator: str = "tcg") -> Provenance:
    budget = budget_of(cell)
    return Provenance(
        accelerator=accelerator,
        throttle=throttle,
        command=f"sentinel run suite.yaml --out runs/{cell['id']}",
        git_commit="0123456789abcdef0123456789abcdef01234567",
        kernel={"version": "4.9.0", "key": "f00d"},
        image={"key": "beef"},
        qemu="7.2.11",
        host={"name": "lab", "cpus": 2},
        fast_memory=None if budget is None else FastMemory(budget_bytes=budget, peak_bytes=TENSORS),
    )


def ok(steps: list[Step]) -> Result:
    return Result(status="ok", steps=len(steps), real_seconds=12.5)


def add(
    path: Path,
    cell: Cell,
    repeat: int,
    steps: list[Step],
    *,
    throttle: Throttle = SLOW,
    accelerator: str = "tcg",
) -> Path:
    return write_repeat(
        path,
        cell["id"],
        repeat,
        cell=cell,
        result=ok(steps),
        steps=steps,
        provenance=provenance_of(cell, throttle, accelerator),
        extra={"console.log": "Linux version 4.9.0\n"},
    )


def fail(path: Path, cell: Cell, repeat: int, message: str = "no output for 60 s") -> Path:
    return write_repeat(
        path,
        cell["id"],
        repeat,
        cell=cell,
        result=Result(status="failed", verdict="guest hang", message=message, steps=0, real_seconds=61.0),
        steps=[],
        provenance=provenance_of(cell),
    )


def begin(path: Path, cells: list[Cell], *, suite: str = "smoke") -> None:
    created = datetime.datetime(2026, 3, 1, 12, 30, tzinfo=datetime.UTC)
    info = RunInfo(suite=suite, created=created, resolved={"repeats": 3}, cells=[c["id"] for c in cells])
    write_run(path, info)


def make_run(
    path: Path,
    *,
    models: tuple[str, ...] = ("resnet20", "lstm"),
    placements: tuple[str, ...] = ("fast-only", "slow-only", "sentinel"),
    fast_memory: tuple[str, ...] = ("20%",),
    repeats: int = 3,
    throttle: Throttle = SLOW,
    accelerator: str = "tcg",
    model_clock: bool = True,
    told: bool = True,
    factor: float = 1.0,
    **changes: Any,
) -> Run:
    """A whole run of a suite: every model on every placement with every budget."""
    names = tuple({"name": name} for name in models)
    cells = cells_of(models=names, placements=placements, fast_memory=fast_memory, **changes)
    begin(path, cells)
    for cell in cells:
        base = 5e6 * factor * (2.5 if cell["model"]["name"] == "lstm" else 1)
        for repeat in range(repeats):
            steps = steps_of(cell, base_ns=base, seed=repeat, model_clock=model_clock, told=told)
            add(path, cell, repeat, steps, throttle=throttle, accelerator=accelerator)
    return Run.load(path)
