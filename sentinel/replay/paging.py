# SPDX-License-Identifier: Apache-2.0
"""Page-based policies: what they see of the runtime's pool, and replays of several steps under one.

A policy knows pages, not tensors. Between parts of a step it sees what hardware or a kernel would show
(accessed bits, sampled misses, hint faults) and names pages to migrate.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from sentinel.replay import engine, library, placement
from sentinel.replay.trace import PAGE
from testbed.common.errors import InfrastructureError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sentinel.replay.engine import Replayed
    from sentinel.replay.trace import Trace
    from testbed.timing.preset import Preset

    Indices = NDArray[np.integer]

READ, WRITTEN = 1, 2  # bits of `touched`
VISIBLE = -1.0  # in `hidden`: the page is not; in `latency`: no hint fault
STEPS = 10  # that a policy has; the last one is the result


class Pages:
    """What a policy sees of its pages. Arrays are by page; the policy clears what it has seen.

    `node` is where each page is, and `touched` has READ and WRITTEN for pages accessed since it was cleared.
    `reads` and `writes` count sampled misses. `hidden` is when a page was hidden, in ns, and `latency` the
    ns from then to the next access, which is a hint fault and shows the page. At most `budget` pages are on
    node 0. `now` is the time in ns, `period` the time between decisions.
    """

    def __init__(self, node: NDArray[np.uint8], budget: int, period: float = 0.0) -> None:
        count = len(node)
        self.node = node
        self.touched = np.zeros(count, dtype=np.uint8)
        self.reads, self.writes = (np.zeros(count, dtype=np.uint32) for _ in range(2))
        self.hidden, self.latency = (np.full(count, VISIBLE) for _ in range(2))
        self.budget, self.period, self.now = budget, period, 0.0

    def __len__(self) -> int:
        return len(self.node)

    @property
    def fast(self) -> NDArray[np.bool_]:
        """Which pages are on node 0."""
        fast: NDArray[np.bool_] = self.node == 0
        return fast

    @property
    def free(self) -> int:
        """The pages of the budget that are not in use."""
        return self.budget - int(np.count_nonzero(self.fast))

    def take_touched(self) -> NDArray[np.uint8]:
        """Return the accessed bits, and clear them."""
        touched = self.touched.copy()
        self.touched[:] = 0
        return touched

    def take_samples(self) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
        """Return the sampled read and write misses, and clear them."""
        samples = self.reads.copy(), self.writes.copy()
        self.reads[:] = self.writes[:] = 0
        return samples

    def hide(self, pages: Indices) -> None:
        """Make the next access to each of these pages a hint fault."""
        self.hidden[pages] = self.now

    def take_faults(self) -> tuple[Indices, NDArray[np.float64]]:
        """Return the pages with a hint fault and the ns for which each was hidden, and clear them."""
        faulted = np.flatnonzero(self.latency >= 0)
        latency = self.latency[faulted].copy()
        self.latency[faulted] = VISIBLE
        return faulted, latency


class PagePolicy(Protocol):
    """A page-based policy."""

    @property
    def decisions(self) -> int:
        """Decisions in a step that runs as long as under first touch."""

    @property
    def sample(self) -> int:
        """Misses for one sample, on average; 0: the policy samples none."""

    def decide(self, pages: Pages) -> Indices:
        """Return pages to migrate to the other node, in order.

        Promotions beyond the budget wait for demotions, or fail if there are none.
        """


@dataclass
class _Decider:
    """Calls a policy from the engine, and keeps an exception until the engine has returned."""

    policy: PagePolicy
    pages: Pages
    paging: library.Paging
    move: tuple[NDArray[np.uint64], NDArray[np.uint64]]
    error: BaseException | None = None

    def __call__(self, now: float) -> int:
        try:
            self.pages.now = now
            chosen = np.asarray(self.policy.decide(self.pages), dtype=np.int64)
            for node, move in enumerate(self.move):
                moved = chosen[self.pages.node[chosen] != node]
                move[: len(moved)] = moved
                self.paging.moves[node] = len(moved)
        except BaseException as e:  # Ctrl-C, too: ctypes would print it and go on
            self.error = e
            return 1
        return 0


def run(
    trace: Trace,
    preset: Preset,
    policy: PagePolicy,
    budget: int,
    *,
    steps: int = STEPS,
    cores: int = 1,
    seed: int = 0,
) -> Replayed:
    """Replay the trace `steps` times under a policy that begins with first touch. Returns the last step.

    `budget` is in bytes of the runtime's pool. `cores` vCPUs migrate. `seed` is that of the samples. Raises
    `UsageError` for presets that cannot be replayed, and what the policy raises.
    """
    begin = placement.first_touch(trace, budget)
    first_touch = engine.run(trace, begin, preset)
    pool = np.flatnonzero(placement.pool_pages(trace))
    first = int(pool[0]) if len(pool) else 0
    pages = Pages(begin.page[pool].copy(), budget // PAGE, first_touch.step_ns / policy.decisions)
    paging = library.Paging(
        first=first,
        count=len(pages),
        budget=pages.budget,
        period=pages.period,
        sample=policy.sample,
        seed=seed,
        **{name: getattr(pages, name).ctypes.data for name in library.PAGING},
    )
    move = (np.zeros(len(pages), dtype=np.uint64), np.zeros(len(pages), dtype=np.uint64))
    for node, array in enumerate(move):
        paging.move[node] = array.ctypes.data
    decider = _Decider(policy, pages, paging, move)
    paging.decide = library.Decide(decider)
    try:
        replayed = engine.run(trace, begin, preset, cores=cores, paging=paging, steps=steps)
    except InfrastructureError:
        if decider.error is not None:
            raise decider.error from None
        raise
    fast = int(np.count_nonzero(pages.fast))
    return replace(replayed, pool_pages=(fast, len(pages) - fast))
