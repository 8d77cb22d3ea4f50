# SPDX-License-Identifier: Apache-2.0
"""The engine's library, and the structures of its interface (replay.h)."""

from __future__ import annotations

import ctypes
from functools import cache as memoize
from pathlib import Path
from typing import Any

import numpy as np

from testbed.common import files
from testbed.common.cache import Cache
from testbed.common.errors import BuildError
from testbed.common.progress import step
from testbed.common.run import stream, version_of, which

KIND = "replay"
NODES, CPUS = 2, 64
_HERE = Path(__file__).parent
_TIMING = _HERE.parent.parent / "testbed" / "timing"
_WINDOWS = ("windows.c", "moves.c", "cores.c")
_SOURCES = (
    *(_HERE / name for name in ("replay.c", "counting.c", "migration.c", "room.c", "paging.c", *_WINDOWS)),
    *(_TIMING / name for name in ("model.c", "memory.c", "llc.c", "bandwidth.c")),
)
_HEADERS = (*sorted(_HERE.glob("*.h")), *sorted(_TIMING.glob("*.h")))
_FLAGS = ("-std=gnu11", "-O3", "-flto", "-fvisibility=hidden", "-shared", "-fPIC", "-Wall", "-Wextra")


class Node(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_double)
        for name in ("read_latency", "write_latency", "read_bandwidth", "write_bandwidth")
    ]


class Config(ctypes.Structure):
    _fields_ = [
        ("node", Node * NODES),
        ("split", ctypes.c_uint64),
        ("end", ctypes.c_uint64),
        ("hole", ctypes.c_uint64 * 2),
        ("cache_size", ctypes.c_uint64),
        ("cache_ways", ctypes.c_uint32),
        ("cache_line", ctypes.c_uint32),
        ("cache_shared", ctypes.c_uint32),
        ("memory_mode", ctypes.c_uint32),
        ("near_size", ctypes.c_uint64),
        ("write_buffer", ctypes.c_double),
        ("instruction", ctypes.c_double * CPUS),
        ("parallelism", ctypes.c_double * CPUS),
        *((name, ctypes.c_double) for name in ("remap", "remap_page", "shootdown", "cores")),
    ]


class Counters(ctypes.Structure):
    _fields_ = [
        ("instructions", ctypes.c_uint64),
        ("accesses", ctypes.c_uint64),
        ("misses", ctypes.c_uint64 * NODES),
        ("bytes_read", ctypes.c_uint64 * NODES),
        ("bytes_written", ctypes.c_uint64 * NODES),
        ("hits_near", ctypes.c_uint64),
        *((name, ctypes.c_double) for name in ("compute", "memory", "queue", "charged", "idle")),
    ]


COUNTS = ("words", "events", "dense", "pages", "groups", "moves", "waits")
ARRAYS = ("word", "first_action", "action", "line", "page", "group", "move", "wait")


Decide = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_double)
PAGING = ("node", "touched", "reads", "writes", "hidden", "latency")


class Paging(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_uint64) for name in ("first", "count", "budget")),
        ("period", ctypes.c_double),
        ("sample", ctypes.c_uint64),
        ("seed", ctypes.c_uint64),
        *((name, ctypes.c_void_p) for name in PAGING),
        ("move", ctypes.c_void_p * NODES),
        ("moves", ctypes.c_uint64 * NODES),
        ("decide", Decide),
    ]


class Scenario(ctypes.Structure):
    _fields_ = [
        ("config", ctypes.POINTER(Config)),
        ("page_ns", ctypes.c_double),
        *((name, ctypes.c_uint64) for name in COUNTS),
        *((name, ctypes.c_void_p) for name in ARRAYS),
        *((name, ctypes.c_uint64) for name in ("room", "frames", "helpers", "waiting", "steps", "warm")),
        ("paging", ctypes.POINTER(Paging)),
    ]


PAGES = ("promoted", "demoted", "cancelled", "failed", "late", "crowded", "new_pages", "absent", "copied")


class Result(ctypes.Structure):
    _fields_ = [
        ("step_ns", ctypes.c_double),
        ("exposed_ns", ctypes.c_double),
        ("computed_ns", ctypes.c_double),
        *((name, ctypes.c_uint64) for name in (*PAGES, "remaps", "unknown")),
        ("vcpu", ctypes.POINTER(Counters)),
        ("moved", ctypes.c_void_p),
    ]


MOVED = np.dtype([*((name, np.float64) for name in ("begin", "copied", "ended")), ("outcome", np.uint64)])
TRAFFIC = np.dtype([(name, np.uint64) for name in ("tensor", "op", "read", "written")])


class Counting(ctypes.Structure):
    _fields_ = [
        ("tensors", ctypes.c_uint64),
        ("size", ctypes.c_uint64),
        ("used", ctypes.c_uint64),
        ("traffic", ctypes.c_void_p),
    ]


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
def load() -> ctypes.CDLL:
    """Return the library, built if it is not cached. Raises `BuildError`."""
    library = ctypes.CDLL(str(build()))
    library.replay_run.argtypes = [
        ctypes.POINTER(Scenario),
        ctypes.c_void_p,
        ctypes.POINTER(Result),
        ctypes.POINTER(Counting),
    ]
    return library
