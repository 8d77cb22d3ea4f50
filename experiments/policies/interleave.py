# SPDX-License-Identifier: Apache-2.0
"""Page by page over both nodes."""

from __future__ import annotations

from experiments.policies.interface import GuestSetup, Policy

POLICY = Policy(
    name="interleave",
    description="pages alternate between both nodes, while there is room on node 0",
    source="set_mempolicy(2), MPOL_INTERLEAVE",
    guest=GuestSetup("interleave", (0, 1), limit="interleave"),
)
