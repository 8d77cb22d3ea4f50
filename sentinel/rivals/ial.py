# SPDX-License-Identifier: Apache-2.0
"""IAL, the improved active list: active pages of node 1 change places with inactive pages of node 0.

Yan et al., "Nimble Page Management for Tiered Memory Systems", ASPLOS 2019, section 4; the baseline "IAL" of
Ren et al., HPCA 2021. Every period the accessed bits are read, active pages in slow memory are promoted, and
as many inactive pages in fast memory are demoted if there is no room. Differences from the original:

- Its period is 5 s, several steps of the paper's models. Every page of a step is accessed within a step, so
  all accessed bits would be set; here a period is a quarter of a step, which tells pages apart.
- It copies with 4 threads, exchanges both pages of a pair in place, and has huge pages. Here the helper vCPUs
  copy pages of 4 KiB, a demotion before the promotion that needs its place.
- An inactive page needs accesses in two periods to become active, as in Linux for memory with a file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentinel.rivals.exchange import exchange
from sentinel.rivals.lru import Lru

if TYPE_CHECKING:
    from sentinel.replay.paging import Indices, Pages


class Ial:
    """The policy. Original: a decision every 5 s."""

    decisions = 4
    sample = 0

    def __init__(self) -> None:
        self._lru: Lru | None = None

    def decide(self, pages: Pages) -> Indices:
        """Exchange active pages of slow memory for inactive pages of fast memory."""
        if self._lru is None:
            self._lru = Lru(len(pages))
        self._lru.age(pages.take_touched() > 0)
        return exchange(pages, self._lru.hottest(~pages.fast), self._lru.coldest(pages.fast))
