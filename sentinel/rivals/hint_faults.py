# SPDX-License-Identifier: Apache-2.0
"""The kernel's scanner: hides pages of slow memory part by part, so that their next access is a hint fault.

Linux, sched/fair.c (`task_numa_work`), in the mode for memory tiers. It scans 256 MiB of a process's
addresses in a period of at least 1 s, so a pass of 4 GiB takes 16 periods. Here a pass takes one step, since
there are only ten of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from sentinel.replay.paging import Pages


class Scanner:
    """Goes through all pages in order of their addresses, again and again, in `parts` of a pass."""

    def __init__(self, parts: int) -> None:
        self._parts = parts
        self._part = 0

    def hide_next(self, pages: Pages) -> None:
        """Hide the pages of the next part that are in slow memory."""
        begin, end = (len(pages) * part // self._parts for part in (self._part, self._part + 1))
        self._part = (self._part + 1) % self._parts
        pages.hide(begin + np.flatnonzero(~pages.fast[begin:end]))
