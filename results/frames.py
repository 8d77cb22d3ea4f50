# SPDX-License-Identifier: Apache-2.0
"""A run as pandas tables, for whoever wants to look further than the reports do."""

from __future__ import annotations

from typing import Any

import pandas as pd

from results import labels
from results.labels import Axes
from results.runs import Cell, Run
from results.stats import clock_of, columns_of, has_clock, measured, per_step, samples, shares, summarise
from results.tensors import by_node, tensors

_NAMES = ("cell", "model", "placement", "budget", "also")
_STEP_TYPES = {
    "repeat": "int64",
    "step": "int64",
    "guest_ns": "int64",
    "model_ns": "Int64",
    "loss": "float64",
}


def step_frame(run: Run) -> pd.DataFrame:
    """One row per measured step.

    Columns: cell, model, placement, budget (as the suite says it), also (what else varies), repeat, step,
    guest_ns, model_ns (missing where there is no model clock), loss, and as far as recorded anon_<node>,
    file_<node> and tensors_<node> (bytes), and vmstat_<counter> (growth).
    """
    rows: list[dict[str, Any]] = []
    axes = Axes.of(cell.resolved for cell in run.cells)
    for cell in run.cells:
        for repeat in cell.repeats:
            for step in measured(repeat):
                row = _names(axes, cell) | {
                    "repeat": repeat.number,
                    "step": step.step,
                    "guest_ns": step.guest_ns,
                    "model_ns": step.model_ns,
                    "loss": float.fromhex(step.loss),
                }
                row |= {f"anon_{node}": size for node, size in step.residency.anon.items()}
                row |= {f"file_{node}": size for node, size in step.residency.file.items()}
                row |= {f"tensors_{node}": size for node, size in enumerate(by_node(step) or ())}
                row |= {f"vmstat_{name}": delta for name, delta in step.vmstat.items()}
                rows.append(row)
    columns = None if rows else [*_NAMES, *_STEP_TYPES]
    return pd.DataFrame(rows, columns=columns).astype(_STEP_TYPES)


def cell_frame(run: Run) -> pd.DataFrame:
    """One row per cell, also of those without a finished repeat (their numbers are missing).

    Columns: cell, model, placement, budget, also, repeats, off_clock, failures, clock (the same in all rows),
    steps, median_ns, centre_ns, low_ns, high_ns (see `results.stats`), anon_share_<node> (0 to 1),
    tensors_<node> and budget_bytes (see `results.tensors`), and vmstat_<counter> (mean growth per step).
    """
    rows: list[dict[str, Any]] = []
    axes = Axes.of(cell.resolved for cell in run.cells)
    clock = clock_of(repeat for cell in run.cells for repeat in cell.repeats)
    for cell in run.cells:
        summary = summarise(samples(cell.repeats, clock))
        row = _names(axes, cell) | {
            "repeats": len(cell.repeats),
            "off_clock": sum(not has_clock(repeat, clock) for repeat in cell.repeats),
            "failures": len(cell.failures),
            "clock": clock if summary else None,
            **columns_of(summary),
        }
        row |= {f"anon_share_{node}": share for node, share in shares(cell.repeats).items()}
        held = tensors(cell.repeats)
        if held is not None:
            row |= {f"tensors_{node}": size for node, size in enumerate(held.nodes)}
            row["budget_bytes"] = held.budget
        row |= {f"vmstat_{name}": mean for name, mean in per_step(cell.repeats).items()}
        rows.append(row)
    frame = pd.DataFrame(rows)
    times = [name for name in ("median_ns", "centre_ns", "low_ns", "high_ns") if name in frame]
    return frame.astype(dict.fromkeys(times, "float64"))


def _names(axes: Axes, cell: Cell) -> dict[str, Any]:
    values = (
        cell.id,
        axes.model(cell.resolved),
        labels.placement(cell.resolved),
        labels.budget(cell.resolved),
        axes.also(cell.resolved),
    )
    return dict(zip(_NAMES, values, strict=True))
