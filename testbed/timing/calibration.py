# SPDX-License-Identifier: Apache-2.0
"""Calibration: the memory that a guest measured, compared with its preset. Pure functions and records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from testbed.common.progress import note, warn
from testbed.timing import expected
from testbed.timing.preset import Preset

RELIABLE = 0.01  # largest share of the time for which the host of a paced guest may be behind
BOUNDS = {"latency": 0.03, "bandwidth": 0.05, "ratio": 0.02, "other": 0.05}
_RATIO = ", node 1 / node 0"
# The guest's timer interrupts come by real time: 250 a second, each of 7 model ns. This is the share of model
# time that they add for each real ns that one model ns takes.
INTERRUPTS = 250 * 7e-9


@dataclass(frozen=True)
class Figure:
    """A figure of the preset and its measurement, both in `unit` (ns or GB/s).

    `bound` is the largest accepted relative error, `behind` the share of the time for which the host of a
    paced guest was too slow, `disturbed` the share that timer interrupts add on this host.
    """

    name: str
    unit: str
    expected: float
    measured: float
    bound: float
    behind: float = 0.0
    disturbed: float = 0.0

    @property
    def error(self) -> float:
        """Relative error."""
        return self.measured / self.expected - 1

    @property
    def good(self) -> bool:
        """Whether the error is within the bound and the host was fast enough."""
        return abs(self.error) <= self.bound and self.behind <= RELIABLE

    @property
    def reliable(self) -> bool:
        """Whether the host was fast enough to attribute an error to the model."""
        return self.behind + self.disturbed <= RELIABLE


@dataclass(frozen=True)
class Calibration:
    """The measurements of a machine. `rows` are the probe's, one for each measurement."""

    key: str
    mode: str  # "synchronised" or "paced"
    dilation: float  # real ns for each model ns if paced (more where the host was behind), else 0
    created: str
    figures: tuple[Figure, ...]
    rows: tuple[dict[str, Any], ...]

    @property
    def good(self) -> bool:
        """Whether every figure is within its bound."""
        return all(figure.good for figure in self.figures)

    @property
    def nodes_alike(self) -> bool:
        """Whether both nodes measured the same, within the bound of bandwidths."""
        return all(
            abs(self.measured(1)[quantity] / fast - 1) <= BOUNDS["bandwidth"]
            for quantity, fast in self.measured(0).items()
        )

    def measured(self, node: int) -> dict[str, float]:
        """Return {"read_latency": ns, "read": GB/s, "write": GB/s} of a node."""
        rows = [r for r in self.rows if r["node"] == node]
        largest = {r["what"]: r for r in sorted(rows, key=lambda r: r["size"])}
        return {
            "read_latency": _ns(largest["read_latency"]),
            "read": largest["read"]["size"] / _ns(largest["read"]),
            "write": largest["write"]["size"] / _ns(largest["write"]),
        }

    @property
    def worst(self) -> Figure:
        """The figure with the largest share of its bound."""
        return max(self.figures, key=lambda figure: abs(figure.error) / figure.bound)

    def to_record(self) -> dict[str, Any]:
        """Return the part that results record."""
        return {
            "key": self.key,
            "mode": self.mode,
            "made": self.created,
            "good": self.good,
            "reliable": all(figure.reliable for figure in self.figures) if self.dilation else True,
            "measured": [self.measured(node) for node in (0, 1)],
            "figures": {
                f.name: {"unit": f.unit, "expected": f.expected, "measured": f.measured} for f in self.figures
            },
        }

    def latency_by_size(self, node: int) -> list[tuple[int, float]]:
        """Return [(working set in bytes, ns of a dependent read)]; empty if paced."""
        rows = [r for r in self.rows if r["what"] == "read_latency" and r["node"] == node]
        return sorted((r["size"], r["model_ns"]) for r in rows)

    def latency_by_load(self, node: int) -> list[tuple[float, float]]:
        """Return [(GB/s that the other vCPU reads, ns of a dependent read)]; empty if paced."""
        rows = [r for r in self.rows if r["what"] == "loaded" and r["node"] == node]
        return sorted((r["helper"], r["model_ns"]) for r in rows)


def evaluate(preset: Preset | None, rows: Sequence[dict[str, Any]], *, key: str, created: str) -> Calibration:
    """Compare the probe's rows with the preset, if there is one."""
    dilation = float(rows[0]["dilation"])
    # The probe repeats a measurement if the host was behind: the row with the smallest delay counts.
    best: dict[tuple[object, ...], dict[str, Any]] = {}
    for row in rows:
        chosen = best.setdefault(_identity(row), row)
        if row["behind"] <= chosen["behind"]:
            best[_identity(row)] = row
    # Memory mode has no closed form: it depends on which pages of node 1 are in node 0.
    figures = _figures(preset, list(best.values())) if preset and not preset.memory_mode else []
    return Calibration(
        key, "paced" if dilation else "synchronised", dilation, created, tuple(figures), tuple(rows)
    )


def _identity(row: dict[str, Any]) -> tuple[object, ...]:
    return row["what"], row["node"], row.get("to"), row["size"], row.get("pause")


def _ns(row: dict[str, Any]) -> float:
    """Return the measured time in ns: by the guest clock if paced, else by the model clock."""
    return float(row["guest_ns"] / row["dilation"] if row["dilation"] else row["model_ns"])


def _figures(preset: Preset, rows: Sequence[dict[str, Any]]) -> list[Figure]:
    largest = max((r["size"] for r in rows if r["what"] == "read_latency"), default=0)
    figures: list[Figure] = []

    def add(
        row: dict[str, Any], name: str, unit: str, preset_value: float, measured: float, bound: str
    ) -> None:
        disturbed = INTERRUPTS * float(row["guest_ns"] / row["model_ns"])
        figures.append(
            Figure(name, unit, preset_value, measured, BOUNDS[bound], float(row["behind"]), disturbed)
        )

    for row in rows:
        quantity, node = row["what"], row["node"]
        ns = _ns(row)
        if quantity == "read_latency" and row["size"] == largest:
            add(row, f"node {node} read latency", "ns", expected.read_latency(preset, node), ns, "latency")
        elif quantity == "chase":
            add(row, f"node {node} pointer chase", "ns", expected.read_latency(preset, node), ns, "latency")
        elif quantity == "write_latency":
            add(row, f"node {node} write latency", "ns", expected.write_latency(preset, node), ns, "latency")
        elif quantity == "read":
            rate = row["size"] / ns
            add(row, f"node {node} read", "GB/s", expected.read(preset, node), rate, "bandwidth")
        elif quantity == "write":
            rate = row["size"] / ns
            add(row, f"node {node} write", "GB/s", expected.write(preset, node), rate, "bandwidth")
        elif quantity == "copy":
            rate = row["size"] / ns
            name = f"copy node {node} -> {row['to']}"
            add(row, name, "GB/s", expected.copy(preset, node, row["to"]), rate, "bandwidth")
        elif quantity == "shared":
            compute, helper = expected.shared(preset, node)
            name = f"node {node} read by two vCPUs"
            add(row, f"{name}: compute", "GB/s", compute, row["size"] / ns, "bandwidth")
            add(row, f"{name}: helper", "GB/s", helper, row["helper"], "bandwidth")
        elif quantity == "migrate":
            name = f"migrating a page {node} -> {row['to']}"
            add(row, name, "ns", expected.migrate(preset, node, row["to"]), ns, "other")
        elif quantity == "migrating":
            compute, moved = expected.migrating(preset, node, row["to"])
            name = f"node {node} read while pages leave it"
            add(row, f"{name}: read", "GB/s", compute, row["size"] / ns, "bandwidth")
            add(row, f"{name}: migrated", "GB/s", moved, row["helper"], "other")
    return figures + _ratios(figures)


def _ratios(figures: Sequence[Figure]) -> list[Figure]:
    """Return the ratios of node 1 to node 0, of latencies and bandwidths."""
    by_name = {figure.name: figure for figure in figures}
    ratios = []
    for quantity in ("read latency", "write latency", "read", "write"):
        fast, slow = by_name.get(f"node 0 {quantity}"), by_name.get(f"node 1 {quantity}")
        if fast is None or slow is None:
            continue
        ratios.append(
            Figure(
                quantity + _RATIO,
                "",
                slow.expected / fast.expected,
                slow.measured / fast.measured,
                BOUNDS["ratio"],
                fast.behind + slow.behind,
                max(fast.disturbed, slow.disturbed),
            )
        )
    return ratios


def report(calibration: Calibration) -> None:
    """Print a summary, and a warning for each figure outside its bound."""
    bad = [figure for figure in calibration.figures if not figure.good]
    if not bad and calibration.figures:
        worst = calibration.worst
        note(
            f"calibrated: {len(calibration.figures)} figures, largest error {worst.error:+.1%} ({worst.name})"
        )
    for figure in bad:
        late = ""
        if figure.behind > RELIABLE:
            late = f"; the host was behind for {figure.behind:.1%} of the time"
        elif not figure.reliable:
            late = f"; on this slow host timer interrupts add {figure.disturbed:.1%}"
        warn(
            f"{figure.name}: {figure.measured:.4g} {figure.unit} instead of {figure.expected:.4g} "
            f"({figure.error:+.1%}{late})"
        )
