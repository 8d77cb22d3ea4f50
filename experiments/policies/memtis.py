# SPDX-License-Identifier: Apache-2.0
"""MEMTIS."""

from __future__ import annotations

from typing import TYPE_CHECKING

from experiments.policies.interface import Needs, Policy, ReplayContext

if TYPE_CHECKING:
    from sentinel.replay.engine import Replayed


def replay(context: ReplayContext) -> Replayed:
    """Replay steps with pages placed by a histogram of sampled misses."""
    from sentinel.rivals.memtis import Memtis

    return context.run_pages(Memtis())


POLICY = Policy(
    name="memtis",
    description="the pages with most sampled misses, as many as fit, by a histogram",
    source="Lee et al., MEMTIS, SOSP 2023",
    needs=Needs(budget="required", preset=True),
    replay=replay,
)
