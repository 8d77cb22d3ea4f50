# SPDX-License-Identifier: Apache-2.0
"""HeMem: a page is hot after a few sampled reads or writes, and pages that are written go first.

Raybuck et al., "HeMem: Scalable Tiered Memory Management for Big Data Applications and Real NVM", SOSP 2021,
section 3. Every 10 ms hot pages of slow memory are promoted, at most at 10 GB/s, and cold pages of fast
memory are demoted for them, while there are any. When a page has reached the cooling threshold all counts are
halved. Differences from the original:

- It samples one access in 5,000, of misses and of all stores, for pages of 2 MiB; here one miss in 10, since
  a page of 4 KiB has 512 times fewer. A store counts if it misses the cache.
- Counts are halved at the next decision, not when the page is sampled again.
- Its lists are in order of arrival; here pages that are written come first, then those with more samples.
- It keeps 1 GB of fast memory free for new pages; a step has none here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sentinel.replay.trace import PAGE
from sentinel.rivals.exchange import exchange

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sentinel.replay.paging import Indices, Pages

HOT_READS, HOT_WRITES, COOLING = 8, 4, 18  # samples
RATE = 10.0  # bytes per ns, of promotions


class HeMem:
    """The policy. Original: a sample in 5,000 accesses, a decision every 10 ms."""

    decisions = 100
    sample = 10

    def __init__(self) -> None:
        self._reads: NDArray[np.int64] | None = None
        self._writes = np.empty(0, dtype=np.int64)

    def decide(self, pages: Pages) -> Indices:
        """Promote hot pages, those that are written first; demote cold ones for them."""
        if self._reads is None:
            self._reads, self._writes = (np.zeros(len(pages), dtype=np.int64) for _ in range(2))
        reads, writes = pages.take_samples()
        self._reads += reads
        self._writes += writes
        is_hot = (self._reads >= HOT_READS) | (self._writes >= HOT_WRITES)
        count = self._reads + self._writes
        hot = np.flatnonzero(is_hot & ~pages.fast)
        order = np.lexsort((-count[hot], self._writes[hot] < HOT_WRITES))
        hot = hot[order][: max(1, int(RATE * pages.period / PAGE))]
        cold = np.flatnonzero(~is_hot & pages.fast)
        if count.max(initial=0) >= COOLING:
            self._reads //= 2
            self._writes //= 2
        return exchange(pages, hot, cold[np.argsort(count[cold], kind="stable")])
