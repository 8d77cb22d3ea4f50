# SPDX-License-Identifier: Apache-2.0
"""Plots of a calibration: latency by working set and by load."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from results.plots.colours import NODES
from testbed.common.disk import explained_disk_errors
from testbed.common.errors import UsageError
from testbed.common.progress import note
from testbed.timing.calibration import Calibration

_MARKS = ("o", "s")  # by node, so that nothing depends on colour alone


def write(calibration: Calibration, folder: Path) -> list[Path]:
    """Write latency.svg and load.svg, creating the folder if needed, and return their paths.

    Raises `UsageError` for a paced calibration, which has no curves.
    """
    if calibration.dilation:
        raise UsageError("a paced calibration has no curves", hint="omit --paced")
    with explained_disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        paths = [_latency(calibration, folder / "latency.svg"), _load(calibration, folder / "load.svg")]
    for path in paths:
        note(str(path))
    return paths


def _latency(calibration: Calibration, path: Path) -> Path:
    def draw(axes: Any) -> None:
        for node in range(2):
            sizes, times = zip(*calibration.latency_by_size(node), strict=True)
            axes.plot(
                [s / 2**20 for s in sizes],
                times,
                color=NODES[node].light,
                marker=_MARKS[node],
                label=f"node {node}",
            )
        axes.set_xscale("log", base=2)
        axes.set_xlabel("Working set (MiB)")

    return _figure(path, "Latency of dependent reads by working set", draw)


def _load(calibration: Calibration, path: Path) -> Path:
    def draw(axes: Any) -> None:
        for node in range(2):
            curve = calibration.latency_by_load(node)
            if curve:
                loads, times = zip(*curve, strict=True)
                axes.plot(loads, times, color=NODES[node].light, marker=_MARKS[node], label=f"node {node}")
        axes.set_xlabel("Load from the other vCPU (GB/s)")

    return _figure(path, "Latency of dependent reads by load", draw)


def _figure(path: Path, title: str, draw: Callable[[Any], None]) -> Path:
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    draw(axes)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("Latency (ns)")
    axes.set_title(title, loc="left")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, metadata={"Date": None})
    return path
