# SPDX-License-Identifier: Apache-2.0
"""A cell as a trace in the Trace Event Format, which Perfetto and Chrome show.

The trace has a process for the measured steps, and one for each step that a plan predicts. Times are in
microseconds. Format: "Trace Event Format", Google, 2016; Perfetto's trace processor imports it.
"""

from __future__ import annotations

import gzip
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from results import selection
from results.labels import Axes
from results.plans import Planned, read_plans
from results.runs import Cell, Repeat, Run
from results.stats import Clock, has_clock, step_ns
from results.tensors import by_node
from sentinel.planner.formats.plan import Plan
from sentinel.planner.formats.profile import KINDS, Profile
from sentinel.planner.simulate import Simulation, unit_contents, unit_moves
from testbed.common import files
from testbed.common.disk import explained_disk_errors
from testbed.common.errors import UsageError

Event = dict[str, Any]


@dataclass(frozen=True)
class Trace:
    """The trace of a cell, and warnings about what it lacks."""

    cell: str
    events: list[Event]
    warnings: list[str]


def build(run: Run, cell: str, repeat: int | None = None) -> Trace:
    """Return the trace of a cell, given by its id, the beginning of the id, or its label.

    `repeat` is the number of a finished repeat, by default the first. Raises `UsageError` if the run has no
    such cell or repeat.
    """
    found = find_cell(run, cell)
    source = find_repeat(found, repeat)
    axes = Axes.of(other.resolved for other in run.cells)
    label = axes.label(found.resolved)
    plans, warnings = read_plans(run, [source])
    if not plans:
        warnings.append(f"{label}: no plan, so the trace has measured steps only")
    events = list(_measured(source, f"{label}, repeat {source.number}: measured"))
    for number, planned in enumerate(plans):
        if planned.simulation is None or planned.profile is None:
            warnings.append(f"{label}: the run did not keep the profile of its plan; a new run does")
            continue
        name = f"{label}: planned step {planned.kind}".rstrip()
        events += _predicted(planned, planned.profile, planned.simulation, pid=number + 2, name=name)
    events.sort(key=lambda event: event.get("ts", -1.0))
    return Trace(found.id, events, warnings)


def write(trace: Trace, path: Path) -> None:
    """Write a trace as JSON, gzipped if the name ends in `.gz`. Raises `UsageError` if that fails."""
    value = {"displayTimeUnit": "ns", "traceEvents": trace.events}
    data = json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
    try:
        with explained_disk_errors(path):
            files.write_atomic(path, gzip.compress(data, mtime=0) if path.name.endswith(".gz") else data)
    except OSError as e:
        raise UsageError(f"{path}: cannot be written: {e.strerror}") from None


def find_cell(run: Run, name: str) -> Cell:
    """Return the cell with an id, with an id that begins so, or with a label. Raises `UsageError`."""
    axes = Axes.of(cell.resolved for cell in run.cells)
    (found,) = selection.choose(name, {cell.id: axes.label(cell.resolved) for cell in run.cells})
    return next(cell for cell in run.cells if cell.id == found)


def find_repeat(cell: Cell, number: int | None) -> Repeat:
    """Return the finished repeat with a number, or the first. Raises `UsageError` if there is none."""
    found = [repeat for repeat in cell.repeats if number in (None, repeat.number)]
    if not found:
        known = ", ".join(str(repeat.number) for repeat in cell.repeats) or "none"
        what = "finished repeat" if number is None else f"finished repeat {number}"
        raise UsageError(f"cell {cell.id}: no {what}", hint=f"finished repeats: {known}")
    return found[0]


def _measured(repeat: Repeat, name: str) -> Iterator[Event]:
    """Yield the steps of a repeat one after the other, with tensor bytes by node at their ends."""
    clock: Clock = "model" if has_clock(repeat, "model") else "guest"
    yield from _names(1, f"{name} by the {clock} clock", ["steps"])
    now = 0.0
    for step in repeat.steps:
        ns = step_ns(step, clock)
        loss = None if step.loss is None else str(float.fromhex(step.loss))  # JSON has no NaN
        runtime = step.runtime.get("step")
        values = runtime if isinstance(runtime, Mapping) else {}
        args = {
            "warmup": step.warmup,
            "kind": step.kind,
            "loss": loss,
            "guest_ns": step.guest_ns,
            "model_ns": step.model_ns,
            **{f"{key} (last session run)": value for key, value in values.items()},
        }
        yield _slice(1, 1, f"step {step.step}{' (warm-up)' if step.warmup else ''}", now, ns, args)
        now += ns
        if nodes := by_node(step):
            resident = {f"node {n}": size for n, size in enumerate(nodes)}
            yield {"ph": "C", "pid": 1, "name": "tensor bytes", "ts": _us(now), "args": resident}


def _predicted(
    planned: Planned, profile: Profile, simulation: Simulation, *, pid: int, name: str
) -> Iterator[Event]:
    """Yield the step that a plan predicts."""
    plan, timeline, begin = planned.plan, simulation.timeline, simulation.timeline.begin
    threads = ["operations", "layers", "promotions", "demotions", "waits"]
    yield from _names(pid, f"{name} (predicted)", threads)
    for p in range(len(profile.ops)):
        args = {"position": p, "type": profile.ops.type[p], "layer": int(profile.ops.layer[p])}
        yield _slice(pid, 1, profile.ops.name[p], begin[p], begin[p + 1] - begin[p], args)
    starts = [0, *(np.flatnonzero(np.diff(profile.ops.layer)) + 1).tolist(), len(profile.ops)]
    for first, end in itertools.pairwise(starts):
        layer = f"layer {int(profile.ops.layer[first])}"
        yield _slice(pid, 2, layer, begin[first], begin[end] - begin[first], {"operations": end - first})
    for n, (move, (started, ended)) in enumerate(zip(plan.moves, timeline.spans, strict=True)):
        args = {
            "bytes": move.size,
            "at": move.at,
            "before": move.before,
            "deadline_us": _us(begin[move.before]),
            "late": n in timeline.late,
        }
        title = f"promote {move.size} B" if move.to == 0 else f"demote {move.size} B"
        yield _slice(pid, 3 + move.to, title, started, ended - started, args)
    for p, ns in timeline.exposed.items():
        yield _slice(pid, 5, "exposed time", begin[p] - ns, ns, {"before operation": profile.ops.name[p]})
    for p in range(len(profile.ops)):
        memory = {place: int(values[p]) for place, values in simulation.memory.items()}
        yield {"ph": "C", "pid": pid, "name": "tensor bytes", "ts": _us(begin[p]), "args": memory}
    yield {"ph": "C", "pid": pid, "name": "budget", "ts": 0.0, "args": {"bytes": plan.budget}}
    yield from _lifetimes(plan, profile, simulation, pid)


def _lifetimes(plan: Plan, profile: Profile, simulation: Simulation, pid: int) -> Iterator[Event]:
    """Yield a track for each planned tensor: its lifetime, and below it the tier that it is in."""
    t, begin = profile.tensors, simulation.timeline.begin
    contents = unit_contents(profile, plan)
    nodes = [group.node for group in plan.groups] + [tensor.node for tensor in plan.tensors]
    changes: dict[int, list[tuple[float, int]]] = {}  # of units: when, and to which node
    for move, (started, ended) in zip(unit_moves(plan), simulation.timeline.spans, strict=True):
        changes.setdefault(move.unit, []).append((started if move.to == 1 else ended, move.to))
    units_of: dict[int, list[int]] = {}
    for i, unit in zip(contents.tensor.tolist(), contents.unit.tolist(), strict=True):
        units_of.setdefault(i, []).append(unit)
    pools = {tensor.key: tensor.pool for tensor in plan.tensors}
    for i, units in units_of.items():
        op = int(t.op[i])
        title = t.name[i] if op < 0 else f"{profile.ops.name[op]}:{int(t.k[i])}"
        args = {
            "bytes": int(t.size[i]),
            "kind": KINDS[int(t.kind[i])],
            "pool": pools[profile.key(i)],
            "reads": int(t.reads[i]),
            "writes": int(t.writes[i]),
        }
        born, dead = float(begin[max(0, int(t.birth[i]))]), float(begin[int(t.death[i])])
        lifetime = _async(pid, i, title or "(variable)", born, dead, args)
        yield next(lifetime)
        for tier, since, until in _tiers(units, nodes, changes, born, dead):
            yield from _async(pid, i, tier, since, until, {})
        yield from lifetime  # its end: nested slices end first


def _tiers(
    units: list[int],
    nodes: list[int],
    changes: Mapping[int, list[tuple[float, int]]],
    born: float,
    dead: float,
) -> Iterator[tuple[str, float, float]]:
    """Yield the tiers of a tensor with parts in `units`, and from when to when it is in each."""
    now = {unit: nodes[unit] for unit in units}
    events = sorted((when, unit, to) for unit in units for when, to in changes.get(unit, ()))
    since, tier = born, _tier(now.values())
    for when, unit, to in events:
        now[unit] = to
        changed = _tier(now.values())
        if changed != tier and when < dead:
            if when > since:
                yield tier, since, when
            since, tier = max(since, when), changed
    yield tier, since, dead


def _tier(nodes: Iterable[int]) -> str:
    return " and ".join(f"node {node}" for node in sorted(set(nodes)))


def _names(pid: int, process: str, threads: list[str]) -> Iterator[Event]:
    yield {"ph": "M", "pid": pid, "name": "process_name", "args": {"name": process}}
    yield {"ph": "M", "pid": pid, "name": "process_sort_index", "args": {"sort_index": pid}}
    for tid, thread in enumerate(threads, 1):
        yield {"ph": "M", "pid": pid, "tid": tid, "name": "thread_name", "args": {"name": thread}}
        yield {"ph": "M", "pid": pid, "tid": tid, "name": "thread_sort_index", "args": {"sort_index": tid}}


def _slice(pid: int, tid: int, name: str, begin_ns: float, ns: float, args: Event) -> Event:
    return {
        "ph": "X",
        "pid": pid,
        "tid": tid,
        "name": name,
        "ts": _us(begin_ns),
        "dur": _us(max(0.0, ns)),
        "args": args,
    }


def _async(pid: int, number: int, name: str, begin_ns: float, end_ns: float, args: Event) -> Iterator[Event]:
    """Yield the begin and the end of a slice on the track of tensor `number`."""
    common = {"cat": "tensor", "id": f"{pid}.{number}", "pid": pid, "name": name}
    yield {"ph": "b", **common, "ts": _us(begin_ns), "args": args}
    yield {"ph": "e", **common, "ts": _us(end_ns)}


def _us(ns: float) -> float:
    return round(float(ns) / 1000, 3)
