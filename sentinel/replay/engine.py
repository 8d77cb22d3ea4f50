# SPDX-License-Identifier: Apache-2.0
"""The engine: runs the timing model over a trace, with the migrations of a plan."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sentinel.replay import library
from sentinel.replay.trace import LINE, Trace
from testbed.common.errors import InfrastructureError, UsageError
from testbed.timing.plugin import WRITE_BUFFER

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from testbed.timing.preset import Preset

ABSENT = 2  # added to the node of a page that has no memory yet
WINDOW = 4  # the state of a page in a window
HOME = 2**32 - 1  # in place of a frame: the group is at home
MAP, BORN, DIED, DISCARD, REACH, OWN, OP, BEGIN = range(8)  # kinds of actions
_OUTCOMES = ("pending", "moved", "there", "cancelled")
_USES = 64  # of a tensor, on average, that traffic is counted for
_WARM = 8  # accesses that warm the caches, in lines of the cache


class Group(NamedTuple):
    """Target pages that are placed and migrated as one; `live` tensors have it before the step.

    A `window` is born in frames of the fast frame pool, by target page, or at HOME.
    """

    page: int
    pages: int
    node: int
    live: int
    window: bool = False
    frame: int = HOME


class Move(NamedTuple):
    """A move of a group; that of a window has a position `map`, and goes to a `frame` or HOME."""

    at: int
    before: int
    to: int
    group: int
    map: int = 0
    frame: int = HOME
    copy: bool = True


class Moved(NamedTuple):
    """What happened to a move: ns since the step's begin, None for what did not happen.

    `outcome` is `pending` (it goes on in the next step), `moved`, `there` (it was already) or `cancelled`.
    """

    begin_ns: float | None
    copied_ns: float | None
    ended_ns: float | None
    outcome: str


@dataclass(frozen=True)
class Scenario:
    """Where the pages of a trace are, and what a plan does with them; see replay.h for the arrays.

    `page` has the state of each target page, `line` the target line of each dense line before the first
    event. `actions` are (event, kind, first, count, to), in order of events. `plan_moves` has the index of
    each move in the plan. `room` is in pages. `frames` is the first target page of the fast frame pool, if
    there are windows.
    """

    page: NDArray[np.uint8]
    line: NDArray[np.uint32]
    actions: list[tuple[int, int, int, int, int]] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)
    plan_moves: list[int] = field(default_factory=list)
    waits: list[int] = field(default_factory=list)
    room: int = 0
    frames: int | None = None


@dataclass(frozen=True)
class Replayed:
    """One replayed step. Times in ns; `pages` counts pages by what happened to them.

    `remaps` counts those of windows, `unknown` the operations that used one and are not in the plan's `uses`;
    `moved` has what happened to each move, `waiting` whether late promotions were waited for.

    `pool_pages` are the pages of the runtime's pool on each node at the end, under a page-based policy.

    `computed_ns` is when the step has come to its end, before what it waits for there.
    `event_ns` is the time of each event since the step's begin. `traffic` has the lines that each operation
    read and wrote of each tensor, if they were counted: fields `tensor`, `op`, `read`, `written`. `counters`
    are those of each vCPU; counts with two values are by node.
    """

    step_ns: float
    exposed_ns: float
    computed_ns: float
    pages: dict[str, int]
    counters: list[dict[str, Any]]
    event_ns: NDArray[np.float64]
    traffic: NDArray[Any]
    remaps: int = 0
    unknown: int = 0
    moved: list[Moved] = field(default_factory=list)
    pool_pages: tuple[int, int] | None = None
    waiting: bool = True

    @property
    def misses(self) -> int:
        """Lines that the compute vCPU fetched."""
        return int(sum(self.counters[0]["misses"]))


def _config(preset: Preset) -> library.Config:
    config = library.Config()
    for node, memory in zip(config.node, preset.nodes, strict=True):
        for name, value in memory:
            setattr(node, name, memory.read_latency if value is None else value)
    config.cache_size, config.cache_ways = preset.cache.size, preset.cache.ways
    config.cache_line, config.cache_shared = preset.cache.line, preset.cache.shared
    config.write_buffer = WRITE_BUFFER
    config.remap, config.remap_page = preset.remap, preset.remap_page
    config.shootdown, config.cores = preset.shootdown, preset.cores
    for i in range(library.CPUS):
        cpu = preset.helper if i else preset.compute
        config.instruction[i], config.parallelism[i] = cpu.instruction, cpu.parallelism
    return config


def _check(preset: Preset) -> None:
    if preset.cache.line != LINE:
        raise UsageError(f"traces have lines of {LINE} bytes, and the preset's have {preset.cache.line}")
    if preset.memory_mode:
        raise UsageError(
            "a preset with memory_mode cannot be replayed",
            hint="use it without, and policy memory-mode",
        )


def run(
    trace: Trace,
    scenario: Scenario,
    preset: Preset,
    *,
    cores: int = 1,
    waiting: bool = True,
    tensors: int = 0,
    paging: library.Paging | None = None,
    steps: int | None = None,
    near: int = 0,
) -> Replayed:
    """Replay a trace. Thread-safe: several may run at once.

    `cores` vCPUs migrate; without windows 1 for both directions, or 2. `waiting`: wait for promotions that
    are late, as opposed to cancelling them. With the number of `tensors`, traffic is counted. `paging` is a
    page-based policy (paging.py). The result is the last of the `steps`, by default of two if pages move.
    With `near`, that many bytes of node 0 are a direct-mapped cache of node 1, apart from its pages.
    Raises `UsageError` for presets that cannot be replayed.
    """
    _check(preset)
    cores = min(cores, library.CPUS - 1 if scenario.frames is not None else 2)
    config = _config(preset)
    config.memory_mode, config.near_size = bool(near), near
    actions = np.array([action[1:] for action in scenario.actions], dtype=np.uint64).reshape(-1, 4)
    events = np.array([action[0] for action in scenario.actions], dtype=np.int64)
    arrays: dict[str, NDArray[Any]] = {
        "word": trace.words,
        "first_action": np.searchsorted(events, np.arange(trace.events + 1)).astype(np.uint64),
        "action": actions,
        "line": scenario.line,
        "page": scenario.page,
        "group": np.array(scenario.groups, dtype=np.uint64).reshape(-1, len(Group._fields)),
        "move": np.array(scenario.moves, dtype=np.int64).reshape(-1, len(Move._fields)),
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
    c_scenario = library.Scenario(
        config=ctypes.pointer(config),
        page_ns=preset.page,
        **counts,
        **{name: array.ctypes.data for name, array in arrays.items()},
        room=scenario.room,
        frames=len(scenario.page) if scenario.frames is None else scenario.frames,
        helpers=cores,
        waiting=waiting,
        steps=steps or (2 if scenario.moves else 1),  # migrations may go on in the next step
        warm=min(len(trace.words), _WARM * preset.cache.size // LINE),
        paging=ctypes.pointer(paging) if paging is not None else None,
    )
    event_ns = np.zeros(trace.events, dtype=np.float64)
    vcpus = (library.Counters * (1 + cores))()
    moved = np.zeros(len(scenario.moves), dtype=library.MOVED)
    result = library.Result(vcpu=vcpus, moved=moved.ctypes.data)
    traffic = np.zeros(tensors * _USES, dtype=library.TRAFFIC)
    counting = library.Counting(tensors=tensors, size=len(traffic), traffic=traffic.ctypes.data)
    error = library.load().replay_run(
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
        computed_ns=result.computed_ns,
        pages={name: getattr(result, name) for name in library.PAGES},
        counters=[_plain(counters) for counters in vcpus],
        event_ns=event_ns,
        traffic=traffic[: counting.used],
        remaps=result.remaps,
        unknown=result.unknown,
        moved=[_moved(row) for row in moved],
        waiting=waiting,
    )


def _moved(row: Any) -> Moved:
    times = (None if row[name] < 0 else float(row[name]) for name in ("begin", "copied", "ended"))
    begin, copied, ended = times
    return Moved(begin, copied, ended, _OUTCOMES[int(row["outcome"])])


def _plain(counters: library.Counters) -> dict[str, Any]:
    values = {name: getattr(counters, name) for name, *_ in counters._fields_}
    return {name: list(v) if isinstance(v, ctypes.Array) else v for name, v in values.items()}
