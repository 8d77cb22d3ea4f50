# SPDX-License-Identifier: Apache-2.0
"""NUMA balancing for memory tiers: a page is promoted if its hint fault comes soon after it was hidden.

Linux, sched/fair.c (`should_numa_migrate_memory`), mode NUMA_BALANCING_MEMORY_TIERING since 5.18, and
kswapd's demotions (/sys/kernel/mm/numa/demotion_enabled). While a sixteenth of fast memory is free, every
fault promotes. Else one promotes if its latency is below a threshold, and the rate of promotions below a
limit. The threshold is adjusted in 16 steps, up to twice its initial value, so that as many pages as the
limit allows are below it. Differences from the original:

- The initial threshold is 1 s and adjusted every 60 s, and the limit is for a second; all are a step here. A
  pass of the scanner takes a step, too (hint_faults.py), and there are 16 decisions in it: a fault promotes
  at the next one, not at once.
- The limit is a tenth of the bandwidth with which node 1 is written, as
  Documentation/admin-guide/sysctl/kernel.rst advises; the default, 64 GiB/s, never binds.
- kswapd demotes as soon as a page does not fit, until 0.3 % are free; here in the same decision. Its lists
  age at every decision, by accessed bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sentinel.replay.trace import PAGE
from sentinel.rivals.exchange import exchange
from sentinel.rivals.hint_faults import Scanner
from sentinel.rivals.lru import Lru

if TYPE_CHECKING:
    from sentinel.replay.paging import Indices, Pages

STEPS = 16  # of the threshold (NUMA_MIGRATION_ADJUST_STEPS)
ENOUGH = 1 / 16  # share of fast memory: with more of it free, every fault promotes
FREE = 0.003  # share of fast memory that kswapd keeps free (three times watermark_scale_factor)


class NumaBalancing:
    """The policy. `limit` is that of promotions, in bytes per ns.

    Original: 256 MiB are scanned in a period of 1 s or more; a threshold of 1 s, adjusted every 60 s.
    """

    decisions = 16
    sample = 0

    def __init__(self, limit: float) -> None:
        self.threshold = 0.0  # ns; 0: the initial one
        self._limit = limit
        self._lru: Lru | None = None
        self._scanner = Scanner(self.decisions)
        self._adjusted = self._second = 0.0  # when the threshold was adjusted, and the limit began anew
        self._candidates = self._promoted = 0  # since then

    def decide(self, pages: Pages) -> Indices:
        """Promote pages with a short latency, keep pages free, and hide the next part of slow memory."""
        if self._lru is None:
            self._lru = Lru(len(pages))
            self._adjusted = self._second = pages.now - pages.period
        self._lru.age(pages.take_touched() > 0)
        hot = self._promotable(pages)
        self._scanner.hide_next(pages)
        return exchange(pages, hot, self._lru.coldest(pages.fast), spare=int(np.ceil(FREE * pages.budget)))

    def _promotable(self, pages: Pages) -> Indices:
        """The promotable pages, by address: each had a hint fault."""
        faulted, latency = pages.take_faults()
        slow = ~pages.fast[faulted]
        faulted, latency = faulted[slow], latency[slow]
        if pages.free > ENOUGH * pages.budget:
            self.threshold = 0.0
            return faulted
        self._adjust(pages)
        hot = faulted[latency < (self.threshold or self._step(pages))]
        self._candidates += len(hot)
        return hot[: self._allowed(pages, len(hot))]

    def _step(self, pages: Pages) -> float:
        return self.decisions * pages.period

    def _allowed(self, pages: Pages, candidates: int) -> int:
        """How many of the candidates the limit allows (`numa_promotion_rate_limit`)."""
        if pages.now - self._second >= self._step(pages):
            self._second, self._promoted = pages.now, 0
        allowed = max(0, int(self._limit * self._step(pages) / PAGE) - self._promoted)
        self._promoted += min(allowed, candidates)
        return allowed

    def _adjust(self, pages: Pages) -> None:
        """Adjust the threshold once in a step (`numa_promotion_adjust_threshold`)."""
        initial = self._step(pages)
        elapsed = pages.now - self._adjusted
        if elapsed < initial:
            return
        wanted, unit = self._limit * elapsed / PAGE, 2 * initial / STEPS
        threshold = self.threshold or initial
        if self._candidates > 1.1 * wanted:
            threshold = max(threshold - unit, unit)
        elif self._candidates < 0.9 * wanted:
            threshold = min(threshold + unit, 2 * initial)
        self.threshold, self._adjusted, self._candidates = threshold, pages.now, 0
