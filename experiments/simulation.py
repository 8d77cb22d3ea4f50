# SPDX-License-Identifier: Apache-2.0
"""Steps predicted from profiles, without a machine: every policy at every budget, beside the bound.

Nothing is measured here. Results are a document of their own (`FORMAT`), which no command takes for a run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments import planning, profiles
from experiments.policies import Policy
from experiments.profiles import Profiled, Profiles
from sentinel.planner import budget as budgets
from sentinel.planner.check import check
from sentinel.planner.errors import BudgetError
from sentinel.planner.formats import figures as figures_format
from sentinel.planner.formats import files
from sentinel.planner.formats.figures import Figures
from sentinel.planner.formats.plan import Plan
from sentinel.planner.formats.profile import Native
from sentinel.planner.placement.ordinary import fast_shares
from sentinel.planner.policy import MOVE_PAGES, Mechanism
from sentinel.planner.simulate import simulate
from sentinel.planner.timing.cost import Costs, estimate_costs
from testbed.common.errors import UsageError

FORMAT, VERSION = "sentinel-simulation", 1
SIMULATED = "simulated"  # how a result came about


@dataclass(frozen=True)
class Prediction:
    """The predicted step under a policy. `budget` is in bytes; None for policies that it does not affect.

    `bound_ns` is the proven lower bound for this budget, `gap` how much longer the step is. With a `problem`
    there is no prediction.
    """

    policy: str
    share: str
    budget: int | None
    step_ns: float | None = None
    relative_time: float | None = None
    promoted_bytes: int = 0
    demoted_bytes: int = 0
    exposed_ns: float = 0
    bound_ns: float | None = None
    gap: float | None = None
    problem: str = ""
    result: str = SIMULATED


@dataclass(frozen=True)
class Simulation:
    """The predictions for a training process, whose step runs each of its kinds once; times in ns.

    `native` is where the profile was recorded, if that was a host; its kinds were recorded together.
    """

    name: str
    digests: Mapping[str, str]
    peak: int
    fast_ns: float
    slow_ns: float
    native: Native | None = None
    predictions: Sequence[Prediction] = field(default_factory=tuple)

    def to_dict(self) -> dict[str, Any]:
        """The simulation as a JSON value."""
        return {**asdict(self), "predictions": [asdict(row) for row in self.predictions]}


class _Step(NamedTuple):
    ns: float
    promoted: int = 0
    demoted: int = 0
    exposed_ns: float = 0.0


def document(simulations: Sequence[Simulation], figures: Figures, preset: str) -> dict[str, Any]:
    """Return the record of simulations with the figures of one machine."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "result": SIMULATED,
        "preset": preset,
        "figures": figures_format.encode(figures),
        "simulations": [each.to_dict() for each in simulations],
    }


def load(path: Path, fast_step_ns: float | None = None) -> Profiles:
    """Read a profile, or a folder with one for each kind of step. Raises the planner's errors."""
    paths = profiles.by_kind(path) if path.is_dir() else {path.name: path}
    if not paths:
        raise UsageError(f"{path}: has no profiles", hint=f"profiles in a folder end in {profiles.SUFFIX}")
    if fast_step_ns is not None and len(paths) > 1:
        raise UsageError(f"--fast-step-ns is for one kind of step, and {path} has {len(paths)}")
    return Profiles(
        {kind: Profiled(each, files.read_profile(each), fast_step_ns) for kind, each in paths.items()}
    )


def run(
    name: str,
    steps: Profiles,
    policies: Sequence[Policy],
    shares: Sequence[str],
    figures: Figures,
    *,
    mechanism: Mechanism = MOVE_PAGES,
    on_cell: Callable[[str], None] = lambda _: None,
) -> Simulation:
    """Predict a step of a training process under each policy, with each budget in `shares`.

    Policies that can migrate in several ways do so by the mechanism. Each row has the bound of its mechanism.
    `on_cell` is called with what is predicted next. Raises `UsageError` for a policy without a prediction.
    """
    for policy in policies:
        if policy.replay is not None:
            raise UsageError(
                f"policy {policy.name} exists in replays only", hint="use `sentinel replay` with a trace"
            )
    kinds = steps.kinds
    costs = {kind: estimate_costs(p.profile, figures, p.fast_step_ns) for kind, p in kinds.items()}
    fast_ns, slow_ns = (sum(getattr(c, name) for c in costs.values()) for name in ("fast_ns", "slow_ns"))
    rows: list[Prediction] = []
    for policy in policies:
        if policy.needs.budget == "none":
            step = _Step(fast_ns if _node(policy) == 0 else slow_ns)
            rows.append(_prediction(policy.name, "", None, step, fast_ns, None))
    limited = [policy for policy in policies if policy.needs.budget != "none"]
    for share in shares if limited else ():
        budget = budgets.parse(share, steps.peak)
        bounds_ns: dict[Mechanism, float] = {}
        for policy in limited:
            way = policy.mechanism(mechanism)
            if way not in bounds_ns:
                on_cell(f"bound at {share}")
                bounds_ns[way] = sum(
                    profiled.bound(budget, figures, way).step_ns for profiled in kinds.values()
                )
            bound_ns = bounds_ns[way]
            on_cell(f"{policy.name} at {share}")
            try:
                step = _step(policy, kinds, costs, budget, figures, way)
            except BudgetError as e:
                problem = f"below the floor of {e.floor} bytes, {e.floor / steps.peak:.0%} of the peak"
                rows.append(Prediction(policy.name, share, budget, bound_ns=bound_ns, problem=problem))
                continue
            rows.append(_prediction(policy.name, share, budget, step, fast_ns, bound_ns))
    digests = {kind: files.digest(profiled.path) for kind, profiled in kinds.items()}
    native = next(iter(kinds.values())).profile.native
    return Simulation(name, digests, steps.peak, fast_ns, slow_ns, native, rows)


def with_plan(
    simulation: Simulation, profiled: Profiled, plan: Plan, name: str, figures: Figures
) -> Simulation:
    """Add the prediction for a plan that was made for this profile and these figures.

    Raises `UsageError` if it is a plan of another step or machine.
    """
    if broken := check(profiled.profile, plan):
        raise UsageError(f"{name}: {broken[0]}", hint=f"is it a plan of {profiled.path}?")
    if plan.made.get("figures") != figures_format.encode(figures):
        raise UsageError(f"{name}: was made with other figures of the machine", hint="name its --preset")
    step = _of_plan(profiled, plan)
    bound_ns = profiled.bound(plan.budget, figures, plan.made.get("mechanism", MOVE_PAGES)).step_ns
    row = _prediction(name, "", plan.budget, step, simulation.fast_ns, bound_ns)
    return Simulation(**{**vars(simulation), "predictions": [*simulation.predictions, row]})


def _node(policy: Policy) -> int:
    """The node that has all memory under a policy without a budget."""
    setup = policy.guest
    if setup.memory_policy != "bind" or setup.sysctls or setup.nodes not in ((0,), (1,)):
        raise UsageError(f"policy {policy.name} cannot be simulated: where its pages are is not known")
    return setup.nodes[0]


def _step(
    policy: Policy,
    kinds: Mapping[str, Profiled],
    costs: Mapping[str, Costs],
    budget: int,
    figures: Figures,
    mechanism: Mechanism,
) -> _Step:
    """Predict a step of each kind under a policy with a budget."""
    plans = planning.make_plans(policy, kinds, budget, figures, mechanism=mechanism)
    if len(plans) < len(kinds) and policy.guest.limit is None:
        raise UsageError(f"policy {policy.name} cannot be simulated: it made no plan")
    parts = [
        _of_plan(profiled, plans[kind])
        if kind in plans
        else _limited(profiled, costs[kind], budget, interleave=policy.guest.limit == "interleave")
        for kind, profiled in kinds.items()
    ]
    return _Step(*(sum(column) for column in zip(*parts, strict=True)))


def _of_plan(profiled: Profiled, plan: Plan) -> _Step:
    timeline = simulate(profiled.profile, plan).timeline
    page_bytes = profiled.profile.page_bytes  # a variable that moves counts in whole pages
    promoted, demoted = (
        sum(-(-move.size // page_bytes) for move in plan.moves if move.to == node) * page_bytes
        for node in (0, 1)
    )
    return _Step(timeline.step_ns, promoted, demoted, timeline.exposed_ns)


def _limited(profiled: Profiled, costs: Costs, budget: int, *, interleave: bool) -> _Step:
    shares = fast_shares(profiled.profile, budget, interleave=interleave)
    saved_ns = costs.saved_ns * shares[profiled.profile.uses.tensor]
    return _Step(costs.slow_ns - float(np.sum(saved_ns)))


def _prediction(
    policy: str, share: str, budget: int | None, step: _Step, fast_ns: float, bound_ns: float | None
) -> Prediction:
    return Prediction(
        policy=policy,
        share=share,
        budget=budget,
        step_ns=step.ns,
        relative_time=step.ns / fast_ns if fast_ns else None,
        promoted_bytes=step.promoted,
        demoted_bytes=step.demoted,
        exposed_ns=step.exposed_ns,
        bound_ns=bound_ns,
        gap=step.ns / bound_ns - 1 if bound_ns else None,
    )
