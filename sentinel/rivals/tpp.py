# SPDX-License-Identifier: Apache-2.0
"""TPP: active pages are promoted by hint faults, and inactive ones make room before it is needed.

Al Maruf et al., "TPP: Transparent Page Placement for CXL-Enabled Tiered-Memory", ASPLOS 2023, section 5; in
Linux since 5.18. Only pages of slow memory are hidden. A page that faults is promoted if it is on the active
list; if not, it is put there, and its next fault promotes it. Inactive pages of fast memory are demoted until
2 % of it are free, apart from allocations. Differences from the original:

- A pass of the scanner takes a step (hint_faults.py), and there are 16 decisions in it: a fault promotes at
  the next decision, not at once.
- The lists of slow memory age only if that is short of memory, which it never is here: so a page is promoted
  by its second fault since it was demoted.
- The lists of fast memory age at every decision, by accessed bits; the kernel ages them when it demotes.
- New pages go to fast memory there; a step has none here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sentinel.rivals.exchange import exchange
from sentinel.rivals.hint_faults import Scanner
from sentinel.rivals.lru import Lru

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sentinel.replay.paging import Indices, Pages

FREE = 0.02  # share of fast memory that demotions keep free (demote_scale_factor)


class Tpp:
    """The policy. Original: 256 MiB are scanned in a period of 1 s or more, 2 % are kept free."""

    decisions = 16
    sample = 0

    def __init__(self) -> None:
        self._lru: Lru | None = None
        self._scanner = Scanner(self.decisions)
        self._active = np.empty(0, dtype=bool)  # pages of slow memory, by a fault

    def decide(self, pages: Pages) -> Indices:
        """Promote pages that faulted twice, keep pages free, and hide the next part of slow memory."""
        if self._lru is None:
            self._lru = Lru(len(pages))
            self._active = np.zeros(len(pages), dtype=bool)
        self._lru.age(pages.take_touched() > 0)
        hot = self._promotable(pages)
        self._scanner.hide_next(pages)
        return exchange(pages, hot, self._lru.coldest(pages.fast), spare=int(np.ceil(FREE * pages.budget)))

    def _promotable(self, pages: Pages) -> Indices:
        """The pages with a fault that were active before it; the others become active."""
        faulted, _ = pages.take_faults()
        faulted = faulted[~pages.fast[faulted]]
        hot: NDArray[np.integer] = faulted[self._active[faulted]]
        self._active[faulted] = True
        self._active[pages.fast] = False
        return hot
