# SPDX-License-Identifier: Apache-2.0
"""Exact costs of operations: a profile whose times come from replays of its trace.

A profile recorded in a machine has the times of one preset, and estimates of what fast memory saves. A trace
gives the time of each operation in slow and in fast memory for any preset.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sentinel.planner.fast_times import with_fast_times
from sentinel.replay import engine, placement
from sentinel.replay.trace import LINE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sentinel.planner.formats.profile import Profile
    from sentinel.replay.engine import Replayed
    from sentinel.replay.trace import Kind, Trace
    from testbed.timing.preset import Memory, Preset


@dataclass(frozen=True)
class Costs:
    """The steps in slow and in fast memory, and the profile with their times."""

    slow: Replayed
    fast: Replayed
    profile: Profile


def measure(trace: Trace, kind: Kind, preset: Preset, fast: Replayed) -> Costs:
    """Replay a trace in slow memory; `fast` is its replay in fast memory."""
    counted = placement.with_owners(trace, kind, placement.slow_only(trace))
    slow = engine.run(trace, counted, preset, tensors=len(kind.tensors))
    timed = with_fast_times(_timed(kind, slow), _timed(kind, fast))
    return Costs(slow, fast, _with_savings(timed, kind, slow.traffic, preset, slow.step_ns - fast.step_ns))


def _with_savings(
    profile: Profile, kind: Kind, traffic: NDArray[Any], preset: Preset, saved_ns: float
) -> Profile:
    """The profile with what each use saves: its lines' shares of both nodes' bandwidth.

    All savings together are `saved_ns`. Lines count for the use that read or wrote them, or else for the
    tensor's use before; write-backs take time later, while other operations wait.
    """
    position = {
        (name, occurrence): i
        for i, (name, occurrence) in enumerate(
            zip(profile.ops.name, profile.ops.occurrence.tolist(), strict=True)
        )
    }
    index = {profile.key(i): i for i in range(len(profile.tensors))}
    fast, slow = preset.nodes
    read_ns = _line_ns(slow, preset) - _line_ns(fast, preset)
    written_ns = LINE / slow.write_bandwidth - LINE / fast.write_bandwidth
    uses = profile.uses
    first = np.searchsorted(uses.tensor, np.arange(len(profile.tensors) + 1))
    ns = np.zeros(len(uses.tensor))
    for row in traffic:
        op = kind.ops[int(row["op"])]
        tensor = index.get(_key(kind, int(row["tensor"])))
        if tensor is None or first[tensor] == first[tensor + 1]:
            continue
        at = position.get((op.name, op.occurrence), -1)
        begin, end = int(first[tensor]), int(first[tensor + 1])
        use = max(begin, begin + int(np.searchsorted(uses.position[begin:end], at, side="right")) - 1)
        ns[use] += float(row["read"]) * read_ns + float(row["written"]) * written_ns
    total = float(ns.sum())
    scaled = ns * (max(0.0, saved_ns) / total) if total else ns
    return replace(profile, uses=replace(uses, saved_ns=scaled))


def _line_ns(memory: Memory, preset: Preset) -> float:
    """The ns to read a line, by the compute vCPU alone."""
    return max(LINE / memory.read_bandwidth, memory.read_latency / preset.compute.parallelism)


def _key(kind: Kind, tensor: int) -> tuple[Any, ...]:
    """The key of a traced tensor, as in the profile."""
    t = kind.tensors[tensor]
    if t.op < 0:
        return ("", t.name, 0, t.size)
    return (kind.ops[t.op].name, kind.ops[t.op].occurrence, t.k, t.size)


def _timed(kind: Kind, replayed: Replayed) -> Profile:
    """The kind's profile with the times of a replayed step.

    The profiled step began its operations in an order of its own: each keeps its duration in the trace.
    """
    begins = [float(replayed.event_ns[op.event]) for op in kind.ops]
    ends = [*begins[1:], replayed.step_ns]
    duration = {
        (op.name, op.occurrence): end - begin for op, begin, end in zip(kind.ops, begins, ends, strict=True)
    }
    ops = kind.profile.ops
    keys = zip(ops.name, ops.occurrence.tolist(), strict=True)
    ns = np.array([duration.get(key, 0.0) for key in keys])
    end_ns = np.rint(np.cumsum(ns)).astype(np.int64)
    begin_ns = np.concatenate([[0], end_ns[:-1]])
    return replace(
        kind.profile,
        clock="model",
        step_ns=max(1, int(end_ns[-1])),
        ops=replace(ops, begin_ns=begin_ns, end_ns=end_ns, fast_ns=None),
    )
