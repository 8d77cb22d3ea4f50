# SPDX-License-Identifier: Apache-2.0
"""From a profile, a budget and the figures of a machine to a plan.

The published objective, read literally, minimises the time of migration less the time it can hide in, and so
always takes the largest interval. Here the time that is not hidden is never less than zero, and what is
minimised is the predicted time of the whole step: exposed migration and the accesses that stay in slow
memory. The number of layers of an interval is chosen by the rule as published; for the best of them variants
of the rule are tried; and the placement without migration is a candidate like any other, so that no plan is
predicted to be slower than it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from . import figures as figures_format
from . import intervals
from .classify import LONG, OUTSIDE, SHORT, VARIABLES
from .errors import BudgetError
from .figures import Figures
from .plan import Group, Move, Placed, Plan
from .problem import Problem, prepare
from .profile import Profile
from .replay import Timeline, in_fast_memory, replay
from .schedule import Rule, Schedule, schedule
from .static import static
from .tables import Positions, Tables
from .visits import Visits, visits

BY = "sentinel planner 1"
# So many numbers of layers are tried, more for small profiles than for large ones, for trying one takes time
# in proportion to operations and uses. Variants are tried for as many of the best as there are tens of them.
_LEAST, _MOST, _EFFORT = 10, 40, 100_000
_SPILL = (1.0, 0.75, 0.5, 0.25)  # shares of the budget that the pool may have
_KEEP = (0.25, 0.5, 0.75, 0.9, 0.97)  # quantiles of what staying is worth, at which a unit stays
_PINNED = (0.25, 0.5, 0.75)  # shares of the room for what stays for all its life


@dataclass(frozen=True)
class Candidate:
    """A schedule and its prediction; `needed` is the most bytes that an interval uses (Tensor(MIL))."""

    name: str
    layers: int
    starts: list[int]
    schedule: Schedule
    timeline: Timeline
    moved_bytes: int
    needed: int

    @property
    def order(self) -> tuple[int, int]:
        """What is minimised: the step's time, and of equal ones what is moved. Whole ns: sums have noise."""
        return (round(self.timeline.step_ns), self.moved_bytes)


def make(
    profile: Profile,
    budget: int,
    figures: Figures,
    *,
    fast_step_ns: float | None = None,
    spill: bool = False,
    source: str = "",
) -> Plan:
    """The plan with the shortest predicted step for `budget` bytes of node 0; equal input gives an equal
    plan.

    `fast_step_ns` is the measured time of a step with everything in fast memory, if that is known: it makes
    the predictions better (see `cost`). `source` is the digest of the profile's file. Raises BudgetError
    below the floor: the reserved pool plus the largest long-lived tensor. With `spill`, short-lived tensors
    are taken for long-lived ones, or left out, before it comes to that, which the paper does not.
    """
    plans = []
    for problem in _problems(profile, budget, figures, fast_step_ns, spill):
        found = candidates(problem)
        plans.append(assemble(problem, min(found, key=lambda one: one.order), found, source=source))
    return min(plans, key=lambda plan: int(plan.predicted["step_ns"]))


def _problems(
    profile: Profile, budget: int, figures: Figures, fast_step_ns: float | None, spill: bool
) -> list[Problem]:
    """What to make a plan for: one problem, or below the floor with `spill` some with smaller pools."""
    try:
        return [prepare(profile, budget, figures, fast_step_ns)]
    except BudgetError:
        if not spill:
            raise
    found = []
    for share in _SPILL:
        try:
            found.append(prepare(profile, budget, figures, fast_step_ns, spill=share))
        except BudgetError as e:
            error = e
    if not found:
        raise error
    return found


def assemble(problem: Problem, best: Candidate, found: list[Candidate], *, source: str = "") -> Plan:
    """The plan that carries out `best`, one of the candidates `found`."""
    profile, fast = problem.profile, best.schedule.fast
    return Plan(
        graph=profile.graph,
        ops=len(profile.ops),
        budget=problem.budget,
        reserved=problem.reserved,
        arena=problem.units.arena,
        interval_layers=best.layers,
        intervals=best.starts,
        tensors=_placed(problem, fast),
        groups=_groups(problem, fast),
        moves=_moves(problem, best.schedule),
        waits=best.schedule.waits,
        predicted=_predicted(problem, best, found),
        made={
            "profile": source,
            "by": BY,
            "figures": figures_format.encode(problem.figures),
            "fast_step_ns": problem.fast_step_ns,
        },
    )


def candidates(problem: Problem) -> list[Candidate]:
    """Without migration; as published, by number of layers; variants of the best of those."""
    everything = len(intervals.layer_starts(problem.profile))
    found = [candidate(problem, "static", everything, [0], static(problem), 0)]
    if not len(problem.units):
        return found
    guess: frozenset[int] = frozenset()
    positions = Positions(problem)
    published: list[tuple[Candidate, Tables]] = []
    size = len(positions.slot) + len(problem.use_unit)
    tried = min(_MOST, max(_LEAST, _EFFORT // size))
    for layers in intervals.candidates(problem.profile, tried):
        tables = Tables(positions, visits(problem, intervals.starts(problem.profile, layers)))
        one, guess = _by_interval(problem, tables, Rule(layers), guess)
        published.append((one, tables))
    found += [one for one, _ in published]
    published.sort(key=lambda pair: pair[0].order)
    for best, tables in published[: tried // _LEAST]:
        guess = frozenset(u for u in best.schedule.fast if problem.units.variable[u])
        roomy, guess = _by_interval(problem, tables, Rule(best.layers, headroom=True), guess)
        found.append(roomy)
        for rule in _variants(problem, tables.visits, Rule(best.layers, headroom=roomy.order < best.order)):
            one, guess = _by_interval(problem, tables, rule, guess)
            found.append(one)
    return found


def _variants(problem: Problem, visits: Visits, rule: Rule) -> list[Rule]:
    worth = visits.stay[(visits.next >= 0) & (visits.apart > 1) & np.isfinite(visits.stay)]
    keeps = sorted(set(np.quantile(worth, _KEEP).tolist())) if len(worth) else []
    return [
        *(rule._replace(keep=keep) for keep in keeps),
        *(rule._replace(share=share, pinned=static(problem, share).fast) for share in _PINNED),
    ]


def _by_interval(
    problem: Problem, tables: Tables, rule: Rule, guess: frozenset[int]
) -> tuple[Candidate, frozenset[int]]:
    """A candidate, and the variables in fast memory when its step begins: a guess for the next one."""
    made = schedule(tables, rule, guess)
    v = tables.visits
    needed = np.bincount(v.interval, weights=problem.units.size[v.unit])
    one = candidate(problem, rule.name, rule.layers, tables.starts, made, int(needed.max(initial=0)))
    return one, frozenset(unit for unit in made.fast if problem.units.variable[unit])


def candidate(
    problem: Problem, name: str, layers: int, starts: list[int], made: Schedule, needed: int
) -> Candidate:
    """A schedule with its prediction."""
    return Candidate(
        name=name,
        layers=layers,
        starts=starts,
        schedule=made,
        timeline=predict(problem, made),
        moved_bytes=sum(int(problem.units.size[move.unit]) for move in made.moves),
        needed=needed,
    )


def predict(problem: Problem, made: Schedule) -> Timeline:
    """The predicted step of a schedule."""
    born_fast = np.zeros(len(problem.units), dtype=bool)
    born_fast[sorted(made.fast)] = True
    fast = in_fast_memory(problem.use_unit, problem.use_position, born_fast, made.moves)
    n = len(problem.slot)
    saved = np.bincount(problem.use_position, weights=np.where(fast, problem.use_gain, 0.0), minlength=n)
    times = [float(problem.move_ns[move.to][move.unit]) for move in made.moves]
    return replay(problem.slot - saved, problem.costs.lead, made.moves, times, made.waits, problem.figures)


def _tensor_order(problem: Problem) -> list[int]:
    return np.flatnonzero(problem.classes != OUTSIDE).tolist()


def _placed(problem: Problem, fast: frozenset[int]) -> list[Placed]:
    profile, units, classes = problem.profile, problem.units, problem.classes.tolist()
    t, placed = profile.tensors, []
    of, arena = units.of.tolist(), units.offset.tolist()
    short, sizes, ops, ks = problem.short_offset.tolist(), t.size.tolist(), t.op.tolist(), t.k.tolist()
    occurrence = profile.ops.occurrence.tolist()
    for i in _tensor_order(problem):
        op = ops[i]
        offset = short[i] if classes[i] == SHORT else arena[i] if classes[i] == LONG else None
        placed.append(
            Placed(
                op=profile.ops.name[op] if op >= 0 else None,
                occurrence=occurrence[op] if op >= 0 else 0,
                k=ks[i] if op >= 0 else 0,
                size=sizes[i],
                pool="short" if classes[i] == SHORT else "long",
                offset=offset,
                node=0 if classes[i] == SHORT or of[i] in fast else 1,
                name=t.name[i] if op < 0 else None,
            )
        )
    return placed


def _groups(problem: Problem, fast: frozenset[int]) -> list[Group]:
    units = problem.units
    sizes = units.size.tolist()
    return [Group(start, sizes[u], 0 if u in fast else 1) for u, start in enumerate(units.start.tolist())]


def _moves(problem: Problem, made: Schedule) -> list[Move]:
    units, start = problem.units, problem.units.start.tolist()
    variables = len(start)  # from this unit on; in the order of the profile's tensors
    order = np.array(_tensor_order(problem), dtype=np.int64)
    places = np.flatnonzero(problem.classes[order] == VARIABLES).tolist()
    sizes = problem.profile.tensors.size[problem.classes == VARIABLES].tolist()
    moves = []
    for unit, at, to, before in made.moves:
        if unit >= variables:
            i = unit - variables
            moves.append(Move(at, to, before, None, sizes[i], places[i]))
        else:
            moves.append(Move(at, to, before, start[unit], int(units.size[unit]), None))
    return moves


def _predicted(problem: Problem, best: Candidate, found: list[Candidate]) -> dict[str, Any]:
    still = found[0]
    if best is still:
        why = "no plan with migration is predicted to be faster than leaving tensors where they are born"
    else:
        share = 1 - best.timeline.step_ns / still.timeline.step_ns
        why = (
            f"shortest predicted step of {len(found)} candidates, "
            f"{share:.1%} shorter than without migration; exposed migration is clamped at zero"
        )
    return {
        "step_ns": round(best.timeline.step_ns),
        "moved_bytes": best.moved_bytes,
        "exposed_ns": round(best.timeline.exposed_ns),
        "pool_bytes": problem.pool_bytes,
        "slow_ns": round(problem.costs.slow_ns),
        "fast_ns": round(problem.costs.fast_ns),
        "rule": best.name,
        "why": why,
        "candidates": [
            {
                "rule": one.name,
                "interval_layers": one.layers,
                "step_ns": round(one.timeline.step_ns),
                "exposed_ns": round(one.timeline.exposed_ns),
                "moved_bytes": one.moved_bytes,
                "moves": len(one.schedule.moves),
                "needed_bytes": one.needed,
                "fits": one.needed < problem.room,
            }
            for one in found
        ],
    }
