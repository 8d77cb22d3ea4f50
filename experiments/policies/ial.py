# SPDX-License-Identifier: Apache-2.0
"""IAL, the paper's page-based baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from experiments.policies.interface import Needs, Policy, ReplayContext

if TYPE_CHECKING:
    from sentinel.replay.engine import Replayed


def replay(context: ReplayContext) -> Replayed:
    """Replay steps with exchanges of active and inactive pages."""
    from sentinel.rivals.ial import Ial

    return context.run_pages(Ial())


POLICY = Policy(
    name="ial",
    description="active pages change places with inactive ones, by accessed bits",
    source="Yan et al., Nimble, ASPLOS 2019",
    needs=Needs(budget="required", preset=True),
    replay=replay,
)
