# SPDX-License-Identifier: Apache-2.0
"""The cost model: what an operation saves when a tensor is in fast instead of slow memory.

The profiled step had every tensor in slow memory. An operation's measured time is therefore its compute time
plus its time in slow memory, and its time under a plan is the measured time less the savings of its tensors
in fast memory. The savings are estimates, because a profile has no cache misses: the kernel counts *access
runs* of pages, and a page that alternates with others has many runs whether or not it stays in the cache.

- A use reads its tensor from memory, or writes it there, as often as the accesses of its operation say: their
  number over the tensor's pages. This may be less than once.
- If all data that the operation touches fits into the cache, at most once: later accesses hit. So do reads of
  the operation's own results, since a write that misses fetches nothing (docs/timing.md).
- If the tensor and all tensors used since its last use fit into the cache, reads hit (LRU stack distance of
  whole tensors).
- The reads of an operation take no longer than the operation did; otherwise all of them are scaled down. This
  does not hold for writes: dirty lines leave the cache later, while other operations wait. They are charged
  to the operation that wrote them. An operation that would save more than its time is assumed to take that
  time.

If the profile also has the times of a step with all tensors in fast memory, the difference of an operation's
times is what its tensors save together, and the estimates only divide it among them.

What each use saves may also be known, from a trace of all accesses (sentinel/replay/costs.py): then nothing
is estimated.

If the time of a step with all tensors in fast memory is known, the compute times are scaled by one factor so
that the model predicts it. A plan's prediction is then that time plus the losses in slow memory, which is
closer to measurements than the profiled step less the savings.

The times of a profile that was recorded on a host are computing times: scaled to the modelled socket, and the
memory's time by the estimates is added.

Compute and memory time add up, as in the timing model (docs/timing.md). Real hardware overlaps them, so there
the savings are overestimates. `timeline.contention` models the copies' share of slow memory.
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


_EXACT_CACHES = 8  # a reuse distance beyond this many caches, repeated uses included, is taken for a miss


@dataclass(frozen=True)
class Costs:
    """Times in ns with all tensors in slow memory, and what fast memory saves.

    By operation: `op_ns` until the next one begins; `slow_memory_ns`, the part of it in slow memory;
    `op_saved_ns`, the sum of savings. `saved_ns` is by use. `prologue_ns` is the time of the step before its
    first operation.
    """

    op_ns: Floats
    prologue_ns: float
    slow_memory_ns: Floats
    saved_ns: Floats
    op_saved_ns: Floats

    @property
    def slow_ns(self) -> float:
        """The step with all tensors in slow memory: as profiled, unless the estimates exceed it."""
        return self.prologue_ns + float(self.op_ns.sum())

    @property
    def fast_ns(self) -> float:
        """The step with all tensors in fast memory."""
        return self.slow_ns - float(self.saved_ns.sum())

    def remaining_slow_memory_ns(self, op_ns: Floats) -> Floats:
        """Return the time in slow memory of operations that take only `op_ns` under a plan."""
        saved_share = np.divide(
            self.op_ns - op_ns, self.op_saved_ns, out=np.zeros(len(op_ns)), where=self.op_saved_ns > 0
        )
        remaining: Floats = self.slow_memory_ns * np.clip(1 - saved_share, 0.0, 1.0)
        return remaining


def estimate_costs(profile: Profile, figures: Figures, fast_step_ns: float | None = None) -> Costs:
    """Estimate what each use of a tensor saves in fast memory.

    `fast_step_ns` is the measured time of a step with all tensors in fast memory, if known. Raises
    PlannerError if it is out of range, or if the estimated step exceeds the range of a plan.
    """
    if fast_step_ns is not None and not 0 <= fast_step_ns <= LARGEST:
        raise PlannerError(f"fast_step_ns: must be a number from 0 to 2^62, not {fast_step_ns}")
    ops, u = profile.ops, profile.uses
    n = len(ops)
    op_ns = ops.slot_ns.astype(np.float64)
    prologue_ns = max(0.0, profile.step_ns - float(op_ns.sum()))
    if profile.native is not None:
        op_ns, prologue_ns = op_ns * profile.native.scale, prologue_ns * profile.native.scale
    read_bytes, written_bytes = estimate_traffic(profile, figures.cache_bytes)
    if profile.native is None:
        read_limit_ns = np.minimum(op_ns, (ops.end_ns - ops.begin_ns).astype(np.float64))
        read_ns = np.bincount(
            u.position, weights=read_bytes * figures.read_ns(1, figures.compute_mlp), minlength=n
        )
        scale = np.minimum(1.0, np.divide(read_limit_ns, read_ns, out=np.ones(n), where=read_ns > 0))
        read_bytes = read_bytes * scale[u.position]
    fast_ns, slow_ns = (
        read_bytes * figures.read_ns(node, figures.compute_mlp) + written_bytes * figures.write_ns(node)
        for node in (0, 1)
    )
    saved_ns: Floats = slow_ns - fast_ns
    if profile.native is not None:
        op_ns = op_ns + np.bincount(u.position, weights=slow_ns, minlength=n)
    if u.saved_ns is not None:
        saved_ns = u.saved_ns
    elif ops.fast_ns is not None:
        saved_ns = _divide_savings(ops.fast_ns, op_ns, saved_ns, u)
    op_saved_ns = np.bincount(u.position, weights=saved_ns, minlength=n).astype(np.float64)
    fast_op_ns = np.maximum(op_ns - op_saved_ns, 0.0)
    if fast_step_ns is not None:
        fast_op_ns = fast_op_ns if fast_op_ns.any() else np.ones(n)
        fast_op_ns = fast_op_ns / fast_op_ns.sum() * max(0.0, fast_step_ns - prologue_ns)
    op_ns = np.maximum(fast_op_ns + op_saved_ns, 0.0)  # node 1 may be the faster one
    costs = Costs(
        op_ns=op_ns,
        prologue_ns=prologue_ns,
        slow_memory_ns=np.minimum(np.bincount(u.position, weights=slow_ns, minlength=n), op_ns),
        saved_ns=saved_ns,
        op_saved_ns=op_saved_ns,
    )
    if not (costs.slow_ns < LARGEST and costs.fast_ns < LARGEST):
        raise PlannerError(
            f"the estimated step of {costs.slow_ns:.3g} ns in slow memory is out of range: "
            "check the profile's accesses and the machine's figures"
        )
    return costs


def _divide_savings(fast_op_ns: Ints, op_ns: Floats, estimate_ns: Floats, uses: Uses) -> Floats:
    """Divide what each operation saves, by its times in both memories, in proportion to the estimates.

    If the time in fast memory is not known, or nothing is estimated to be saved, the estimates stay.
    """
    estimate_ns = np.maximum(estimate_ns, 0.0)
    total_ns = np.bincount(uses.position, weights=estimate_ns, minlength=len(op_ns))
    known = (fast_op_ns >= 0) & (total_ns > 0)
    measured_ns = np.maximum(op_ns - fast_op_ns, 0.0)
    factor = np.divide(measured_ns, total_ns, out=np.ones(len(op_ns)), where=known)
    divided: Floats = estimate_ns * factor[uses.position]
    return divided


def estimate_traffic(profile: Profile, cache_bytes: int) -> tuple[Floats, Floats]:
    """Return the bytes that each use reads from memory and writes to it."""
    t, u = profile.tensors, profile.uses
    size = t.resident_bytes[u.tensor].astype(np.float64)
    reads, writes = u.reads > 0, u.writes > 0
    used_bytes = np.where(reads | writes, size, 0.0)
    op_bytes = np.bincount(u.position, weights=used_bytes, minlength=len(profile.ops))
    max_passes = np.where(op_bytes <= cache_bytes, 1.0, np.inf)[u.position]
    read_bytes = np.where(reads, size * np.minimum(max_passes, _passes(profile, u.reads, t.reads)), 0.0)
    written_bytes = np.where(writes, size * np.minimum(max_passes, _passes(profile, u.writes, t.writes)), 0.0)

    # an operation's own results are still in the cache
    read_bytes = np.where((u.position == t.birth[u.tensor]) & (max_passes == 1.0), 0.0, read_bytes)
    bytes_before = np.concatenate(([0.0], np.cumsum(op_bytes)))[u.position]
    reused = np.zeros(len(size), dtype=bool)
    reused[1:] = u.tensor[1:] == u.tensor[:-1]
    distance = np.diff(bytes_before, prepend=0.0)  # an upper bound: tensors count once per use
    inexact = np.flatnonzero(
        reused & (read_bytes > 0) & (distance > cache_bytes) & (distance <= _EXACT_CACHES * cache_bytes)
    )
    distance[inexact] = _reuse_distance(u, size, inexact)
    return np.where(reused & (distance <= cache_bytes), 0.0, read_bytes), written_bytes


def _reuse_distance(u: Uses, size: Floats, uses: Ints) -> Floats:
    """Return for each of `uses` the bytes of distinct tensors used since the previous use of its tensor."""
    next_use = np.full(len(size), np.iinfo(np.int64).max)
    repeated = np.flatnonzero(np.diff(u.tensor) == 0)
    next_use[repeated] = u.position[repeated + 1]
    order = np.argsort(u.position, kind="stable")
    position, next_use, size = u.position[order], next_use[order], size[order]
    begin = np.searchsorted(position, u.position[uses - 1])
    end = np.searchsorted(position, u.position[uses])
    distance = np.zeros(len(uses))
    for k, (a, b, p) in enumerate(zip(begin.tolist(), end.tolist(), u.position[uses].tolist())):
        distance[k] = size[a:b][next_use[a:b] >= p].sum()  # each tensor at its last use before p
    return distance


def _passes(profile: Profile, weights: Ints, accesses: Ints) -> Floats:
    """Return how often each use passes over its tensor.

    `accesses` of the whole step, by tensor, are shared between its uses in proportion to `weights`. A tensor
    without pages is passed over once.
    """
    u = profile.uses
    total = np.bincount(u.tensor, weights=weights, minlength=len(profile.tensors))
    pages = total * -(-profile.tensors.touched // profile.page_bytes)
    passes_per_weight = np.divide(accesses, pages, out=np.ones(len(pages)), where=pages > 0)
    passes: Floats = passes_per_weight[u.tensor] * weights
    return passes
