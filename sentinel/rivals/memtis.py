# SPDX-License-Identifier: Apache-2.0
"""MEMTIS: a histogram of sampled misses says how hot a page must be for fast memory.

Lee et al., "MEMTIS: Efficient Memory Tiering with Dynamic Page Classification and Page Size Determination",
SOSP 2023, section 4. Each page counts its samples; a histogram has pages by the logarithm of their count. A
page is hot if all pages of its bin and of hotter ones fit into fast memory. Hot pages are promoted, and
others are demoted for them. All counts are halved now and then (cooling). Differences from the original:

- It samples one load in 200 (its misses) and one store in 100,000, for pages of 2 MiB; a page of 4 KiB has
  512 times fewer, so every miss is a sample here, and a store counts if it misses.
- It cools after 2 million samples, which is 64 for each page of 2 MiB in 64 GiB; here after 64 for each page.
- Its migration threads wake every 500 ms, and other threads sample and cool. Here all happens at 8 decisions
  in a step, at most one cooling at each.
- It demotes "warm" pages, of the bin below, after all colder ones; here the coldest page is always the first.
- All pages have 4 KiB: it decides when to split huge pages, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sentinel.rivals.exchange import exchange

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sentinel.replay.paging import Indices, Pages

BINS = 16
COOLING = 64  # samples for each page, on average


def hot_threshold(histogram: NDArray[np.integer], capacity: int) -> int:
    """Return the lowest bin of hot pages (algorithm 1): all of them fit into `capacity`."""
    threshold, size = len(histogram), 0
    while threshold > 1 and size + histogram[threshold - 1] <= capacity:
        threshold -= 1
        size += int(histogram[threshold])
    return threshold


class Memtis:
    """The policy. Original: a sample in 200 loads, cooling after 2 million samples, threads every 500 ms."""

    decisions = 8
    sample = 1

    def __init__(self) -> None:
        self._count: NDArray[np.int64] | None = None
        self._samples = 0

    def decide(self, pages: Pages) -> Indices:
        """Promote hot pages; demote others for them, the coldest first."""
        if self._count is None:
            self._count = np.zeros(len(pages), dtype=np.int64)
        reads, writes = pages.take_samples()
        self._count += reads.astype(np.int64) + writes
        self._samples += int(reads.sum()) + int(writes.sum())
        if self._samples >= COOLING * len(pages):
            self._count //= 2
            self._samples = 0
        bins = np.minimum(np.log2(self._count + 1).astype(np.int64), BINS - 1)
        is_hot = bins >= hot_threshold(np.bincount(bins, minlength=BINS), pages.budget)
        hot, cold = np.flatnonzero(is_hot & ~pages.fast), np.flatnonzero(~is_hot & pages.fast)
        hottest_first = hot[np.argsort(-self._count[hot], kind="stable")]
        return exchange(pages, hottest_first, cold[np.argsort(self._count[cold], kind="stable")])
