# SPDX-License-Identifier: Apache-2.0
"""Weighted interleave."""

from __future__ import annotations

from typing import TYPE_CHECKING

from experiments.policies.interface import Needs, Policy, ReplayContext

if TYPE_CHECKING:
    from sentinel.replay.engine import Replayed


def replay(context: ReplayContext) -> Replayed:
    """Replay a step with pages spread over both nodes."""
    from sentinel.replay import engine
    from sentinel.rivals import weighted_interleave

    placed = weighted_interleave.place(context.trace, context.preset, context.budget)
    return engine.run(context.trace, placed, context.preset)


POLICY = Policy(
    name="weighted-interleave",
    description="pages go to both nodes in the ratio of their bandwidths, while there is room",
    source="Linux 6.9, MPOL_WEIGHTED_INTERLEAVE",
    needs=Needs(budget="required", preset=True),
    replay=replay,
)
