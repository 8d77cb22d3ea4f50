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
- An operation cannot have waited for reads for longer than it took: if its reads are longer, all of them are
  scaled down to it. Not so for writes: what is written leaves the cache later, and the operations that run
  then wait for it. It is charged to those that wrote. An operation that took less time than it would save
  is taken to have taken that.

If it is known how long the step takes with everything in fast memory, what operations would have left is
scaled by one factor so that the prediction of that is right. What is predicted for a plan is then that time
and what is lost in slow memory, which is nearer to the measured than the profiled step less what is saved.

Computing and memory add up, as in the timing model (docs/timing.md); where they overlap on real hardware this
overstates gains. What copies of the helpers take of slow memory's time is in `replay.contention`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import PlannerError
from ..formats.fields import LARGEST
from ..formats.figures import Figures
from ..formats.profile import Profile, Uses

if TYPE_CHECKING:
    from ..formats.fields import Floats, Ints


_LOOKED_THROUGH = 8  # times the cache: what was touched so long ago, tensors counted twice, is gone


@dataclass(frozen=True)
class Costs:
    """Times in ns.

    `slot` is each operation's time with everything in slow memory, until the next begins; `lead` what the
    step has beside; `memory` the part of `slot` that is slow memory's by the estimate; `gain` is for each
    use what fast memory saves, and `saved` the sum for each operation.
    """

    slot: Floats
    lead: float
    memory: Floats
    gain: Floats
    saved: Floats

    @property
    def slow_ns(self) -> float:
        """The step with everything in slow memory: as it was profiled, if the estimates do not say more."""
        return self.lead + float(self.slot.sum())

    @property
    def fast_ns(self) -> float:
        """The step with everything in fast memory."""
        return self.slow_ns - float(self.gain.sum())

    def at_slow(self, slot: Floats) -> Floats:
        """The part of each operation that is slow memory's, if it takes only `slot` ns under a plan."""
        less = np.divide(self.slot - slot, self.saved, out=np.zeros(len(slot)), where=self.saved > 0)
        left: Floats = self.memory * np.clip(1 - less, 0.0, 1.0)
        return left


def costs(profile: Profile, figures: Figures, fast_step_ns: float | None = None) -> Costs:
    """Estimate what every use of a tensor saves in fast memory.

    `fast_step_ns` is the measured time of a step with everything there, if that is known. Raises PlannerError
    if the step would take longer than a plan can say.
    """
    if fast_step_ns is not None and not 0 <= fast_step_ns <= LARGEST:
        raise PlannerError(f"fast_step_ns: must be a number from 0 to 2^62, not {fast_step_ns}")
    ops, u = profile.ops, profile.uses
    n = len(ops)
    end = max(int(ops.end_ns.max()), int(ops.begin_ns[-1]))
    slot = np.diff(ops.begin_ns, append=end).astype(np.float64)
    lead = max(0.0, profile.step_ns - float(slot.sum()))
    bound = np.minimum(slot, (ops.end_ns - ops.begin_ns).astype(np.float64))
    read, written = traffic(profile, figures.cache)
    reading = read * figures.read_ns(1, figures.compute)
    waited = np.bincount(u.position, weights=reading, minlength=n)
    believed = np.minimum(1.0, np.divide(bound, waited, out=np.ones(n), where=waited > 0))
    fast, slow = (
        read * believed[u.position] * figures.read_ns(node, figures.compute)
        + written * figures.write_ns(node)
        for node in (0, 1)
    )
    gain: Floats = slow - fast
    saved = np.bincount(u.position, weights=gain, minlength=n).astype(np.float64)
    rest = np.maximum(slot - saved, 0.0)
    if fast_step_ns is not None:
        rest = rest if rest.any() else np.ones(n)
        rest = rest / rest.sum() * max(0.0, fast_step_ns - lead)
    slot = np.maximum(rest + saved, 0.0)  # the second node may be the faster one
    memory = np.minimum(np.bincount(u.position, weights=slow, minlength=n), slot)
    made = Costs(slot=slot, lead=lead, memory=memory, gain=gain, saved=saved)
    if not (made.slow_ns < LARGEST and made.fast_ns < LARGEST):
        raise PlannerError(
            f"the step is estimated to take {made.slow_ns:.3g} ns in slow memory: the profile's accesses "
            "or the machine's figures cannot be right"
        )
    return made


def traffic(profile: Profile, cache: int) -> tuple[Floats, Floats]:
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
