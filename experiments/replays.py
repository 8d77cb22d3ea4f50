# SPDX-License-Identifier: Apache-2.0
"""Policies on a traced step: placements without a plan, and plans made from the trace's own costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from experiments.policies import PlanContext, Policy, ReplayContext
from experiments.profiles import Profiled, figures_of
from sentinel.planner.formats.plan import Plan
from sentinel.planner.memory import classify
from sentinel.planner.policy import MOVE_PAGES, Mechanism
from sentinel.replay import costs, engine, placement, planned, record
from sentinel.replay.engine import Replayed, Scenario
from sentinel.replay.trace import Kind, Trace
from testbed.common.errors import UsageError
from testbed.timing.preset import Preset

_PLACEMENTS: dict[tuple[str, tuple[int, ...]], Callable[[Trace], Scenario]] = {  # by policy and nodes
    (policy, (node,)): scenario
    for policy in ("bind", "preferred")
    for node, scenario in ((0, placement.fast_only), (1, placement.slow_only))
}


@dataclass(frozen=True)
class Row:
    """A policy with a budget in bytes, or without one, replayed; with a plan its scenario and kind."""

    policy: str
    budget: int | None
    replayed: Replayed
    plan: Plan | None = None
    scenario: Scenario | None = None
    kind: Kind | None = None

    def statistics(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return what the runtime records before the step and after it; the totals grow by what that did.

        With a plan, the second one has the times of the step.
        """
        total, times = record.counters(self.replayed), {}
        if self.scenario is not None and self.kind is not None:
            times = record.executed(self.replayed, self.scenario, self.kind)
        return {"total": dict.fromkeys(total, 0)}, {"total": total, **times}


class Replays:
    """Replays one trace with one preset, on a machine with a number of migration cores.

    `seed` is that of policies that sample. Raises `UsageError` for presets that cannot be replayed.
    """

    def __init__(
        self, trace: Trace, path: Path, preset: Preset, *, migration_cores: int = 1, seed: int = 0
    ) -> None:
        self.trace, self.preset, self.seed = trace, preset, seed
        self._path, self._cores = path, migration_cores

    @property
    def peak(self) -> int:
        """The largest peak of all kinds, in bytes."""
        return max(classify.peak(kind.profile) for kind in self.trace.kinds.values())

    @cached_property
    def kind(self) -> Kind:
        """The only kind of step. Raises `UsageError` if there are several."""
        if len(self.trace.kinds) != 1:
            raise UsageError("the traced step has several kinds, whose plans cannot be replayed")
        return next(iter(self.trace.kinds.values()))

    @cached_property
    def fast(self) -> Replayed:
        """The step in fast memory, to which others are compared."""
        return self._replay(placement.fast_only(self.trace))

    @cached_property
    def costs(self) -> costs.Costs:
        """The exact costs of the kind's operations."""
        return costs.measure(self.trace, self.kind, self.preset, self.fast)

    def run(self, policy: Policy, budget: int | None, *, mechanism: Mechanism = MOVE_PAGES) -> Row:
        """Replay a policy, whose plans migrate by the mechanism if they can.

        Raises `UsageError` if it cannot be replayed, and the planner's errors.
        """
        if policy.plan is None:
            return Row(policy.name, budget, self._unplanned(policy, budget))
        if budget is None:
            raise UsageError(f"policy {policy.name} needs --fast-memory")
        profiled = Profiled(self._path, self.costs.profile, self.costs.fast.step_ns)
        figures = figures_of(self.preset, helpers=self._cores)
        way = policy.mechanism(mechanism)
        context = PlanContext(profiled, budget, figures, judge=self.step_ns, mechanism=way)
        plan = policy.plan(context)
        if plan is None:
            return Row(policy.name, budget, self._unplanned(policy, budget))
        return self.run_plan(policy.name, plan)

    def step_ns(self, plan: Plan) -> float:
        """Return the ns of a step with the plan, to judge it."""
        return self.run_plan("", plan).replayed.step_ns

    def run_plan(self, policy: str, plan: Plan) -> Row:
        """Replay a plan. Raises `UsageError` if it is of another graph."""
        scenario = planned.planned(self.trace, self.kind, plan)
        replayed = self._replay(scenario)
        if replayed.pages["late"]:  # the runtime tries both ways and keeps the faster one
            cancelling = self._replay(scenario, waiting=False)
            replayed = min(replayed, cancelling, key=lambda r: r.step_ns)
        return Row(policy, plan.budget, replayed, plan, scenario, self.kind)

    def run_limit(self, limit: str, budget: int) -> Replayed:
        """Replay a limit of fast memory (GuestSetup.limit), `budget` in bytes."""
        placements = {"first-touch": placement.first_touch, "interleave": placement.interleave}
        return self._replay(placements[limit](self.trace, budget))

    def can_place(self, policy: Policy) -> bool:
        """Whether a policy without a plan and a limit can be replayed."""
        return (policy.guest.memory_policy, policy.guest.nodes) in _PLACEMENTS

    def run_memory(self, policy: str, nodes: tuple[int, ...]) -> Replayed:
        """Replay a memory policy of the training process. Raises `UsageError` if it is not of one node."""
        if (policy, nodes) not in _PLACEMENTS:
            raise UsageError(
                f"the memory policy {policy} is carried out by the kernel: it cannot be replayed"
            )
        return self._replay(_PLACEMENTS[policy, nodes](self.trace))

    def _unplanned(self, policy: Policy, budget: int | None) -> Replayed:
        """Replay a policy without a plan. Raises `UsageError` if it cannot be."""
        if budget is not None and policy.replay is not None:
            return policy.replay(ReplayContext(self.trace, self.preset, budget, self._cores, self.seed))
        if budget is not None and policy.guest.limit is not None:
            return self.run_limit(policy.guest.limit, budget)
        if policy.needs.budget == "required" or policy.guest.limit is not None:
            raise UsageError(f"policy {policy.name} needs --fast-memory")
        return self.run_memory(policy.guest.memory_policy, policy.guest.nodes)

    def _replay(self, scenario: Scenario, *, waiting: bool = True) -> Replayed:
        return engine.run(self.trace, scenario, self.preset, cores=self._cores, waiting=waiting)
