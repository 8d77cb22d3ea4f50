# SPDX-License-Identifier: Apache-2.0
"""Calibration: a machine's memory measured in the guest, beside what its preset promises.

The probe (`testbed/timing/probe.c`) is a static program, so any guest runs it. What it measured is kept in
the cache under all that may change it: QEMU, the plugin, the preset, the machine, the kernel, the host.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed import vm
from testbed.common import files, settings
from testbed.common.cache import Cache
from testbed.common.errors import BuildError, UsageError
from testbed.common.progress import note, step, warn
from testbed.common.run import stream, version_of, which
from testbed.common.sizes import shown_size
from testbed.host import accel
from testbed.machine import Machine
from testbed.timing import expected, plugin
from testbed.timing.preset import Preset
from testbed.vm import Boot, Vm

KIND = "calibration"
PROBE_KIND = "probe"
FORMAT = 1
RELIABLE = 0.01  # share of the time for which the host may be behind when paced
BOUNDS = {"latency": 0.03, "bandwidth": 0.05, "ratio": 0.02, "other": 0.05}
_SOURCE = Path(__file__).parent / "probe.c"
_MARKERS = Path(__file__).parent / "client"
_FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-static")
_STREAM = 48 << 20  # bytes: far more than a cache, and done in a second under emulation
_HOST_CACHE = 64 << 20  # bytes: no less than the last-level cache of a KVM host; a machine has its share
_RATIO = ", node 1 / node 0"
_WITHIN = {"full": 3600.0, "paced": 7200.0}  # seconds, after which it hangs
# The guest's timer interrupts come by real time, 250 a second of 7 model ns each. This is the share of model
# time that they add, for each real ns that a model ns takes.
INTERRUPTS = 250 * 7e-9


@dataclass(frozen=True)
class Figure:
    """One figure: what the preset says and what the guest measured, both in `unit` (ns or GB/s).

    `bound` is the largest relative error that is accepted, `behind` the share of the time for which a paced
    host was too slow, `disturbed` the share that the guest's timer interrupts add on this host.
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
        """Relative to what was expected."""
        return self.measured / self.expected - 1

    @property
    def good(self) -> bool:
        return abs(self.error) <= self.bound and self.behind <= RELIABLE

    @property
    def reliable(self) -> bool:
        """Whether the host was fast enough for an error to be the model's."""
        return self.behind + self.disturbed <= RELIABLE


@dataclass(frozen=True)
class Calibration:
    """What was measured of a machine. `rows` are the probe's own, one mapping a measurement."""

    key: str
    mode: str  # "synchronised" or "paced"
    dilation: float  # real ns for a model ns when paced (first; more if the host was behind), else 0
    made: str
    figures: tuple[Figure, ...]
    rows: tuple[dict[str, Any], ...]

    @property
    def good(self) -> bool:
        """Whether every figure is what it must be."""
        return all(figure.good for figure in self.figures)

    @property
    def nodes_alike(self) -> bool:
        """Whether both nodes measured the same, within what is accepted as an error."""
        return all(
            abs(self.measured(1)[what] / fast - 1) <= BOUNDS["bandwidth"]
            for what, fast in self.measured(0).items()
        )

    def measured(self, node: int) -> dict[str, float]:
        """{"read_latency": ns, "read": GB/s, "write": GB/s} of a node, whatever was expected."""
        rows = [r for r in self.rows if r["node"] == node]
        of = {r["what"]: r for r in sorted(rows, key=lambda r: r["size"])}  # the largest is the last
        return {
            "read_latency": _ns(of["read_latency"]),
            "read": of["read"]["size"] / _ns(of["read"]),
            "write": of["write"]["size"] / _ns(of["write"]),
        }

    @property
    def worst(self) -> Figure:
        """The figure with the largest share of its bound."""
        return max(self.figures, key=lambda figure: abs(figure.error) / figure.bound)

    def cited(self) -> dict[str, Any]:
        """For a result: what it stands on."""
        return {
            "key": self.key,
            "mode": self.mode,
            "made": self.made,
            "good": self.good,
            "measured": [self.measured(node) for node in (0, 1)],
            "figures": {
                f.name: {"unit": f.unit, "expected": f.expected, "measured": f.measured} for f in self.figures
            },
        }

    def latency_by_size(self, node: int) -> list[tuple[int, float]]:
        """[(bytes gone through, ns of a dependent read)]; empty for a paced calibration."""
        rows = [r for r in self.rows if r["what"] == "read_latency" and r["node"] == node]
        return sorted((r["size"], r["model_ns"]) for r in rows)

    def latency_by_load(self, node: int) -> list[tuple[float, float]]:
        """[(GB/s that the other vCPU reads, ns of a dependent read)]; empty for a paced calibration."""
        rows = [r for r in self.rows if r["what"] == "loaded" and r["node"] == node]
        return sorted((r["helper"], r["model_ns"]) for r in rows)


def of(
    boot: Boot,
    *,
    paced: bool = False,
    again: bool = False,
    cache: Cache | None = None,
    uri: str | None = None,
) -> Calibration:
    """The calibration of that machine, measured in a guest if it is not in the cache (or `again`).

    `boot` has a preset. Raises `UsageError` if the machine is too small for the probe.
    """
    cache = cache or Cache()
    preset = boot.preset
    if preset is None and boot.remote is None:
        raise UsageError("a machine without a preset has nothing to calibrate", hint="--preset optane-6dimm")
    if paced and preset is None:
        raise UsageError("only a machine with a preset can be paced", hint="--preset optane-6dimm")
    cached = preset.cache.size if preset else _HOST_CACHE
    mode = "paced" if paced else "full"
    size = _stream_size(cached, boot.machine)
    wanted = key(boot, mode)
    entry = cache.get(KIND, wanted)
    if entry is not None and again:
        cache.remove(entry)
        entry = None

    def make(folder: Path) -> dict[str, Any]:
        with vm.running(f"calibrate-{wanted[:8]}", boot, uri=uri) as machine:
            machine.wait_ready()
            rows = measure(machine, mode, cached, size, cache=cache)
        files.write_json(folder / "rows.json", rows)
        return {"mode": mode, "format": FORMAT}

    if entry is None:
        with step(f"Calibrating ({'paced' if paced else 'synchronised'})"):
            entry = cache.build(KIND, wanted, make)
    rows = files.read_json(entry.path / "rows.json")
    return evaluate(preset, rows, key=wanted, made=str(entry.manifest["created"]))


def key(boot: Boot, mode: str) -> str:
    """Everything that decides what is measured."""
    qemu = which(settings.QEMU.get(), package="qemu-system-x86")
    return files.sha256_json(
        {
            "format": FORMAT,
            "mode": mode,
            "preset": boot.preset.model_dump(mode="json") if boot.preset else None,
            "machine": boot.machine.model_dump(mode="json"),
            "accelerator": boot.accelerator,
            "kernel": files.sha256_file(boot.kernel),
            "qemu": accel.qemu_version(qemu),
            "plugin": files.sha256_file(plugin.build(qemu)),
            "probe": files.sha256_file(_SOURCE),
            "host": [platform.node(), platform.processor() or platform.machine(), settings.jobs()],
        }
    )


def build_probe(*, cache: Cache) -> Path:
    """The probe, compiled if it is not in the cache."""
    gcc = which("gcc", package="gcc")
    header = _MARKERS / "sentinel_markers.h"
    wanted = files.sha256_json(
        {
            "sources": [files.sha256_file(path) for path in (_SOURCE, header)],
            "flags": _FLAGS,
            "compiler": version_of(gcc),
        }
    )

    def make(folder: Path) -> dict[str, Any]:
        argv = [gcc, *_FLAGS, f"-I{_MARKERS}", "-o", str(folder / "probe"), str(_SOURCE), "-lpthread"]
        stream(argv, log=folder / "build.log", error=BuildError, what="the probe of memory")
        return {}

    entry = cache.get(PROBE_KIND, wanted) or cache.build(PROBE_KIND, wanted, make)
    return entry.path / "probe"


def measure(machine: Vm, mode: str, cached: int, size: int, *, cache: Cache) -> list[dict[str, Any]]:
    """Run the probe in a guest that is up; returns its rows.

    `mode` is "full" or "paced", `cached` the size of the last-level cache, `size` that of a stream, in bytes.
    """
    probe = build_probe(cache=cache)
    rows: list[dict[str, Any]] = []
    with machine.shell() as shell:
        shell.put(probe, "/run/probe")
        shell.run(
            f"/run/probe {mode} {cached} {size}",
            timeout=_WITHIN[mode] * settings.TIMEOUT_SCALE.get_float(),
            on_line=lambda line: rows.append(json.loads(line)),
        )
    return rows


def _stream_size(cached: int, machine: Machine) -> int:
    """Bytes of a stream: far more than the cache, four of them in half of the machine's memory."""
    size = max(_STREAM, 8 * cached)
    smallest = min(node.memory for node in machine.nodes)
    if 4 * size > smallest:
        raise UsageError(
            f"calibration needs nodes of {shown_size(4 * size)}, for streams far larger than the cache; "
            f"the smaller one has {shown_size(smallest)}"
        )
    return size


def evaluate(preset: Preset | None, rows: Sequence[dict[str, Any]], *, key: str, made: str) -> Calibration:
    """Compare the probe's rows with what the preset says, if there is one. Pure."""
    dilation = float(rows[0]["dilation"])
    # What the host was too slow for was measured again: the row counts for which it was late the least
    best: dict[tuple[object, ...], dict[str, Any]] = {}
    for row in rows:
        chosen = best.setdefault(_identity(row), row)
        if row["behind"] <= chosen["behind"]:
            best[_identity(row)] = row
    # In memory mode what node 0 holds of node 1 decides, and there is no closed form
    figures = _figures(preset, list(best.values())) if preset and not preset.memory_mode else []
    return Calibration(
        key, "paced" if dilation else "synchronised", dilation, made, tuple(figures), tuple(rows)
    )


def _identity(row: dict[str, Any]) -> tuple[object, ...]:
    return row["what"], row["node"], row.get("to"), row["size"], row.get("pause")


def _ns(row: dict[str, Any]) -> float:
    """What was measured, by the clock that counts: the guest's ordinary one if it was paced."""
    return float(row["guest_ns"] / row["dilation"] if row["dilation"] else row["model_ns"])


def _figures(preset: Preset, rows: Sequence[dict[str, Any]]) -> list[Figure]:
    largest = max((r["size"] for r in rows if r["what"] == "read_latency"), default=0)
    found: list[Figure] = []

    def add(row: dict[str, Any], name: str, unit: str, wanted: float, got: float, bound: str) -> None:
        disturbed = INTERRUPTS * float(row["guest_ns"] / row["model_ns"])
        found.append(Figure(name, unit, wanted, got, BOUNDS[bound], float(row["behind"]), disturbed))

    for row in rows:
        what, node = row["what"], row["node"]
        ns = _ns(row)
        if what == "read_latency" and row["size"] == largest:
            add(row, f"node {node} read latency", "ns", expected.read_latency(preset, node), ns, "latency")
        elif what == "write_latency":
            add(row, f"node {node} write latency", "ns", expected.write_latency(preset, node), ns, "latency")
        elif what == "read":
            rate = row["size"] / ns
            add(row, f"node {node} read", "GB/s", expected.read(preset, node), rate, "bandwidth")
        elif what == "write":
            rate = row["size"] / ns
            add(row, f"node {node} write", "GB/s", expected.write(preset, node), rate, "bandwidth")
        elif what == "copy":
            rate = row["size"] / ns
            name = f"copy node {node} -> {row['to']}"
            add(row, name, "GB/s", expected.copy(preset, node, row["to"]), rate, "bandwidth")
        elif what == "shared":
            compute, helper = expected.shared(preset, node)
            name = f"node {node} read by two vCPUs"
            add(row, f"{name}: the first", "GB/s", compute, row["size"] / ns, "bandwidth")
            add(row, f"{name}: the second", "GB/s", helper, row["helper"], "bandwidth")
        elif what == "migrate":
            name = f"migrating a page {node} -> {row['to']}"
            add(row, name, "ns", expected.migrate(preset, node, row["to"]), ns, "other")
        elif what == "migrating":
            compute, moved = expected.migrating(preset, node, row["to"])
            name = f"node {node} read while pages leave it"
            add(row, f"{name}: read", "GB/s", compute, row["size"] / ns, "bandwidth")
            add(row, f"{name}: migrated", "GB/s", moved, row["helper"], "other")
    return found + _ratios(found)


def _ratios(figures: Sequence[Figure]) -> list[Figure]:
    """Slow to fast, of latencies and bandwidths."""
    by_name = {figure.name: figure for figure in figures}
    ratios = []
    for what in ("read latency", "write latency", "read", "write"):
        fast, slow = by_name.get(f"node 0 {what}"), by_name.get(f"node 1 {what}")
        if fast is None or slow is None:
            continue
        ratios.append(
            Figure(
                what + _RATIO,
                "",
                slow.expected / fast.expected,
                slow.measured / fast.measured,
                BOUNDS["ratio"],
                fast.behind + slow.behind,
                max(fast.disturbed, slow.disturbed),
            )
        )
    return ratios


def told(calibration: Calibration) -> None:
    """Say how it went: a line, or a warning for each figure that is not what it must be."""
    bad = [figure for figure in calibration.figures if not figure.good]
    if not bad and calibration.figures:
        worst = calibration.worst
        note(f"calibrated: {len(calibration.figures)} figures, the worst {worst.error:+.1%} ({worst.name})")
    for figure in bad:
        late = ""
        if figure.behind > RELIABLE:
            late = f"; the host was behind for {figure.behind:.1%} of the time"
        elif not figure.reliable:
            late = f"; this host is so slow that timer interrupts add {figure.disturbed:.1%}"
        warn(
            f"{figure.name}: {figure.measured:.4g} {figure.unit} instead of {figure.expected:.4g} "
            f"({figure.error:+.1%}{late})"
        )
