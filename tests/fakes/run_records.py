# SPDX-License-Identifier: Apache-2.0
"""Synthetic runs: whole folders of records, with times that a seed decides."""

from __future__ import annotations

import datetime
import random
import re
from pathlib import Path
from typing import Any

from results.records import Provenance, Residency, Result, RunInfo, Step, Throttle, write_repeat, write_run
from results.runs import Run

SLOW = Throttle.model_validate(
    {"method": "timing-plugin", "nodes_alike": False, "latency_ns": {"0": 82.0, "1": 300.0}}
)
ALIKE = Throttle(method="none", nodes_alike=True)
FACTOR = {"fast": 1.0, "slow": 3.4, "sentinel": 1.15, "interleave": 2.1}
ANON = 64 << 20  # bytes


def cell_of(model: str, placement: Any, **more: Any) -> dict[str, Any]:
    resolved = {"model": {"name": model, "batch": 8}, "placement": placement, "seed": 1, **more}
    name = "-".join([model, str(placement), *(str(v) for v in more.values())])
    return {"id": re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-"), **resolved}


def steps_of(
    placement: str, *, base_ns: float = 5e6, seed: int = 0, count: int = 8, model_clock: bool = True
) -> list[Step]:
    noise = random.Random(f"{placement} {seed}")  # noqa: S311
    steps = []
    for number in range(count):
        ns = round(base_ns * FACTOR[placement] * noise.lognormvariate(0, 0.02) * (3 if number < 2 else 1))
        near = {"fast": 1.0, "slow": 0.0, "sentinel": 0.2, "interleave": 0.5}[placement]
        steps.append(
            Step(
                step=number,
                warmup=number < 2,
                guest_ns=ns * 40,
                model_ns=ns if model_clock else None,
                loss=(2.3 * 0.97**number).hex(),
                residency=Residency(anon={"0": round(ANON * near), "1": ANON - round(ANON * near)}),
                vmstat={"pgmigrate_success": 900 + number if placement == "sentinel" else 0},
            )
        )
    return steps


def provenance_of(cell: dict[str, Any], throttle: Throttle = SLOW, accelerator: str = "tcg") -> Provenance:
    return Provenance(
        accelerator=accelerator,
        throttle=throttle,
        command=f"sentinel run suite.yaml --only {cell['id']}",
        git_commit="0123456789abcdef0123456789abcdef01234567",
        kernel={"version": "4.9.0", "key": "f00d"},
        image={"key": "beef"},
        qemu="7.2.11",
        host={"name": "lab", "cpus": 2},
    )


def ok(steps: list[Step]) -> Result:
    return Result(status="ok", steps=len(steps), real_seconds=12.5)


def add(
    path: Path,
    cell: dict[str, Any],
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


def fail(path: Path, cell: dict[str, Any], repeat: int, message: str = "no output for 60 s") -> Path:
    return write_repeat(
        path,
        cell["id"],
        repeat,
        cell=cell,
        result=Result(status="failed", verdict="guest hang", message=message, steps=0, real_seconds=61.0),
        steps=[],
        provenance=provenance_of(cell),
    )


def begin(path: Path, cells: list[dict[str, Any]], *, suite: str = "smoke") -> None:
    created = datetime.datetime(2026, 3, 1, 12, 30, tzinfo=datetime.UTC)
    info = RunInfo(suite=suite, created=created, resolved={"repeats": 3}, cells=[c["id"] for c in cells])
    write_run(path, info)


def make_run(
    path: Path,
    *,
    models: tuple[str, ...] = ("resnet20", "lstm"),
    placements: tuple[str, ...] = ("fast", "slow", "sentinel"),
    repeats: int = 3,
    throttle: Throttle = SLOW,
    accelerator: str = "tcg",
    model_clock: bool = True,
    factor: float = 1.0,
) -> Run:
    """A whole run: every model on every placement."""
    cells = [cell_of(model, placement) for model in models for placement in placements]
    begin(path, cells)
    for cell in cells:
        base = 5e6 * factor * (2.5 if cell["model"]["name"] == "lstm" else 1)
        for repeat in range(repeats):
            steps = steps_of(cell["placement"], base_ns=base, seed=repeat, model_clock=model_clock)
            add(path, cell, repeat, steps, throttle=throttle, accelerator=accelerator)
    return Run.load(path)
