# SPDX-License-Identifier: Apache-2.0
"""Build the timing plugin for the installed QEMU, and write its configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from testbed.common import files
from testbed.common.cache import Cache
from testbed.common.errors import BuildError, InfrastructureError, UsageError
from testbed.common.progress import step
from testbed.common.run import run, stream, version_of, which
from testbed.host import accel
from testbed.machine import Machine
from testbed.timing import layout
from testbed.timing.preset import Preset

KIND = "plugin"
SOURCES = Path(__file__).parent
_FILES = tuple(sorted(path.name for path in SOURCES.glob("*.[ch]")))
_FLAGS = (
    *("-std=gnu11", "-O3", "-flto", "-fvisibility=hidden", "-shared", "-fPIC", "-fno-plt"),
    *("-Wall", "-Wextra"),
)
LIBRARIES = ("-lZydis", "-lz", "-lpthread", "-lm")
# QEMU's release -> the version of its plugin interface to build for (include/qemu/qemu-plugin.h there)
_APIS = (((9, 2), 4), ((9, 1), 3), ((9, 0), 2), ((4, 2), 1))
CLOCK_SIZE = 1 << 20  # bytes of the clock page's file: the smallest that ivshmem takes
WINDOW = 20_000.0  # largest difference of vCPU clocks, in model ns
WRITE_BUFFER = 500.0  # ns by which write-backs may lag


def api_of(version: tuple[int, int]) -> int | None:
    """Return the plugin interface of a QEMU release; None if the release is too old."""
    return next((api for since, api in _APIS if version >= since), None)


def supported(qemu: str) -> bool:
    """Return whether this QEMU was built with plugins."""
    refusal = run([qemu, "-M", "none", "-plugin", "/nonexistent.so"], check=False, timeout=20).stderr
    return "invalid option" not in refusal and "not supported" not in refusal


def source_digests() -> dict[str, str]:
    """Return the digest of each of the plugin's sources: what it computes, and what it writes."""
    return {name: files.sha256_file(SOURCES / name) for name in _FILES}


def build(qemu: str, *, cache: Cache | None = None) -> Path:
    """Return the plugin (a shared object) for this QEMU; compile it if it is not cached."""
    cache = cache or Cache()
    if not supported(qemu):
        raise InfrastructureError(
            f"{qemu} was built without plugins; the timing model needs them",
            hint="use Debian's (apt-get install qemu-system-x86), or configure QEMU with --enable-plugins",
        )
    text = accel.qemu_version(qemu)
    api = api_of(accel.parse_version(text))
    if api is None:
        raise InfrastructureError(
            f"{text} is too old for the timing model, which needs 7.2 or newer",
            hint="apt-get install qemu-system-x86 (Debian 12)",
        )
    gcc = which("gcc", package="gcc")
    decoder = _decoder(gcc)
    key = files.sha256_json(
        {
            "api": api,
            "flags": _FLAGS,
            "compiler": version_of(gcc),
            "decoder": decoder,
            "sources": source_digests(),
        }
    )

    def compile_plugin(folder: Path) -> dict[str, Any]:
        argv = [gcc, f"-DAPI={api}", *_FLAGS, "-o", str(folder / "timing.so")]
        argv += [str(SOURCES / name) for name in _FILES if name.endswith(".c")]
        stream(
            [*argv, *LIBRARIES],
            log=folder / "build.log",
            error=BuildError,
            what="compiling the timing plugin",
        )
        return {"api": api}

    entry = cache.get(KIND, key)
    if entry is None:
        with step(f"Building the timing plugin (interface {api})"):
            entry = cache.build(KIND, key, compile_plugin)
    return entry.path / "timing.so"


def _decoder(gcc: str) -> str:
    """Return the version of the instruction decoder: the name of its shared object."""
    library = Path(run([gcc, "-print-file-name=libZydis.so"]).stdout.strip())
    if not library.is_absolute():
        raise InfrastructureError(
            "the timing model needs Zydis, to decode the guest's instructions",
            hint="apt-get install libzydis-dev",
        )
    return library.resolve().name


def configuration(preset: Preset, machine: Machine, *, qemu: tuple[int, int], log: Path, clock: Path) -> str:
    """Return the configuration for a QEMU release. vCPU 0 is the compute vCPU, the others are helpers."""
    addresses = layout.compute(machine, qemu)
    if preset.cache.size > machine.memory:
        raise UsageError("the cache of the preset is larger than the memory of the machine")
    cpus = (preset.compute, *[preset.helper] * (machine.vcpus - 1))
    values: dict[str, object] = {
        "split": addresses.split,
        "end": addresses.end,
        "hole.start": addresses.hole[0],
        "hole.end": addresses.hole[1],
        "cache.size": preset.cache.size,
        "cache.ways": preset.cache.ways,
        "cache.line": preset.cache.line,
        "cache.shared": int(preset.cache.shared),
        "memory_mode": int(preset.memory_mode),
        "instruction": ",".join(f"{cpu.instruction:.9g}" for cpu in cpus),
        "parallelism": ",".join(f"{cpu.parallelism:.9g}" for cpu in cpus),
        "page": preset.page,
        "remap": preset.remap,
        "remap_page": preset.remap_page,
        "shootdown": preset.shootdown,
        "cores": preset.cores,
        "write_buffer": WRITE_BUFFER,
        "window": WINDOW,
        "log": log,
        "clock": clock,
    }
    for number, node in enumerate(preset.nodes):
        for name, value in node:
            values[f"node{number}.{name}"] = node.read_latency if value is None else value
    return "".join(f"{name} {value}\n" for name, value in sorted(values.items()))
