# SPDX-License-Identifier: Apache-2.0
"""Memory mode."""

from __future__ import annotations

from typing import TYPE_CHECKING

from experiments.policies.interface import Needs, Policy, ReplayContext

if TYPE_CHECKING:
    from sentinel.replay.engine import Replayed


def replay(context: ReplayContext) -> Replayed:
    """Replay a step with a cache in fast memory."""
    from sentinel.rivals import memory_mode

    return memory_mode.run(context.trace, context.preset, context.budget)


POLICY = Policy(
    name="memory-mode",
    description="node 0 is a direct-mapped cache of node 1, as large as the budget",
    source="Izraelevitz et al., 2019 (arXiv:1903.05714)",
    needs=Needs(budget="required", preset=True),
    replay=replay,
)
