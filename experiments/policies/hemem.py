# SPDX-License-Identifier: Apache-2.0
"""HeMem."""

from __future__ import annotations

from typing import TYPE_CHECKING

from experiments.policies.interface import Needs, Policy, ReplayContext

if TYPE_CHECKING:
    from sentinel.replay.engine import Replayed


def replay(context: ReplayContext) -> Replayed:
    """Replay steps with pages that are hot by sampled misses in fast memory."""
    from sentinel.rivals.hemem import HeMem

    return context.run_pages(HeMem())


POLICY = Policy(
    name="hemem",
    description="pages with enough sampled reads or writes, those that are written first",
    source="Raybuck et al., HeMem, SOSP 2021",
    needs=Needs(budget="required", preset=True),
    replay=replay,
)
