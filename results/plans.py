# SPDX-License-Identifier: Apache-2.0
"""The plans of a cell: what they predict for a step, and the step that they describe.

A record of a step covers one or several session runs, each of a kind with its own plan.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from results.records import profile_path
from results.runs import Repeat, Run
from results.stats import measured
from sentinel.planner.errors import PlannerError
from sentinel.planner.formats import figures, files
from sentinel.planner.formats.plan import Plan
from sentinel.planner.formats.profile import Profile
from sentinel.planner.simulate import Simulation, simulate
from sentinel.planner.timing.cost import estimate_traffic

_PAGE = 4096


@dataclass(frozen=True)
class Planned:
    """The plan for a kind of step; `kind` is empty if the record does not name it."""

    kind: str
    plan: Plan
    profile_file: Path

    @cached_property
    def profile(self) -> Profile | None:
        """The profile that the plan was made from, or None if the run did not keep it intact."""
        try:
            if files.digest(self.profile_file) != self.plan.made.get("profile"):
                return None
            return files.read_profile(self.profile_file)
        except PlannerError:
            return None

    @cached_property
    def simulation(self) -> Simulation | None:
        """The step that the plan predicts, operation by operation, or None without profile or figures."""
        try:
            return simulate(self.profile, self.plan) if self.profile is not None else None
        except PlannerError:
            return None

    @cached_property
    def traffic(self) -> float | None:
        """Bytes of memory that the step reads and writes, estimated from the profiler's counts, or None."""
        if self.profile is None:
            return None
        try:
            cache_bytes = figures.parse(self.plan.made.get("figures")).cache_bytes
        except PlannerError:
            return None
        read, written = estimate_traffic(self.profile, cache_bytes)
        return float(read.sum() + written.sum())


@dataclass(frozen=True)
class Prediction:
    """What the plans of a cell predict for one measured step. Times in nanoseconds, sizes in bytes.

    `bound_ns` is the proven lower limit of the step time, None if a plan has none.
    """

    step_ns: float
    exposed_ns: float
    promoted: float
    demoted: float
    bound_ns: float | None


def read_plans(run: Run, repeats: Sequence[Repeat]) -> tuple[list[Planned], list[str]]:
    """Return the plans of the first repeat that has any, and a warning for each unreadable one."""
    for repeat in repeats:
        if repeat.plans:
            plans, warnings = [], []
            for kind, path in repeat.plans.items():
                try:
                    plan = files.read_plan(path)
                except PlannerError as e:
                    warnings.append(f"{e}; plan skipped")
                    continue
                plans.append(Planned(kind, plan, profile_path(run.path, str(plan.made.get("profile")))))
            return plans, warnings
    return [], []


def predict(plans: Sequence[Planned], repeats: Sequence[Repeat]) -> Prediction | None:
    """Return the prediction of the mean measured step, or None if a plan for some steps is missing."""
    shares = _shares({planned.kind for planned in plans}, repeats)
    if shares is None:
        return None
    weighted = [(shares[planned.kind], planned.plan) for planned in plans]
    bounds = [share * bound for share, plan in weighted if (bound := _bound_ns(plan)) is not None]
    return Prediction(
        step_ns=sum(share * plan.predicted["step_ns"] for share, plan in weighted),
        exposed_ns=sum(share * plan.predicted["exposed_ns"] for share, plan in weighted),
        promoted=sum(share * _moved(plan, to=0) for share, plan in weighted),
        demoted=sum(share * _moved(plan, to=1) for share, plan in weighted),
        bound_ns=sum(bounds) if len(bounds) == len(weighted) else None,
    )


def _bound_ns(plan: Plan) -> float | None:
    value = plan.predicted.get("bound_ns")
    if not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        return None
    return float(value)


def _shares(kinds: set[str], repeats: Sequence[Repeat]) -> Mapping[str, float] | None:
    """Return how often a measured step runs each kind on average, or None if that is not known.

    A step of a model with as many session runs as there are plans runs each kind once, and its record names
    the first. Otherwise a step runs the kind that its record names.
    """
    steps = [step for repeat in repeats for step in measured(repeat)]
    if not kinds or not steps:
        return None
    if kinds == {""}:
        return {"": 1.0}
    recorded = [step.kind for step in steps]
    session_runs = {n for repeat in repeats for n in _session_runs(repeat)}
    if len(kinds) > 1 and set(recorded) != kinds and session_runs == {len(kinds)}:
        return dict.fromkeys(kinds, 1.0)
    return {kind: recorded.count(kind) / len(recorded) for kind in kinds} if set(recorded) <= kinds else None


def _session_runs(repeat: Repeat) -> list[int]:
    """Return the number of session runs of each measured step, as far as the records tell."""
    counts = [step.runtime.get("steps") for step in repeat.steps]
    return [
        after - before
        for step, before, after in zip(repeat.steps[1:], counts, counts[1:], strict=False)
        if not step.warmup and isinstance(before, int) and isinstance(after, int)
    ]


def _moved(plan: Plan, *, to: int) -> int:
    """Return the bytes that a plan moves to a node, in whole pages as the runtime counts them."""
    return sum(-(-move.size // _PAGE) * _PAGE for move in plan.moves if move.to == to)
