# SPDX-License-Identifier: Apache-2.0
"""Runs as pandas frames, for notebooks and for export.

`SCHEMAS` defines the columns. A name with `<node>` or `<counter>` stands for one column
per NUMA node or kernel counter in the records. Column names end in their unit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from results import labels
from results.labels import Axes
from results.rows import build_rows
from results.runs import Cell, Repeat, Run
from results.stats import clock_of, measured
from results.tensors import Tensors, by_node, tensors


@dataclass(frozen=True)
class Field:
    """A column of a frame: its name, its pandas type, and its meaning."""

    name: str
    dtype: str
    meaning: str


_IDENTITY = (
    Field("run", "string", "folder of the run"),
    Field("cell", "string", "id of the cell"),
    Field("label", "string", "label of the cell: model, policy, budget and the settings that vary"),
    Field("model", "string", "model, batch size and the parameters that vary"),
    Field("policy", "string", "policy with its parameters"),
    Field("budget", "string", "budget as the suite gives it"),
    Field("settings", "string", "other settings that vary within the run"),
)
_STEPS = Field("steps", "int64", "measured steps")
_BUDGET = Field("budget_bytes", "Int64", "budget of node 0 in bytes")
_MOST_TENSORS = Field(
    "tensors_node<node>_bytes", "Int64", "tensor bytes on the node at the step with most of them on node 0"
)

CELLS = (
    *_IDENTITY,
    Field("repeats", "int64", "finished repeats"),
    Field("off_clock", "int64", "finished repeats without the run's clock, which no figure includes"),
    Field("failures", "int64", "failed attempts"),
    Field("clock", "string", "clock of the times, `model` or `guest`: the same for all cells of a run"),
    _STEPS,
    Field("median_ns", "Float64", "median step time"),
    Field("centre_ns", "Float64", "step time in reports: geometric mean of the repeats' medians"),
    Field("low_ns", "Float64", "lower end of the 95% interval of `centre_ns`"),
    Field("high_ns", "Float64", "upper end of that interval"),
    Field("reference", "string", "id of the cell to which the step time is relative"),
    Field("relative", "Float64", "step time divided by that of the reference"),
    Field("relative_low", "Float64", "lower end of the 95% interval of `relative`"),
    Field("relative_high", "Float64", "upper end of that interval"),
    _BUDGET,
    _MOST_TENSORS,
    Field("anon_node<node>_share", "Float64", "share of the process's anonymous memory on the node, 0 to 1"),
    Field("vmstat_<counter>_mean", "Float64", "mean growth of a counter of /proc/vmstat per measured step"),
)
REPEATS = (
    *_IDENTITY,
    Field("repeat", "int64", "number of the repeat, from 0"),
    Field("attempt", "Int64", "number of a failed attempt, from 1; missing for a finished repeat"),
    Field("status", "string", "`ok` or `failed`"),
    Field("verdict", "string", "kind of failure"),
    Field("message", "string", "message of the failure"),
    Field("real_s", "float64", "host time of the repeat"),
    _STEPS,
    Field("guest_median_ns", "Float64", "median time of a measured step by the guest clock"),
    Field("model_median_ns", "Float64", "median time of a measured step by the model clock"),
    _BUDGET,
    Field("peak_bytes", "Int64", "peak of the model's tensors, of which the budget is a share"),
    _MOST_TENSORS,
    Field("accelerator", "string", "`kvm`, `tcg`, or `hardware` for a real machine"),
    Field("throttle", "string", "how node 1 is slow: `none`, `timing-plugin`, `remote-node` or `hardware`"),
    Field("nodes_alike", "boolean", "whether both nodes are equally fast"),
    Field("git_commit", "string", "commit of this project, with `-dirty` if files were changed"),
    Field("command", "string", "command that reproduces the repeat"),
)
STEPS = (
    *_IDENTITY,
    Field("repeat", "int64", "number of the finished repeat, from 0"),
    Field("step", "int64", "number of the step, from 0"),
    Field("warmup", "bool", "whether the step belongs to the warm-up, which no figure includes"),
    Field("guest_ns", "int64", "duration by the guest clock"),
    Field("model_ns", "Int64", "duration by the model clock"),
    Field("kind", "string", "kind of the step, which identifies the operations that it runs"),
    Field("loss", "float64", "loss of the step; NaN too if a script does not show its loss"),
    Field("anon_node<node>_bytes", "Int64", "anonymous memory of the process on the node"),
    Field("file_node<node>_bytes", "Int64", "file-backed memory of the process on the node"),
    Field(_MOST_TENSORS.name, "Int64", "tensor bytes on the node at the end of the step"),
    Field("vmstat_<counter>_count", "Int64", "growth of a counter of /proc/vmstat"),
)

SCHEMAS = {"cells": CELLS, "repeats": REPEATS, "steps": STEPS}


class Frames(NamedTuple):
    """The frames of one or more runs, with one row per cell, repeat and step."""

    cells: pd.DataFrame
    repeats: pd.DataFrame
    steps: pd.DataFrame


def of_runs(runs: Sequence[Run]) -> Frames:
    """Return the frames of runs; labels and clock are those of each run."""
    labelled = [(run, Axes.of(cell.resolved for cell in run.cells)) for run in runs]
    return Frames(
        _frame("cells", (row for run, axes in labelled for row in _cells(run, axes))),
        _frame("repeats", (row for run, axes in labelled for row in _repeats(run, axes))),
        _frame("steps", (row for run, axes in labelled for row in _steps(run, axes))),
    )


def _cells(run: Run, axes: Axes) -> Iterable[dict[str, Any]]:
    clock = clock_of(repeat for cell in run.cells for repeat in cell.repeats)
    for cell, row in zip(run.cells, build_rows(run, axes, clock), strict=True):
        t = row.tensors
        yield {
            **_identity(run, axes, cell),
            **row.figures(clock),
            "budget_bytes": t.budget if t else None,
            **_most_tensors(t),
            **_by_node("anon", row.anon_shares.items(), "share"),
            **{f"vmstat_{counter}_mean": mean for counter, mean in row.vmstat.items()},
        }


def _repeats(run: Run, axes: Axes) -> Iterable[dict[str, Any]]:
    for cell in run.cells:
        for repeat in (*cell.repeats, *cell.failures):
            steps, provenance = measured(repeat), repeat.provenance
            fast_memory = provenance.fast_memory
            yield {
                **_identity(run, axes, cell),
                "repeat": repeat.number,
                "attempt": repeat.attempt,
                "status": repeat.result.status,
                "verdict": repeat.result.verdict,
                "message": repeat.result.message or None,
                "real_s": repeat.result.real_seconds,
                "steps": len(steps),
                "guest_median_ns": _median(repeat, "guest_ns"),
                "model_median_ns": _median(repeat, "model_ns"),
                "budget_bytes": fast_memory.budget_bytes if fast_memory else None,
                "peak_bytes": fast_memory.peak_bytes if fast_memory else None,
                **_most_tensors(tensors([repeat])),
                "accelerator": provenance.accelerator,
                "throttle": provenance.throttle.method,
                "nodes_alike": provenance.throttle.nodes_alike,
                "git_commit": provenance.git_commit,
                "command": provenance.command,
            }


def _steps(run: Run, axes: Axes) -> Iterable[dict[str, Any]]:
    for cell in run.cells:
        identity = _identity(run, axes, cell)
        for repeat in cell.repeats:
            for step in repeat.steps:
                yield {
                    **identity,
                    "repeat": repeat.number,
                    "step": step.step,
                    "warmup": step.warmup,
                    "guest_ns": step.guest_ns,
                    "model_ns": step.model_ns,
                    "kind": step.kind,
                    "loss": None if step.loss is None else float.fromhex(step.loss),
                    **_by_node("anon", step.residency.anon.items(), "bytes"),
                    **_by_node("file", step.residency.file.items(), "bytes"),
                    **_by_node("tensors", enumerate(by_node(step) or ()), "bytes"),
                    **{f"vmstat_{counter}_count": growth for counter, growth in step.vmstat.items()},
                }


def _identity(run: Run, axes: Axes, cell: Cell) -> dict[str, str | None]:
    resolved = cell.resolved
    return {
        "run": str(run.path),
        "cell": cell.id,
        "label": axes.label(resolved),
        "model": axes.model(resolved),
        "policy": labels.policy(resolved),
        "budget": labels.budget(resolved) or None,
        "settings": axes.settings(resolved) or None,
    }


def _most_tensors(most: Tensors | None) -> dict[str, Any]:
    return _by_node("tensors", enumerate(most.nodes if most else ()), "bytes")


def _by_node(kind: str, values: Iterable[tuple[Any, Any]], unit: str) -> dict[str, Any]:
    return {f"{kind}_node{node}_{unit}": value for node, value in values}


def _median(repeat: Repeat, clock: str) -> float | None:
    """Return the median of the measured steps, or None if there are none or one lacks the clock."""
    times = [getattr(step, clock) for step in measured(repeat)]
    return None if not times or None in times else float(pd.Series(times).median())


def _frame(name: str, rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """Return rows as a frame with the columns, order and types of its schema."""
    frame = pd.DataFrame(list(rows))
    columns: dict[str, str] = {}
    for field in SCHEMAS[name]:
        if "<" in field.name:
            pattern = re.sub("<[a-z]+>", "(.+)", field.name)
            names = sorted(name for name in map(str, frame) if re.fullmatch(pattern, name))
        else:
            names = [field.name]
        columns |= dict.fromkeys(names, field.dtype)
    return frame.reindex(columns=list(columns)).astype(columns)
