# SPDX-License-Identifier: Apache-2.0
"""The kernel's active and inactive lists, aged by accessed bits.

Linux, mm/swap.c (`mark_page_accessed`) and mm/vmscan.c: an inactive page that is referenced twice in a row
becomes active; an active page that is not referenced becomes inactive. Here all pages are looked at at once,
and each node's lists are the parts of the same two lists.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sentinel.replay.paging import Indices


class Lru:
    """Both lists of `count` pages, all of which are inactive at first."""

    def __init__(self, count: int) -> None:
        self.active = np.zeros(count, dtype=bool)
        self._referenced = np.zeros(count, dtype=bool)  # inactive pages, since they were looked at last
        self._joined = np.zeros(count, dtype=np.int64)  # active: its list; inactive: referenced last
        self._clock = 0

    def age(self, touched: NDArray[np.bool_]) -> None:
        """Look at the pages once: `touched` are those accessed since the last time."""
        self._clock += 1
        activated = touched & ~self.active & self._referenced
        deactivated = self.active & ~touched
        self._referenced = touched & ~self.active & ~activated
        self.active ^= activated | deactivated
        self._joined[activated | deactivated | self._referenced] = self._clock

    def hottest(self, pages: NDArray[np.bool_]) -> Indices:
        """Return the active ones of the pages, those that have been active for longest first."""
        return self._in_order(pages & self.active)

    def coldest(self, pages: NDArray[np.bool_]) -> Indices:
        """Return the inactive ones of the pages, least recently accessed first; not those just accessed."""
        return self._in_order(pages & ~self.active & ~self._referenced)

    def _in_order(self, pages: NDArray[np.bool_]) -> Indices:
        chosen = np.flatnonzero(pages)
        return chosen[np.argsort(self._joined[chosen], kind="stable")]
