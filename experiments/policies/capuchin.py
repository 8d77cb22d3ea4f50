# SPDX-License-Identifier: Apache-2.0
"""Capuchin's swaps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from experiments.policies.interface import Needs, PlanContext, Policy

if TYPE_CHECKING:
    from sentinel.planner.formats.plan import Plan


def plan(context: PlanContext) -> Plan:
    """The plan that moves tensors between accesses that are far apart."""
    from sentinel.rivals import capuchin

    return context.plan_by(capuchin.make_plan)


POLICY = Policy(
    name="capuchin",
    description="tensors leave fast memory between accesses that are far apart",
    source="Peng et al., Capuchin, ASPLOS 2020, without recomputation",
    needs=Needs(budget="required", preset=True, profile=True, runtime=True),
    plan=plan,
)
