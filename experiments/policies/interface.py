# SPDX-License-Identifier: Apache-2.0
"""What a policy is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from sentinel.planner.policy import MOVE_PAGES, Mechanism
from testbed.common import names

if TYPE_CHECKING:
    from experiments.profiles import Profiled
    from sentinel.planner.formats.figures import Figures
    from sentinel.planner.formats.plan import Plan
    from sentinel.replay.engine import Replayed
    from sentinel.replay.paging import PagePolicy
    from sentinel.replay.trace import Trace
    from testbed.timing.preset import Preset


@dataclass(frozen=True)
class Needs:
    """What a policy needs from the suite and the machine.

    `budget` is "none" for a policy that a budget of fast memory does not affect, "optional" for one that is
    measured with each budget if the suite has any, "required" for one that is nothing without. `profile`: a
    profile of the model, recorded once per preset. `runtime`: the Sentinel runtime manages the tensors; all
    cells of the suite have it then. `kernel_options`: symbols of the kernel configuration that must be set.
    """

    budget: Literal["none", "optional", "required"] = "optional"
    preset: bool = False
    profile: bool = False
    runtime: bool = False
    kernel_options: tuple[str, ...] = ()

    def __str__(self) -> str:
        """The needs in words, for tables."""
        words = ["budget"] if self.budget == "required" else []
        words += [name for name in ("preset", "profile", "runtime") if getattr(self, name)]
        return ", ".join([*words, *self.kernel_options]) or "-"


@dataclass(frozen=True)
class GuestSetup:
    """What the guest does for a policy.

    `memory_policy` and `nodes` are those of the training process (set_mempolicy(2)), in effect without a
    budget. With a budget, `limit` is the way in which the runtime keeps to it without a plan. `sysctls` are
    kernel settings, written before the first step.
    """

    memory_policy: Literal["default", "preferred", "bind", "interleave"] = "default"
    nodes: tuple[int, ...] = ()
    sysctls: Mapping[str, str] = field(default_factory=dict)
    limit: Literal["first-touch", "interleave"] | None = None


@dataclass(frozen=True)
class PlanContext:
    """What a plan is made from: the profile of a kind of step, the budget in bytes, the machine's figures.

    `resident` names the variables that stay in fast memory; all others stay in slow memory. None: the policy
    decides. `judge`, if there is one, returns the ns of a step with a plan. `mechanism` migrates groups.
    """

    profiled: Profiled
    budget: int
    figures: Figures
    resident: frozenset[str] | None = None
    judge: Callable[[Plan], float] | None = None
    mechanism: Mechanism = MOVE_PAGES

    def plan_by(self, make_plan: Callable[..., Plan]) -> Plan:
        """Plan by the algorithm of another system (sentinel/rivals)."""
        from sentinel.planner.formats import files

        return make_plan(
            self.profiled.profile,
            self.budget,
            self.figures,
            fast_step_ns=self.profiled.fast_step_ns,
            source=files.digest(self.profiled.path),
        )


@dataclass(frozen=True)
class ReplayContext:
    """What a policy is replayed with: a traced step, the budget in bytes, CPUs that migrate, a seed."""

    trace: Trace
    preset: Preset
    budget: int
    cores: int = 1
    seed: int = 0

    def run_pages(self, policy: PagePolicy) -> Replayed:
        """Replay steps under a page-based policy. Returns the last one."""
        from sentinel.replay import paging

        return paging.run(self.trace, self.preset, policy, self.budget, cores=self.cores, seed=self.seed)


@dataclass(frozen=True)
class Policy:
    """A way to use the two tiers.

    `source` cites where the policy comes from. `plan` makes the plan that the runtime executes for a kind of
    step; it may raise the planner's errors, and may return None to run without a plan, within the `limit`.
    `joint`: the plans of several kinds of steps may have the same variables in fast memory, if that is
    faster (`PlanContext.resident`). `online`: the guest can profile, plan and execute the policy by itself.
    `mechanisms`: its plans can migrate in different ways (`PlanContext.mechanism`). A policy with `replay`
    exists in replays only, and is carried out by it.
    """

    name: str
    description: str
    source: str
    needs: Needs = Needs()
    guest: GuestSetup = GuestSetup()
    plan: Callable[[PlanContext], Plan | None] | None = None
    joint: bool = False
    online: bool = False
    mechanisms: bool = False
    replay: Callable[[ReplayContext], Replayed] | None = None

    def __post_init__(self) -> None:
        if not names.is_valid(self.name):
            raise ValueError(f"not a valid policy name: {self.name!r}")
        if self.needs.budget != "none" and not (self.plan or self.guest.limit or self.replay):
            raise ValueError(f"{self.name}: a policy with a budget needs a plan or a limit")
        if self.replay is not None and (self.needs.budget != "required" or self.plan or self.guest.limit):
            raise ValueError(f"{self.name}: a policy with replays needs a budget, and no plan or limit")
        if self.plan is not None and not (self.needs.runtime and self.needs.profile and self.needs.preset):
            raise ValueError(f"{self.name}: a policy with a plan needs a preset, a profile and the runtime")

    @property
    def requirements(self) -> str:
        """What it needs in words, for tables."""
        return f"{self.needs}, replays" if self.replay else str(self.needs)

    def mechanism(self, wanted: Mechanism) -> Mechanism:
        """How its plans migrate where `wanted` is asked for."""
        return wanted if self.mechanisms else MOVE_PAGES

    def order(self, *, budget: int | None = None, plan: str | None = None) -> dict[str, Any]:
        """The policy's part of the order to the training process (sentinel/guest/job.py).

        `budget` is in bytes, `plan` the path of a plan in the guest.
        """
        order = self._sysctls()
        if budget is None:
            memory = {"policy": self.guest.memory_policy, "nodes": list(self.guest.nodes)}
            return {**order, "memory": memory}
        order["fast_memory"] = budget
        if plan is not None:
            order["plan"] = plan
        elif self.guest.limit is not None:
            order["limit"] = self.guest.limit
        elif self.replay is not None:
            order["replay"] = self.name
        return order

    def online_order(self, *, budget: int | str, figures: str, skip: int) -> dict[str, Any]:
        """The policy's part of the order to a process that plans by itself, after `skip` steps.

        `budget` is in bytes or a share of the peak, `figures` the path of the machine's figures in the guest.
        The process waits for its planner: steps meanwhile would take longer to emulate than the planner does.
        """
        online = {"policy": self.name, "fast_memory": budget, "figures": figures, "skip": skip, "wait": True}
        return {**self._sysctls(), "online": online}

    def _sysctls(self) -> dict[str, Any]:
        return {"sysctls": dict(self.guest.sysctls)} if self.guest.sysctls else {}

    def to_dict(self) -> dict[str, Any]:
        """The policy for `--json`."""
        return {
            "description": self.description,
            "source": self.source,
            "needs": {
                "budget": self.needs.budget,
                **{name: getattr(self.needs, name) for name in ("preset", "profile", "runtime")},
                "kernel_options": list(self.needs.kernel_options),
            },
            "guest": {
                "memory_policy": self.guest.memory_policy,
                "nodes": list(self.guest.nodes),
                "sysctls": dict(self.guest.sysctls),
                "limit": self.guest.limit,
            },
            "plans": self.plan is not None,
            "online": self.online,
            "mechanisms": self.mechanisms,
            "replays_only": self.replay is not None,
        }
