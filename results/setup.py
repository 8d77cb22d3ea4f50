# SPDX-License-Identifier: Apache-2.0
"""What a run was measured with, in one sentence, and its calibrations."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from results import labels
from results.runs import Cell, Repeat
from results.stats import Clock
from results.units import printable

_LARGEST = 1e18  # figure of a memory, in any unit


@dataclass(frozen=True)
class Figure:
    """A calibrated figure: what the preset says, what the guest measured, and their unit."""

    name: str
    expected: float
    measured: float
    unit: str

    @property
    def deviation(self) -> float:
        """The deviation of the measured figure as a share of the expected one."""
        return self.measured / self.expected - 1


@dataclass(frozen=True)
class Calibration:
    """A calibration that repeats of the run rely on. `passed` is its own verdict."""

    made: str
    mode: str
    passed: bool
    figures: list[Figure]

    @property
    def largest(self) -> float:
        """The largest deviation of a figure, as a share."""
        return max((abs(figure.deviation) for figure in self.figures), default=0.0)


def calibrations(repeats: Iterable[Repeat]) -> list[Calibration]:
    """Return the different calibrations in the records of repeats."""
    found: dict[str, Calibration] = {}
    for repeat in repeats:
        record = (repeat.provenance.throttle.model_extra or {}).get("calibration")
        if isinstance(record, dict) and labels.canonical(record) not in found:
            found[labels.canonical(record)] = _calibration(record)
    return [calibration for calibration in found.values() if calibration.figures]


def sentence(cells: Iterable[Cell], preset: Any, clock: Clock) -> str:
    """Return the kernel, accelerator, memory and calibration of all finished repeats in one sentence."""
    cells = [cell for cell in cells if cell.repeats]
    repeats = [repeat for cell in cells for repeat in cell.repeats]
    if not repeats:
        return "No repeat has finished yet."
    kernels = _distinct(f"Linux {repeat.provenance.kernel.get('version', '(unknown)')}" for repeat in repeats)
    accelerators = _distinct(_accelerator(repeat) for repeat in repeats)
    methods = _distinct(repeat.provenance.throttle.method for repeat in repeats)
    if methods == "none":
        memory = "both nodes equally fast"
    else:
        name = f"preset {printable(preset)}" if isinstance(preset, str) else f"memory by {methods}"
        nodes = _distinct(_nodes(cell.resolved.get("preset")) for cell in cells)
        if methods == "hardware":
            name, nodes = "its own slow memory", ""
        memory = f"{name} ({nodes})" if nodes else name
    replayed = any(cell.resolved.get("mode") == "replay" for cell in cells)
    how = "; replayed from recorded accesses, not emulated" if replayed else ""
    return f"{kernels} on {accelerators}, {memory}, {_calibrated(repeats)}; times by the {clock} clock{how}."


def _accelerator(repeat: Repeat) -> str:
    name = repeat.provenance.accelerator
    return "a real machine" if name == "hardware" else name.upper()


def _nodes(preset: Any) -> str:
    """Return the figures of the fast and the slow tier, such as `read 100 ns, 105 GB/s to 305 ns, ...`."""
    nodes = preset.get("nodes") if isinstance(preset, dict) else None
    if not isinstance(nodes, list) or not all(isinstance(node, dict) for node in nodes):
        return ""
    keys = (("read_latency", "reads"), ("read_bandwidth", "read"), ("write_bandwidth", "written"))
    tiers = [
        ", ".join(f"{printable(str(node[key]))} {verb}" for key, verb in keys if key in node)
        for node in nodes
    ]
    return "; ".join(f"node {n}: {tier}" for n, tier in enumerate(tiers) if tier)


def _calibrated(repeats: list[Repeat]) -> str:
    found = calibrations(repeats)
    if not found:
        return "not calibrated"
    largest = max(calibration.largest for calibration in found)
    verdict = "passed" if all(calibration.passed for calibration in found) else "failed"
    return f"calibration {verdict} (largest deviation {largest:.1%})"


def _calibration(record: dict[str, Any]) -> Calibration:
    figures = record.get("figures")
    parsed = [_figure(name, value) for name, value in figures.items()] if isinstance(figures, dict) else []
    return Calibration(
        made=printable(str(record.get("made", ""))),
        mode=printable(str(record.get("mode", ""))),
        passed=record.get("good") is True,
        figures=[figure for figure in parsed if figure is not None],
    )


def _figure(name: str, value: Any) -> Figure | None:
    pair = [value.get(key) if isinstance(value, dict) else None for key in ("expected", "measured")]
    numbers = [float(n) for n in pair if isinstance(n, int | float) and abs(n) < _LARGEST]
    if len(numbers) < 2 or not numbers[0]:
        return None
    return Figure(printable(name), numbers[0], numbers[1], printable(str(value.get("unit", ""))))


def _distinct(values: Iterable[str]) -> str:
    return " and ".join(dict.fromkeys(filter(None, values)))
