# SPDX-License-Identifier: Apache-2.0
"""TPP."""

from __future__ import annotations

from typing import TYPE_CHECKING

from experiments.policies.interface import Needs, Policy, ReplayContext

if TYPE_CHECKING:
    from sentinel.replay.engine import Replayed


def replay(context: ReplayContext) -> Replayed:
    """Replay steps with promotions by hint faults, and demotions that keep pages free."""
    from sentinel.rivals.tpp import Tpp

    return context.run_pages(Tpp())


POLICY = Policy(
    name="tpp",
    description="active pages are promoted by hint faults, inactive ones demoted to keep pages free",
    source="Maruf et al., TPP, ASPLOS 2023",
    needs=Needs(budget="required", preset=True),
    replay=replay,
)
