# SPDX-License-Identifier: Apache-2.0
"""What time an operation saves if a tensor is in fast memory instead of slow, and what a move costs.

The profiled step had every tensor in slow memory, so an operation's measured time is its computing plus the
time of slow memory, and its time under a plan is the measured one less what its tensors in fast memory save.
What that is is an estimate, for nobody counted cache misses: the kernel counts *access runs* of pages, so
that a page which is read in turn with others counts many times whether or not it stays in the cache.

- A use takes its tensor from memory, or brings it there, as often as the accesses counted in its operation
  say: their number over the tensor's pages. Less than once if it was not touched whole.
- At most once if all that the operation touches fits into the cache together: what comes back later hits it,
  and so does what it made itself, for a write that misses fetches nothing (docs/timing.md).
- Not at all for reading if all tensors used since its last use, and itself, fit into the cache (the LRU stack
  distance, of whole tensors).
- The memory time of an operation cannot be longer than the operation: if the sum of its uses is, all of them
  are scaled down to it. So no prediction can be faster than computing without memory.

If it is known how long the step takes with everything in fast memory, all estimates are scaled by one factor
so that the prediction of that is right.

Computing and memory add up, as in the timing model (docs/timing.md); where they overlap on real hardware this
overstates gains. Copies of the helpers take a few percent of a node's bandwidth; that they slow computing
down by as much is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .figures import Figures
from .profile import Profile, Uses

if TYPE_CHECKING:
    from .fields import Floats, Ints


_LOOKED_THROUGH = 8  # times the cache: what was touched so long ago, tensors counted twice, is gone


@dataclass(frozen=True)
class Costs:
    """Times in ns.

    `slot` is each operation's time in the profiled step, until the next begins; `lead` what the step has
    beside; `memory` the part of `slot` that is slow memory's by the estimate; `gain` is for each use what
    fast memory saves.
    """

    slot: Floats
    lead: float
    memory: Floats
    gain: Floats

    @property
    def slow_ns(self) -> float:
        """The step with everything in slow memory: as it was profiled."""
        return self.lead + float(self.slot.sum())

    @property
    def fast_ns(self) -> float:
        """The step with everything in fast memory."""
        return self.slow_ns - float(self.gain.sum())


def costs(profile: Profile, figures: Figures, fast_step_ns: float | None = None) -> Costs:
    """Estimate what every use of a tensor saves in fast memory.

    `fast_step_ns` is the measured time of a step with everything there, if that is known. One that no factor
    explains is met as nearly as can be.
    """
    ops, u = profile.ops, profile.uses
    n = len(ops)
    end = max(int(ops.end_ns.max()), int(ops.begin_ns[-1]))
    slot = np.diff(ops.begin_ns, append=end).astype(np.float64)
    lead = max(0.0, profile.step_ns - float(slot.sum()))
    bound = np.minimum(slot, (ops.end_ns - ops.begin_ns).astype(np.float64))
    read, written = _traffic(profile, figures.cache)
    fast, slow = (
        read * figures.read_ns(node, figures.compute) + written * figures.write_ns(node) for node in (0, 1)
    )
    memory: Floats = np.bincount(u.position, weights=slow, minlength=n).astype(np.float64)
    saved: Floats = np.bincount(u.position, weights=slow - fast, minlength=n).astype(np.float64)
    most = np.divide(bound, memory, out=np.ones(n), where=memory > 0)
    factor = 1.0
    if fast_step_ns is not None:
        factor = _factor(most, saved, lead + float(slot.sum()) - fast_step_ns)
    scale = np.minimum(factor, most)
    return Costs(slot=slot, lead=lead, memory=memory * scale, gain=(slow - fast) * scale[u.position])


def _factor(most: Floats, saved: Floats, target: float) -> float:
    """The factor on all operations, each limited by its `most`, with which they save `target` ns in all."""
    low, high = 0.0, max(1.0, float(most.max()))
    for _ in range(60):
        middle = (low + high) / 2
        if float((np.minimum(middle, most) * saved).sum()) < target:
            low = middle
        else:
            high = middle
    return high


def _traffic(profile: Profile, cache: int) -> tuple[Floats, Floats]:
    """Bytes that each use reads from memory and writes to it."""
    t, u = profile.tensors, profile.uses
    size = t.bytes[u.tensor].astype(np.float64)
    reading, writing = u.reads > 0, u.writes > 0
    touched = np.bincount(
        u.position, weights=np.where(reading | writing, size, 0.0), minlength=len(profile.ops)
    )
    most = np.where(touched <= cache, 1.0, np.inf)[u.position]
    read = np.where(reading, size * np.minimum(most, _passes(profile, u.reads, t.reads)), 0.0)
    written = np.where(writing, size * np.minimum(most, _passes(profile, u.writes, t.writes)), 0.0)

    # what an operation made and reads again is still there
    read = np.where((u.position == t.birth[u.tensor]) & (most == 1.0), 0.0, read)
    before = np.concatenate(([0.0], np.cumsum(touched)))[u.position]
    again = np.zeros(len(size), dtype=bool)
    again[1:] = u.tensor[1:] == u.tensor[:-1]
    since = np.diff(before, prepend=0.0)
    unsure = np.flatnonzero(again & (read > 0) & (since > cache) & (since <= _LOOKED_THROUGH * cache))
    since[unsure] = _distinct(u, size, unsure)
    return np.where(again & (since <= cache), 0.0, read), written


def _distinct(u: Uses, size: Floats, chosen: Ints) -> Floats:
    """Bytes of different tensors that are used from the use before each of the `chosen` ones until that."""
    following = np.full(len(size), np.iinfo(np.int64).max)
    same = np.flatnonzero(np.diff(u.tensor) == 0)
    following[same] = u.position[same + 1]
    order = np.argsort(u.position, kind="stable")
    position, following, ordered = u.position[order], following[order], size[order]
    begin = np.searchsorted(position, u.position[chosen - 1])
    end = np.searchsorted(position, u.position[chosen])
    distinct = np.zeros(len(chosen))
    for k, (a, b, p) in enumerate(zip(begin.tolist(), end.tolist(), u.position[chosen].tolist())):
        distinct[k] = ordered[a:b][following[a:b] >= p].sum()  # each at its last use before
    return distinct


def _passes(profile: Profile, mine: Ints, counted: Ints) -> Floats:
    """For each use how often its tensor was gone through, by the counted accesses and the part of the use
    `mine` in them; once without pages.
    """
    u = profile.uses
    every = np.bincount(u.tensor, weights=mine, minlength=len(profile.tensors))
    whole = every * -(-profile.tensors.touched // profile.page)
    each = np.divide(counted, whole, out=np.ones(len(whole)), where=whole > 0)
    passes: Floats = each[u.tensor] * mine
    return passes
