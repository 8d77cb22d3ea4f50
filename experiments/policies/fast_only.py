# SPDX-License-Identifier: Apache-2.0
"""Fast memory only: the reference for every other policy."""

from __future__ import annotations

from experiments.policies.interface import GuestSetup, Needs, Policy

POLICY = Policy(
    name="fast-only",
    description="all memory on node 0; pages allocated before training are migrated there",
    source="set_mempolicy(2), MPOL_BIND",
    needs=Needs(budget="none"),
    guest=GuestSetup("bind", (0,)),
)
