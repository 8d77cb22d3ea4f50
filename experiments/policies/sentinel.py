# SPDX-License-Identifier: Apache-2.0
"""Sentinel as published."""

from __future__ import annotations

from typing import TYPE_CHECKING

from experiments.policies.interface import Needs, PlanContext, Policy

if TYPE_CHECKING:
    from sentinel.planner.formats.plan import Plan


def plan(context: PlanContext) -> Plan:
    """The paper's plan: the migration interval that exposes the least migration time."""
    return context.profiled.plan(context.budget, context.figures, policy="sentinel")


POLICY = Policy(
    name="sentinel",
    description="the paper's algorithm: a reserved pool, and promotion for each migration interval",
    source="Ren et al., HPCA 2021, section 4",
    needs=Needs(budget="required", preset=True, profile=True, runtime=True),
    plan=plan,
    online=True,
)
