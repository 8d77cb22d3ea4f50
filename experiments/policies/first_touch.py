# SPDX-License-Identifier: Apache-2.0
"""First touch, the kernel's default."""

from __future__ import annotations

from experiments.policies.interface import GuestSetup, Policy

POLICY = Policy(
    name="first-touch",
    description="a page goes to the node of the CPU that first writes it, while there is room",
    source="set_mempolicy(2), MPOL_DEFAULT",
    guest=GuestSetup(limit="first-touch"),
)
