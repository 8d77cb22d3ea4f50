# SPDX-License-Identifier: Apache-2.0
"""Sentinel with this project's planner."""

from __future__ import annotations

from typing import TYPE_CHECKING

from experiments.policies.interface import Needs, PlanContext, Policy

if TYPE_CHECKING:
    from sentinel.planner.formats.plan import Plan


def plan(context: PlanContext) -> Plan:
    """The plan with the shortest predicted step among static ones, the paper's, and variants of it."""
    return context.profiled.plan(
        context.budget,
        context.figures,
        policy="sentinel-opt",
        resident=context.resident,
        judge=context.judge,
        mechanism=context.mechanism,
    )


POLICY = Policy(
    name="sentinel-opt",
    description="the plan with the shortest predicted step: static, the paper's, or a variant of it",
    source="docs/planner.md",
    needs=Needs(budget="required", preset=True, profile=True, runtime=True),
    plan=plan,
    joint=True,
    online=True,
    mechanisms=True,
)
