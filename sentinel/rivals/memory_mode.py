# SPDX-License-Identifier: Apache-2.0
"""Memory mode: fast memory is a direct-mapped cache of slow memory, which hardware manages by line.

Izraelevitz et al., "Basic Performance Measurements of the Intel Optane DC Persistent Memory Module", 2019
(arXiv:1903.05714), section 2.1. Differences from the original:

- The cache is as large as the budget, and only memory of the runtime's pool is behind it. Other memory is on
  node 0, as under all policies.
- Consecutive pages of the pool are consecutive in the cache, as if physical memory were in order; scattered
  pages collide more often.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sentinel.replay import engine, placement
from sentinel.replay.trace import PAGE

if TYPE_CHECKING:
    from sentinel.replay.engine import Replayed
    from sentinel.replay.trace import Trace
    from testbed.timing.preset import Preset


def run(trace: Trace, preset: Preset, budget: int) -> Replayed:
    """Replay the trace twice, since the first step fills the cache. Returns the second step.

    `budget` is in bytes; a part of a page is not used. `hits_near` of the counters are hits in fast memory.
    """
    scenario = placement.pool_on(trace, np.ones(len(trace.pages), dtype=bool))
    return engine.run(trace, scenario, preset, steps=2, near=budget // PAGE * PAGE)
