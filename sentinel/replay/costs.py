# SPDX-License-Identifier: Apache-2.0
"""Exact costs of operations: a profile whose times come from replays of its trace.

A profile recorded in a machine has the times of one preset, and estimates of what fast memory saves. A trace
gives the time of each operation in slow and in fast memory for any preset.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from sentinel.planner.fast_times import with_fast_times
from sentinel.replay import engine, placement

if TYPE_CHECKING:
    from sentinel.planner.formats.profile import Profile
    from sentinel.replay.engine import Replayed
    from sentinel.replay.trace import Kind, Trace
    from testbed.timing.preset import Preset


@dataclass(frozen=True)
class Costs:
    """The steps in slow and in fast memory, and the profile with their times."""

    slow: Replayed
    fast: Replayed
    profile: Profile


def measure(trace: Trace, kind: Kind, preset: Preset) -> Costs:
    """Replay a trace in slow and in fast memory."""
    slow = engine.run(trace, placement.slow_only(trace), preset)
    fast = engine.run(trace, placement.fast_only(trace), preset)
    return Costs(slow, fast, with_fast_times(_timed(kind, slow), _timed(kind, fast)))


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
