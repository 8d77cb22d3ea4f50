# SPDX-License-Identifier: Apache-2.0
"""Slow memory only: the lower end of the scale."""

from __future__ import annotations

from experiments.policies.interface import GuestSetup, Needs, Policy

POLICY = Policy(
    name="slow-only",
    description="all memory on node 1; pages allocated before training are migrated there",
    source="set_mempolicy(2), MPOL_BIND",
    needs=Needs(budget="none"),
    guest=GuestSetup("bind", (1,)),
)
