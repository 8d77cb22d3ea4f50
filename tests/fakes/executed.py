# SPDX-License-Identifier: Apache-2.0
"""A plan with frames made by hand, its predicted step, and records of its execution."""

from __future__ import annotations

from typing import Any

import numpy as np

from results.records import Step
from sentinel.planner.formats import figures as figures_format
from sentinel.planner.formats.plan import Group, Move, Plan, TensorPlacement
from sentinel.planner.formats.profile import Profile
from sentinel.planner.simulate import Simulation
from sentinel.planner.timing.timeline import Timeline
from tests.fakes.profiles import LAYERS, OPTANE, small, written_then_read

SIZE = 16 * 4096  # of each tensor, a group of its own
STEP_NS = [100_000] * 7  # of the planned operations


def profile() -> Profile:
    """Two tensors, of op0 and of op1, both used until op6."""
    tensors = [written_then_read(0, 6), written_then_read(1, 6), written_then_read(2, 4, size=100)]
    return small(LAYERS, STEP_NS, tensors)


def plan(source: Profile) -> Plan:
    """Both groups have the frames at 0: the first leaves them for the second, and later comes back."""
    tensors = [TensorPlacement(f"op{i}", 0, i, SIZE, "long", i * SIZE, i, None, position=i) for i in range(2)]
    return Plan(
        graph=source.graph,
        ops=7,
        budget=2 * SIZE,
        migratable_budget=0,
        reserved=4096,
        arena=2 * SIZE,
        interval_layers=1,
        intervals=[0],
        tensors=[*tensors, TensorPlacement("op2", 0, 2, 100, "short", 0, 0, None, position=2)],
        groups=[Group(0, SIZE, 0, False, 0), Group(SIZE, SIZE, 1, False, None)],
        moves=[
            Move(1, 1, 3, 0, SIZE, None, 2, None, True),
            Move(3, 0, 4, SIZE, SIZE, None, 3, 0, True),
            Move(4, 1, 5, SIZE, SIZE, None, 4, None, False),
            Move(5, 0, 6, 0, SIZE, None, 5, 0, True),
        ],
        waits=[4, 6],
        predicted={"step_ns": 700_000, "moved_bytes": 3 * SIZE, "exposed_ns": 0, "pool_bytes": 4096},
        made={"figures": figures_format.encode(OPTANE), "policy": "sentinel-opt"},
        frames=SIZE,
    )


def simulation() -> Simulation:
    """Each move takes 50 us from its `at` on, the one without a copy 10 us."""
    begin = np.linspace(0, 700_000, 8)
    spans = [(100_000.0, 200_000.0), (300_000.0, 350_000.0), (400_000.0, 410_000.0), (500_000.0, 550_000.0)]
    return Simulation({}, Timeline(begin, spans, {}, []))


def moved(
    number: int, outcome: str = "moved", origin: int = 1_000_000, **times: int | str | None
) -> dict[str, Any]:
    """The record of a move; times in us since the step's begin."""
    shifted = {f"{name}_ns": origin + value * 1000 for name, value in times.items() if isinstance(value, int)}
    return {"move": number, "outcome": outcome, "reason": times.get("reason"), **shifted}


def step(*moves: dict[str, Any], number: int = 1, begin: int | None = 1_000_000, **runtime: Any) -> Step:
    """The record of a step of 800 us with these moves."""
    timed = {"step_ns": 800_000} | ({} if begin is None else {"begin_ns": begin})
    statistics = {"planned": True, "step": timed, "moves": list(moves), "total": {"promoted": 0}, **runtime}
    return Step(step=number, warmup=False, guest_ns=900_000, model_ns=800_000, runtime=statistics)


ON_TIME = (
    moved(0, ready=110, due=310, begin=120, end=170, remap=215),
    moved(1, ready=310, due=420, begin=320, end=370, remap=380),
    moved(2, ready=420, due=520, begin=421, end=421, remap=430),
    moved(3, ready=520, due=640, begin=525, end=575, remap=585),
)
