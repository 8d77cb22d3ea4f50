# SPDX-License-Identifier: Apache-2.0
"""Measure a machine's memory in its guest, with a static probe (`testbed/timing/probe/`).

Results are cached by everything that may change them: QEMU, plugin, preset, machine, kernel, host.
"""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

from testbed import vm
from testbed.common import files, settings
from testbed.common.cache import Cache
from testbed.common.errors import BuildError, UsageError
from testbed.common.progress import step
from testbed.common.run import stream, version_of, which
from testbed.common.sizes import shown_size
from testbed.host import accel
from testbed.machine import Machine
from testbed.timing import plugin
from testbed.timing.calibration import Calibration, evaluate
from testbed.vm import Boot, Vm

KIND = "calibration"
PROBE_KIND = "probe"
FORMAT = 1
_SOURCES = sorted((Path(__file__).parent / "probe").glob("*.[ch]"))
_MARKERS = Path(__file__).parent / "client"
_FLAGS = ("-std=gnu11", "-O2", "-flto", "-Wall", "-Wextra", "-static")
_STREAM = 48 << 20  # bytes: far more than a cache, and read in a second under emulation
_HOST_CACHE = 64 << 20  # bytes: at least the share that a machine has of a KVM host's last-level cache
_WITHIN = {"full": 3600.0, "paced": 7200.0}  # seconds until the probe counts as hanging


def calibrate(
    boot: Boot,
    *,
    paced: bool = False,
    again: bool = False,
    cache: Cache | None = None,
    uri: str | None = None,
) -> Calibration:
    """Return the machine's calibration; measure it in a guest if it is not cached, or if `again`.

    Raises `UsageError` if the machine has neither preset nor remote memory, or is too small for the probe.
    """
    cache = cache or Cache()
    preset = boot.preset
    if preset is None and boot.remote is None:
        raise UsageError("calibration needs a machine with a preset", hint="--preset optane-6dimm")
    if paced and preset is None:
        raise UsageError("pacing needs a machine with a preset", hint="--preset optane-6dimm")
    cache_bytes = preset.cache.size if preset else _HOST_CACHE
    mode = "paced" if paced else "full"
    stream_bytes = _stream_bytes(cache_bytes, boot.machine)
    cache_key = key(boot, mode)
    entry = cache.get(KIND, cache_key)
    if entry is not None and again:
        cache.remove(entry)
        entry = None

    def build(folder: Path) -> dict[str, Any]:
        with vm.running(f"calibrate-{cache_key[:8]}", boot, uri=uri) as machine:
            machine.wait_ready()
            rows = measure(machine, mode, cache_bytes, stream_bytes, cache=cache)
        files.write_json(folder / "rows.json", rows)
        return {"mode": mode, "format": FORMAT}

    if entry is None:
        with step(f"Calibrating ({'paced' if paced else 'synchronised'})"):
            entry = cache.build(KIND, cache_key, build)
    rows = files.read_json(entry.path / "rows.json")
    return evaluate(preset, rows, key=cache_key, created=str(entry.manifest["created"]))


def key(boot: Boot, mode: str) -> str:
    """Return the cache key: a digest of everything that may change the measurement."""
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
            "probe": [files.sha256_file(path) for path in _SOURCES],
            "host": [platform.node(), platform.processor() or platform.machine(), settings.jobs()],
        }
    )


def build_probe(*, cache: Cache) -> Path:
    """Return the probe's executable; compile it if it is not cached."""
    gcc = which("gcc", package="gcc")
    header = _MARKERS / "sentinel_markers.h"
    cache_key = files.sha256_json(
        {
            "sources": [files.sha256_file(path) for path in (*_SOURCES, header)],
            "flags": _FLAGS,
            "compiler": version_of(gcc),
        }
    )

    def compile_probe(folder: Path) -> dict[str, Any]:
        argv = [gcc, *_FLAGS, f"-I{_MARKERS}", "-o", str(folder / "probe")]
        argv += [str(path) for path in _SOURCES if path.suffix == ".c"]
        stream(
            [*argv, "-lpthread"],
            log=folder / "build.log",
            error=BuildError,
            what="compiling the memory probe",
        )
        return {}

    entry = cache.get(PROBE_KIND, cache_key) or cache.build(PROBE_KIND, cache_key, compile_probe)
    return entry.path / "probe"


def measure(
    machine: Vm, mode: str, cache_bytes: int, stream_bytes: int, *, cache: Cache
) -> list[dict[str, Any]]:
    """Run the probe in a running guest and return its rows.

    `mode` is "full" or "paced"; `cache_bytes` is the size of the LLC, `stream_bytes` that of each stream.
    """
    probe = build_probe(cache=cache)
    rows: list[dict[str, Any]] = []
    with machine.shell() as shell:
        shell.put(probe, "/run/probe")
        shell.run(
            f"/run/probe {mode} {cache_bytes} {stream_bytes}",
            timeout=_WITHIN[mode] * settings.TIMEOUT_SCALE.get_float(),
            on_line=lambda line: rows.append(json.loads(line)),
        )
    return rows


def _stream_bytes(cache_bytes: int, machine: Machine) -> int:
    """Return the size of a stream: far more than the cache, and four of them fit into each node."""
    size = max(_STREAM, 8 * cache_bytes)
    smallest = min(node.memory for node in machine.nodes)
    if 4 * size > smallest:
        raise UsageError(
            f"calibration needs nodes of at least {shown_size(4 * size)}; "
            f"the smallest node has {shown_size(smallest)}",
            hint="its streams must be far larger than the cache",
        )
    return size
