# SPDX-License-Identifier: Apache-2.0
"""AutoTM's static placement."""

from __future__ import annotations

from typing import TYPE_CHECKING

from experiments.policies.interface import Needs, PlanContext, Policy

if TYPE_CHECKING:
    from sentinel.planner.formats.plan import Plan


def plan(context: PlanContext) -> Plan:
    """The placement without migration that an integer program finds."""
    from sentinel.rivals import autotm

    return context.plan_by(autotm.make_plan)


POLICY = Policy(
    name="autotm",
    description="each tensor in one tier for its whole life, chosen by an integer program",
    source="Hildebrand et al., AutoTM, ASPLOS 2020, static formulation",
    needs=Needs(budget="required", preset=True, profile=True, runtime=True),
    plan=plan,
)
