# SPDX-License-Identifier: Apache-2.0
"""Weighted interleave: pages go to both nodes in the ratio of the nodes' bandwidths.

Linux since 6.9, MPOL_WEIGHTED_INTERLEAVE (mm/mempolicy.c): together the nodes have more bandwidth than
either. Differences from the original:

- The kernel's weights are whole numbers, and it allocates as many pages in a row from a node. Here the ratio
  is that of the read bandwidths, as it is, and the pages are spread evenly.
- When the budget is used up, all further pages are in slow memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sentinel.replay import placement
from sentinel.replay.trace import PAGE

if TYPE_CHECKING:
    from sentinel.replay.engine import Scenario
    from sentinel.replay.trace import Trace
    from testbed.timing.preset import Preset


def place(trace: Trace, preset: Preset, budget: int) -> Scenario:
    """Place the pages of the pool, at most `budget` bytes of them on node 0."""
    fast, slow = (node.read_bandwidth for node in preset.nodes)
    pool = np.flatnonzero(placement.pool_pages(trace))
    fast_before = np.floor(np.arange(len(pool) + 1) * (fast / (fast + slow)))
    is_fast = (np.diff(fast_before) > 0) & (fast_before[1:] <= budget // PAGE)
    is_slow = np.ones(len(trace.pages), dtype=bool)
    is_slow[pool[is_fast]] = False
    return placement.pool_on(trace, is_slow)
