# SPDX-License-Identifier: Apache-2.0
"""The engine: the timing model as a library (replay.h), its structures, and a run of it."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass, field
from functools import cache as memoize
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sentinel.replay.trace import LINE, Trace
from testbed.common import files
from testbed.common.cache import Cache
from testbed.common.errors import BuildError, InfrastructureError, UsageError
from testbed.common.progress import step
from testbed.common.run import stream, version_of, which
from testbed.timing.plugin import WRITE_BUFFER

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from testbed.timing.preset import Preset

KIND = "replay"
_HERE = Path(__file__).parent
_TIMING = _HERE.parent.parent / "testbed" / "timing"
_SOURCES = (
    *(_HERE / name for name in ("replay.c", "migration.c", "room.c", "counting.c")),
    *(_TIMING / name for name in ("model.c", "memory.c", "llc.c", "bandwidth.c")),
)
_HEADERS = (*sorted(_HERE.glob("*.h")), *sorted(_TIMING.glob("*.h")))
_FLAGS = ("-std=gnu11", "-O3", "-flto", "-fvisibility=hidden", "-shared", "-fPIC", "-Wall", "-Wextra")
_NODES, _CPUS, _VCPUS = 2, 64, 3
ABSENT = 2  # added to the node of a page that has no memory yet
MAP, BORN, DIED, DISCARD, REACH, OWN, OP = range(7)  # kinds of actions
_USES = 64  # of a tensor, on average, that traffic is counted for
_WARM = 8  # accesses that warm the caches, in lines of the cache


class _Node(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_double)
        for name in ("read_latency", "write_latency", "read_bandwidth", "write_bandwidth")
    ]


class _Config(ctypes.Structure):
    _fields_ = [
        ("node", _Node * _NODES),
        ("split", ctypes.c_uint64),
        ("end", ctypes.c_uint64),
        ("hole", ctypes.c_uint64 * 2),
        ("cache_size", ctypes.c_uint64),
        ("cache_ways", ctypes.c_uint32),
        ("cache_line", ctypes.c_uint32),
        ("cache_shared", ctypes.c_uint32),
        ("memory_mode", ctypes.c_uint32),
        ("write_buffer", ctypes.c_double),
        ("instruction", ctypes.c_double * _CPUS),
        ("parallelism", ctypes.c_double * _CPUS),
        *((name, ctypes.c_double) for name in ("remap", "remap_page", "shootdown", "cores")),
    ]


class _Counters(ctypes.Structure):
    _fields_ = [
        ("instructions", ctypes.c_uint64),
        ("accesses", ctypes.c_uint64),
        ("misses", ctypes.c_uint64 * _NODES),
        ("bytes_read", ctypes.c_uint64 * _NODES),
        ("bytes_written", ctypes.c_uint64 * _NODES),
        ("hits_near", ctypes.c_uint64),
        *((name, ctypes.c_double) for name in ("compute", "memory", "queue", "charged", "idle")),
    ]


_COUNTS = ("words", "events", "dense", "pages", "groups", "moves", "waits")
_ARRAYS = ("word", "first_action", "action", "line", "page", "group", "move", "wait")


class _Scenario(ctypes.Structure):
    _fields_ = [
        ("config", ctypes.POINTER(_Config)),
        ("page_ns", ctypes.c_double),
        *((name, ctypes.c_uint64) for name in _COUNTS),
        *((name, ctypes.c_void_p) for name in _ARRAYS),
        *((name, ctypes.c_uint64) for name in ("room", "helpers", "waiting", "steps", "warm")),
    ]


_PAGES = ("promoted", "demoted", "cancelled", "failed", "late", "crowded", "new_pages", "absent")


class _Result(ctypes.Structure):
    _fields_ = [
        ("step_ns", ctypes.c_double),
        ("exposed_ns", ctypes.c_double),
        ("vcpu", _Counters * _VCPUS),
        *((name, ctypes.c_uint64) for name in _PAGES),
    ]


_TRAFFIC = np.dtype([(name, np.uint64) for name in ("tensor", "op", "read", "written")])


class _Counting(ctypes.Structure):
    _fields_ = [
        ("tensors", ctypes.c_uint64),
        ("size", ctypes.c_uint64),
        ("used", ctypes.c_uint64),
        ("traffic", ctypes.c_void_p),
    ]


@dataclass(frozen=True)
class Scenario:
    """Where the pages of a trace are, and what a plan does with them; see replay.h for the arrays.

    `page` has the state of each target page, `line` the target line of each dense line before the first
    event. `actions` are (event, kind, first, count, to), in order of events. `room` is in pages.
    """

    page: NDArray[np.uint8]
    line: NDArray[np.uint32]
    actions: list[tuple[int, int, int, int, int]] = field(default_factory=list)
    groups: list[tuple[int, int, int, int]] = field(default_factory=list)
    moves: list[tuple[int, int, int, int]] = field(default_factory=list)
    waits: list[int] = field(default_factory=list)
    room: int = 0


@dataclass(frozen=True)
class Replayed:
    """One replayed step. Times in ns; `pages` counts pages by what happened to them.

    `event_ns` is the time of each event since the step's begin. `traffic` has the lines that each operation
    read and wrote of each tensor, if they were counted: fields `tensor`, `op`, `read`, `written`. `counters`
    are those of each vCPU; counts with two values are by node.
    """

    step_ns: float
    exposed_ns: float
    pages: dict[str, int]
    counters: list[dict[str, Any]]
    event_ns: NDArray[np.float64]
    traffic: NDArray[Any]

    @property
    def misses(self) -> int:
        """Lines that the compute vCPU fetched."""
        return int(sum(self.counters[0]["misses"]))


def build(*, cache: Cache | None = None) -> Path:
    """Return the engine's library, compiled if it is not cached. Raises `BuildError`."""
    gcc = which("gcc", package="gcc")
    key = files.sha256_json(
        {
            "flags": _FLAGS,
            "compiler": version_of(gcc),
            "sources": {path.name: files.sha256_file(path) for path in (*_SOURCES, *_HEADERS)},
        }
    )

    def compile_engine(folder: Path) -> dict[str, Any]:
        argv = [gcc, *_FLAGS, "-o", str(folder / "replay.so"), *map(str, _SOURCES)]
        stream(argv, log=folder / "build.log", error=BuildError, what="compiling the replay engine")
        return {}

    cache = cache or Cache()
    entry = cache.get(KIND, key)
    if entry is None:
        with step("Building the replay engine"):
            entry = cache.build(KIND, key, compile_engine)
    return entry.path / "replay.so"


@memoize
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(str(build()))
    library.replay_run.argtypes = [
        ctypes.POINTER(_Scenario),
        ctypes.c_void_p,
        ctypes.POINTER(_Result),
        ctypes.POINTER(_Counting),
    ]
    return library


def _config(preset: Preset) -> _Config:
    config = _Config()
    for node, memory in zip(config.node, preset.nodes, strict=True):
        for name, value in memory:
            setattr(node, name, memory.read_latency if value is None else value)
    config.cache_size, config.cache_ways = preset.cache.size, preset.cache.ways
    config.cache_line, config.cache_shared = preset.cache.line, preset.cache.shared
    config.write_buffer = WRITE_BUFFER
    config.remap, config.remap_page = preset.remap, preset.remap_page
    config.shootdown, config.cores = preset.shootdown, preset.cores
    for i in range(_CPUS):
        cpu = preset.helper if i else preset.compute
        config.instruction[i], config.parallelism[i] = cpu.instruction, cpu.parallelism
    return config


def _check(preset: Preset) -> None:
    if preset.cache.line != LINE:
        raise UsageError(f"traces have lines of {LINE} bytes, and the preset's have {preset.cache.line}")
    if preset.memory_mode:
        raise UsageError(
            "a preset with memory_mode cannot be replayed", hint="its node 0 is as large as the machine's"
        )


def run(
    trace: Trace,
    scenario: Scenario,
    preset: Preset,
    *,
    helpers: int = 1,
    waiting: bool = True,
    tensors: int = 0,
) -> Replayed:
    """Replay a trace. Thread-safe: several may run at once.

    `helpers` vCPUs migrate: 1 for both directions, or 2. `waiting`: wait for promotions that are late, as
    opposed to cancelling them. With the number of `tensors`, traffic is counted. Raises `UsageError` for
    presets that cannot be replayed.
    """
    _check(preset)
    config = _config(preset)
    actions = np.array([action[1:] for action in scenario.actions], dtype=np.uint64).reshape(-1, 4)
    events = np.array([action[0] for action in scenario.actions], dtype=np.int64)
    arrays: dict[str, NDArray[Any]] = {
        "word": trace.words,
        "first_action": np.searchsorted(events, np.arange(trace.events + 1)).astype(np.uint64),
        "action": actions,
        "line": scenario.line,
        "page": scenario.page,
        "group": np.array(scenario.groups, dtype=np.uint64).reshape(-1, 4),
        "move": np.array(scenario.moves, dtype=np.int64).reshape(-1, 4),
        "wait": np.array(scenario.waits, dtype=np.int64),
    }
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    counts = {
        "words": len(trace.words),
        "events": trace.events,
        "dense": len(trace.pages),
        "pages": len(scenario.page),
        "groups": len(scenario.groups),
        "moves": len(scenario.moves),
        "waits": len(scenario.waits),
    }
    c_scenario = _Scenario(
        config=ctypes.pointer(config),
        page_ns=preset.page,
        **counts,
        **{name: array.ctypes.data for name, array in arrays.items()},
        room=scenario.room,
        helpers=helpers,
        waiting=waiting,
        steps=2 if scenario.moves else 1,  # migrations may go on in the next step
        warm=min(len(trace.words), _WARM * preset.cache.size // LINE),
    )
    event_ns = np.zeros(trace.events, dtype=np.float64)
    result = _Result()
    traffic = np.zeros(tensors * _USES, dtype=_TRAFFIC)
    counting = _Counting(tensors=tensors, size=len(traffic), traffic=traffic.ctypes.data)
    error = _library().replay_run(
        ctypes.byref(c_scenario),
        event_ns.ctypes.data,
        ctypes.byref(result),
        ctypes.byref(counting) if tensors else None,
    )
    if error:
        raise InfrastructureError(f"the replay failed: {os.strerror(error)}")
    return Replayed(
        step_ns=result.step_ns,
        exposed_ns=result.exposed_ns,
        pages={name: getattr(result, name) for name in _PAGES},
        counters=[_plain(counters) for counters in result.vcpu],
        event_ns=event_ns,
        traffic=traffic[: counting.used],
    )


def _plain(counters: _Counters) -> dict[str, Any]:
    values = {name: getattr(counters, name) for name, *_ in counters._fields_}
    return {name: list(v) if isinstance(v, ctypes.Array) else v for name, v in values.items()}
