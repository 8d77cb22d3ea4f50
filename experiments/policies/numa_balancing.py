# SPDX-License-Identifier: Apache-2.0
"""NUMA balancing for memory tiers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from experiments.policies.interface import Needs, Policy, ReplayContext

if TYPE_CHECKING:
    from sentinel.replay.engine import Replayed


def replay(context: ReplayContext) -> Replayed:
    """Replay steps with promotions by the latency of hint faults, at a tenth of the slow node's bandwidth."""
    from sentinel.rivals.numa_balancing import NumaBalancing

    return context.run_pages(NumaBalancing(limit=context.preset.nodes[1].write_bandwidth / 10))


POLICY = Policy(
    name="numa-balancing",
    description="pages are promoted if they are accessed soon after they were hidden",
    source="Linux 5.18, kernel.numa_balancing = 2, with demotion",
    needs=Needs(budget="required", preset=True),
    replay=replay,
)
