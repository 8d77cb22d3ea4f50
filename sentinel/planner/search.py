# SPDX-License-Identifier: Apache-2.0
"""The search for a plan: from a profile, a budget and the figures of a machine to the best placement.

The paper's objective, read literally, is migration time minus the time that can hide it, and always favours
the longest interval. Here exposed time is never negative, and the policy `sentinel-opt` minimises the
predicted step: exposed time and the accesses that remain in slow memory. The placement without migration is
one of its candidates, so that no plan is predicted to be slower.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from contextlib import suppress
from typing import NamedTuple

import numpy as np

from . import frames
from .assemble import assemble
from .candidates import (
    Candidate,
    best_count,
    sentinel_candidates,
    sentinel_opt_candidates,
    static_candidate,
)
from .errors import BudgetError
from .formats.figures import Figures
from .formats.plan import Plan
from .formats.profile import Profile
from .moves import NO_MIGRATION
from .placement.layout import BY_HEAT, ORDERS
from .placement.place import Placement, place
from .policy import DEFAULT, FRAMES, MOVE_PAGES, Judge, Mechanism, Policy
from .problem import Problem, problems
from .schedule.shares import Relaxed

JUDGED = 16  # plans
MIN_GAIN = 0.03  # minimum gain of migration, as a share of the step; covers costs that the model leaves out


class Choice(NamedTuple):
    """A candidate with addresses, the candidates it was chosen from, and the reason."""

    problem: Problem
    candidates: list[Candidate]
    candidate: Candidate
    placement: Placement
    reason: str


def make_plan(
    profile: Profile,
    budget: int,
    figures: Figures,
    *,
    policy: Policy = DEFAULT,
    fast_step_ns: float | None = None,
    spill: bool = False,
    min_gain: float = MIN_GAIN,
    resident: Set[str] | None = None,
    source: str = "",
    judge: Judge | None = None,
    mechanism: Mechanism = MOVE_PAGES,
    relaxed: Relaxed | None = None,
) -> Plan:
    """Plan the step for `budget` bytes of node 0. Equal input gives an equal plan.

    The policy `sentinel` is the paper's algorithm: it migrates whether or not that pays. `sentinel-opt`
    returns the shortest predicted step; one with migrations must be shorter by `min_gain` than the best one
    without.

    `fast_step_ns` is the measured time of a step with all tensors in fast memory; it improves predictions
    (see `timing.cost`). A `judge` knows better than predictions how long the step of a plan is:
    `sentinel-opt` takes the plan for which it returns least. With `resident`, these variables stay in fast
    memory, and all others in slow memory. `source` is the digest of the profile's file.

    With the `mechanism` frames, `sentinel-opt` plans for migration cores that copy and remap; large
    short-lived tensors then spill where that helps. It begins with `relaxed`, a solution of the linear
    program of the bound (`Bound.relaxed`), or else with a schedule of its own. `sentinel` always migrates
    with `move_pages`.

    Raises BudgetError below the floor: the reserved pool plus the largest long-lived tensor. With `spill`,
    large short-lived tensors are treated as long-lived where that is best (`sentinel`: only below the floor).
    """
    if mechanism == FRAMES and policy != "sentinel":
        options = problems(profile, budget, figures, fast_step_ns, spill=True, resident=resident)
        return frames.make_plan(
            profile,
            budget,
            figures,
            fast_step_ns=fast_step_ns,
            resident=resident,
            relaxed=relaxed,
            others=_static_plans(options, policy, source),
            source=source,
            judge=judge,
        )
    options = problems(profile, budget, figures, fast_step_ns, spill=spill, resident=resident)
    if policy != "sentinel" and judge is not None:
        return _judged_plan(options, judge, policy, source)
    choice = _paper_choice(next(options)) if policy == "sentinel" else _shortest_step(options, min_gain)
    return assemble(*choice, policy=policy, source=source)


def _paper_choice(problem: Problem) -> Choice:
    """Choose the interval length with the least exposed time among those whose tensors fit.

    If none fits, choose the one with the shortest step. All tensors have their own pages.
    """
    candidates = sentinel_candidates(problem)
    no_units = np.zeros(len(problem.units), dtype=bool)

    def paper_rank(candidate: Candidate) -> tuple[bool, float, tuple[int, int]]:
        fits = candidate.needed_bytes < problem.unit_budget
        return (not fits, candidate.timeline.exposed_ns if fits else 0.0, candidate.rank)

    for candidate in sorted(candidates[1:], key=paper_rank):
        placement = place(problem, candidate.schedule, no_units)
        if placement is not None:
            fits = candidate.needed_bytes < problem.unit_budget
            reason = (
                "least exposed time of lengths that fit" if fits else "shortest step, since no length fits"
            )
            return Choice(problem, candidates, candidate, placement, reason)
    placement = place(problem, NO_MIGRATION, ~no_units)
    assert placement is not None  # noqa: S101 -- without units of their own pages the budget always suffices
    return Choice(
        problem, candidates, candidates[0], placement, "no candidate with migration fits the budget"
    )


def _shortest_step(options: Iterator[Problem], min_gain: float) -> Choice:
    choices = [choice for problem in options for choice in _placed_choices(problem)]
    best = min(choices, key=_rank)
    static = min((choice for choice in choices if not choice.placement.schedule.moves), key=_rank)
    limit_ns = (1 - min_gain) * static.placement.timeline.step_ns
    if best.placement.timeline.step_ns < limit_ns:
        return best
    return static._replace(reason=f"no candidate with migration is {min_gain:.0%} faster than without")


def _judged_plan(options: Iterator[Problem], judge: Judge, policy: Policy, source: str) -> Plan:
    """Return the plan with the shortest step by the judge, of those that are predicted to be short."""
    choices = sorted((c for problem in options for c in _placed_choices(problem)), key=_rank)[:JUDGED]
    reason = f"shortest judged step of {len(choices)} plans"
    plans = [assemble(*c._replace(reason=reason), policy=policy, source=source) for c in choices]
    return min(plans, key=judge)


def _placed_choices(problem: Problem) -> Iterator[Choice]:
    """Yield the best candidates with addresses for all tensors.

    The static candidate is laid out in several orders. Candidates with migration are tried twice: only the
    pinned units share addresses, or all units that never migrate.
    """
    candidates, count = sentinel_opt_candidates(problem), best_count(problem)
    reason = f"shortest predicted step of {len(candidates)} candidates"
    all_units = np.ones(len(problem.units), dtype=bool)
    yield from _static_choices(problem, candidates, reason)
    for candidate in sorted(candidates[1:], key=lambda candidate: candidate.rank)[:count]:
        pinned = np.zeros(len(problem.units), dtype=bool)
        pinned[sorted(candidate.pinned)] = True
        for shared in (pinned, all_units):
            placement = place(problem, candidate.schedule, shared)
            if placement is not None:
                yield Choice(problem, candidates, candidate, placement, reason)


def _static_choices(problem: Problem, candidates: list[Candidate], reason: str) -> Iterator[Choice]:
    """Yield placements of the first candidate, the static one."""
    all_units = np.ones(len(problem.units), dtype=bool)
    for order in ORDERS if best_count(problem) > 1 else (BY_HEAT,):
        placement = place(problem, NO_MIGRATION, all_units, order)
        if placement is not None:
            yield Choice(problem, candidates, candidates[0], placement, reason)


def _static_plans(options: Iterator[Problem], policy: Policy, source: str) -> list[Plan]:
    """Return the plan with the shortest predicted step without migration; none below the floor."""
    choices: list[Choice] = []
    with suppress(BudgetError):
        for problem in options:
            choices += _static_choices(problem, [static_candidate(problem)], "no migration")
    return [assemble(*min(choices, key=_rank), policy=policy, source=source)] if choices else []


def _rank(choice: Choice) -> tuple[int, int]:
    return choice.placement.rank
