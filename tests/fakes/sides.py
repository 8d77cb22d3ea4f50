# SPDX-License-Identifier: Apache-2.0
"""Sides of comparisons in memory, with given step times."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

from results.measured import Measured, MeasuredCell, Measurement, Origin
from results.sides import Side, SideCell

CREATED = datetime.datetime(2026, 3, 1, 12, 30, tzinfo=datetime.UTC)
ORIGIN = Origin(
    accelerator="tcg",
    throttle="timing-plugin",
    nodes_alike=False,
    calibration="good",
    cpu="AMD EPYC",
    cpus=2,
    kernel="f00d",
    image="beef",
    runtime="cafe",
    qemu="7.2.22",
    commit="0123456789abcdef0123456789abcdef01234567",
)
SECOND = 1e9


def measured_cell(
    times: Sequence[float],
    name: str = "cnn",
    *,
    clock: str = "model",
    loss: float = 2.5,
    counters: Sequence[dict[str, float]] = (),
    **settings: Any,
) -> MeasuredCell:
    """Return a cell whose repeats take `times` in seconds."""
    model = {"name": name, "batch": 8}
    resolved = {"id": name, "model": model, "placement": "sentinel", "seed": 7, **settings}
    return MeasuredCell(
        id=name,
        resolved=resolved,
        repeats=[
            Measurement(
                repeat=n,
                steps=5,
                guest_ns=time * SECOND * 40,
                model_ns=time * SECOND if clock == "model" else None,
                losses={0: loss.hex()},
                counters=counters[n] if n < len(counters) else {},
                origin=0,
            )
            for n, time in enumerate(times)
        ],
    )


def measured(*cells: MeasuredCell, day: int = 1, **origin: Any) -> Measured:
    """Return a result with these cells, whose repeats share an origin with the given changes."""
    return Measured(
        suite="smoke",
        created=CREATED.replace(day=day),
        source="runs/smoke",
        origins=[ORIGIN.model_copy(update=origin)],
        cells=list(cells),
    )


def side(*cells: MeasuredCell, **origin: Any) -> Side:
    """Return a side with these cells."""
    return Side.of_results("runs/smoke", [measured(*cells, **origin)])


def side_cell(times: Sequence[float], *, origin: dict[str, Any] | None = None, **settings: Any) -> SideCell:
    """Return a single cell of a side."""
    return side(measured_cell(times, **settings), **(origin or {})).cells[0]
