# SPDX-License-Identifier: Apache-2.0
"""Synthetic runs: cells that a suite expands to, with step times from a seeded generator."""

from __future__ import annotations

import datetime
import random
from collections.abc import Mapping
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
from results.writer import write_profile, write_repeat, write_run
from sentinel.planner.formats import files
from sentinel.planner.formats.profile import Profile
from sentinel.planner.memory import classify
from sentinel.planner.policy import POLICIES
from sentinel.planner.search import make_plan
from testbed import machine as machines
from testbed.timing import preset as presets
from tests.fakes.profiles import OPTANE

SLOW = Throttle.model_validate(
    {
        "method": "timing-plugin",
        "nodes_alike": False,
        "latency_ns": {"0": 82.0, "1": 300.0},
        "calibrated": True,
        "calibration": {"key": "ca1", "mode": "synchronised", "good": True},
    }
)
EQUALLY_FAST = Throttle(method="none", nodes_alike=True)
STEP_FACTOR = {  # step time relative to fast-only
    "fast-only": 1.0,
    "slow-only": 3.4,
    "first-touch": 2.4,
    "interleave": 2.1,
    "sentinel": 1.3,
    "sentinel-opt": 1.15,
}
ANON_BYTES = 64 << 20  # of the process
TENSOR_BYTES = 40 << 20  # of these

Cell = dict[str, Any]


def suite_of(**changes: Any) -> Suite:
    """Return a small suite with changed fields."""
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
    """Return the cells that such a suite expands to, as recorded."""
    suite = suite_of(**changes)
    preset = presets.load(suite.preset) if suite.preset is not None else None
    matrix = Matrix(suite, machines.load(suite.machine), preset)
    return [{"id": cell.id, **cell.resolved} for cell in matrix.cells]


def cell_of(model: str, policy: str, budget: str | None = None, **changes: Any) -> Cell:
    """Return a single cell."""
    budgets = {"fast_memory": (budget,)} if budget is not None else {}
    (cell,) = cells_of(models=({"name": model},), placements=(policy,), **budgets, **changes)
    return cell


def steps_of(
    cell: Cell,
    *,
    base_ns: float = 5e6,
    seed: int = 0,
    count: int = 8,
    model_clock: bool = True,
    tensor_statistics: bool = True,
    peak: int = TENSOR_BYTES,
) -> list[Step]:
    """Return the steps of a repeat; the first two are its warm-up.

    With `tensor_statistics`, steps of cells with the runtime have its statistics.
    """
    policy = cell["placement"]
    noise = random.Random(f"{policy} {seed}")  # noqa: S311
    fast_share = {"fast-only": 1.0, "slow-only": 0.0, "interleave": 0.5}.get(policy, 0.2)
    budget = budget_of(cell, peak)
    tensors = round(peak * fast_share) if budget is None else min(budget, peak // 2)
    fast_bytes = round(ANON_BYTES * fast_share)
    steps = []
    for number in range(count):
        ns = round(base_ns * STEP_FACTOR[policy] * noise.lognormvariate(0, 0.02) * (3 if number < 2 else 1))
        migrated = 900 + number if policy in ("sentinel", "sentinel-opt") else 0
        steps.append(
            Step(
                step=number,
                warmup=number < 2,
                guest_ns=ns * 40,
                model_ns=ns if model_clock else None,
                loss=(2.3 * 0.97**number).hex(),
                residency=Residency(anon={"0": fast_bytes, "1": ANON_BYTES - fast_bytes}),
                vmstat={"pgmigrate_success": migrated},
                runtime=runtime_of(tensors, peak, planned_steps=number if policy in POLICIES else None)
                if tensor_statistics and cell.get("runtime")
                else {},
            )
        )
    return steps


def runtime_of(
    on_node_0: int, peak: int = TENSOR_BYTES, *, planned_steps: int | None = None
) -> dict[str, Any]:
    """Return runtime statistics; a quarter of the tensor bytes on node 0 is in the reserved pool.

    A planned step promotes a MiB, half of it late, which costs 100 us, and demotes two MiB.
    """
    rest = peak - on_node_0
    quarter = on_node_0 // 4
    steps = planned_steps or 0
    units = {"promoted": 2, "demoted": 4, "late": 1, "failed": 0, "crowded": 0}
    return {
        "planned": planned_steps is not None,
        "steps": steps + 1,
        "total": {**{name: n * steps << 19 for name, n in units.items()}, "exposed_ns": 100_000 * steps},
        "pools": {
            "ordinary": {"live": peak, "resident": [on_node_0 - quarter, rest]},
            "reserved": {"live": 0, "resident": [quarter, 0]},
        },
    }


def budget_of(cell: Cell, peak: int = TENSOR_BYTES) -> int | None:
    """Return the budget of a cell in bytes."""
    share = cell.get("fast_memory")
    return None if share is None else peak * int(share.removesuffix("%")) // 100


def provenance_of(
    cell: Cell, throttle: Throttle = SLOW, accelerator: str = "tcg", peak: int = TENSOR_BYTES
) -> Provenance:
    budget = budget_of(cell, peak)
    return Provenance(
        accelerator=accelerator,
        throttle=throttle,
        command=f"sentinel run suite.yaml --out runs/{cell['id']}",
        git_commit="0123456789abcdef0123456789abcdef01234567",
        kernel={"version": "4.9.0", "key": "f00d"},
        image={"key": "beef"},
        qemu="7.2.11",
        host={"name": "lab", "cpus": 2},
        fast_memory=None if budget is None else FastMemory(budget_bytes=budget, peak_bytes=peak),
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
    peak: int = TENSOR_BYTES,
    plans: Mapping[str, Path] | None = None,
) -> Path:
    return write_repeat(
        path,
        cell["id"],
        repeat,
        cell=cell,
        result=ok(steps),
        steps=steps,
        provenance=provenance_of(cell, throttle, accelerator, peak),
        extra={"console.log": "Linux version 4.9.0\n", **(plans or {})},
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
    info = RunInfo(
        suite=suite,
        created=created,
        resolved={"preset": "optane-6dimm", "repeats": 3},
        cells=[c["id"] for c in cells],
    )
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
    tensor_statistics: bool = True,
    factor: float = 1.0,
    profile: Profile | None = None,
    **changes: Any,
) -> Run:
    """Store and read a complete run: every model with every policy and budget.

    With a profile, the cells of `sentinel` and `sentinel-opt` have the plans that are made from it.
    """
    names = tuple({"name": name} for name in models)
    cells = cells_of(models=names, placements=placements, fast_memory=fast_memory, **changes)
    begin(path, cells)
    peak = classify.peak(profile) if profile is not None else TENSOR_BYTES
    for cell in cells:
        base = 5e6 * factor * (2.5 if cell["model"]["name"] == "lstm" else 1)
        plans = {} if profile is None else plans_of(path, cell, profile)
        for repeat in range(repeats):
            steps = steps_of(
                cell,
                base_ns=base,
                seed=repeat,
                model_clock=model_clock,
                tensor_statistics=tensor_statistics,
                peak=peak,
            )
            add(
                path,
                cell,
                repeat,
                steps,
                throttle=throttle,
                accelerator=accelerator,
                peak=peak,
                plans=plans,
            )
    return Run.load(path)


def plans_of(path: Path, cell: Cell, profile: Profile) -> dict[str, Path]:
    """Return the file of the cell's plan by its name in the records, and store the profile in the run."""
    budget, policy = budget_of(cell, classify.peak(profile)), cell["placement"]
    if budget is None or policy not in POLICIES:
        return {}
    folder = path.with_name(f"{path.name}-plans")
    folder.mkdir(exist_ok=True)
    files.write_profile(folder / "profile.json.gz", profile)
    kept = write_profile(path, folder / "profile.json.gz")
    plan = make_plan(profile, budget, OPTANE, spill=True, policy=policy, source=files.digest(kept))
    files.write_plan(folder / f"{cell['id']}.json.gz", plan)
    return {"plan.json.gz": folder / f"{cell['id']}.json.gz"}


def troubled_run(root: Path) -> Run:
    """Store and read a run with special characters, a differing loss, failures, damage and a pending cell."""
    fast, slow = cell_of("resnet20", "fast-only"), cell_of("resnet20", "slow-only")
    odd = {**fast, "id": "odd", "model": {"name": "a<b>&$x_1$", "batch": 8}}
    begin(root, [fast, slow, odd, cell_of("lstm", "fast-only")], suite="suite <script>")
    for cell in (fast, slow, odd):
        for repeat in range(2):
            steps = steps_of(cell, seed=repeat)
            if cell is slow and repeat == 1:
                steps[4] = steps[4].model_copy(update={"loss": (1.5).hex()})
            add(root, cell, repeat, steps, throttle=EQUALLY_FAST)
    fail(root, fast, 0)
    fail(root, fast, 2, "Oops:\x1b[31m <at> & [bold]mm/migrate.c[/bold]\n")
    (root / "cells" / "odd" / "001" / "cell.json").unlink()
    return Run.load(root)
