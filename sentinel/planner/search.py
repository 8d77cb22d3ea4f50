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
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from .errors import BudgetError
from .formats import figures as figures_format
from .formats.figures import Figures
from .formats.plan import Group, Move, Placed, Plan
from .formats.profile import Profile
from .memory.classify import LONG, OUTSIDE, SHORT, VARIABLES
from .placement.layout import HEAT, ORDERS
from .placement.place import Placement, moved_bytes, order, place, predict
from .problem import Problem, prepare
from .schedule import intervals
from .schedule.scheduler import Rule, Schedule, schedule
from .schedule.static import static
from .schedule.tables import Positions, Tables
from .schedule.visits import Visits, visits
from .timing.replay import Timeline

if TYPE_CHECKING:
    from .formats.fields import Bools, Ints

BY = "sentinel planner 1"
Policy = Literal["sentinel", "sentinel-opt"]
POLICIES: tuple[Policy, ...] = get_args(Policy)
# So many numbers of layers are tried, more for small profiles than for large ones, for trying one takes time
# in proportion to operations and uses. Variants are tried for as many of the best as there are tens of them.
_LEAST, _MOST, _EFFORT = 10, 40, 100_000
_SPILL = (1.0, 0.75, 0.5, 0.25, 0.1, 0.0)  # shares of the budget that the pool may have
_KEEP = (0.25, 0.5, 0.75, 0.9, 0.97)  # quantiles of what staying is worth, at which a unit stays
_PINNED = (0.25, 0.5, 0.75)  # shares of the room for what stays for all its life
_WORTH = 0.03  # of the step: moves have to save so much, for what they cost beside is not in the prediction


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
    pinned: frozenset[int] = frozenset()

    @property
    def order(self) -> tuple[int, int]:
        """As of a placement."""
        return order(self.timeline, self.moved_bytes)


def make(
    profile: Profile,
    budget: int,
    figures: Figures,
    *,
    fast_step_ns: float | None = None,
    spill: bool = False,
    policy: Policy = "sentinel-opt",
    source: str = "",
) -> Plan:
    """The plan with the shortest predicted step for `budget` bytes of node 0; equal input gives an equal
    plan.

    `fast_step_ns` is the measured time of a step with everything in fast memory, if that is known: it makes
    the predictions better (see `cost`). `source` is the digest of the profile's file. Raises BudgetError
    below the floor: the reserved pool plus the largest long-lived tensor. With `spill`, short-lived tensors
    are taken for long-lived ones, as many as are best, which the paper does not. The policy `sentinel` is
    the paper's algorithm, which migrates whether or not that pays and spills only below the floor.
    """
    if policy == "sentinel":
        return _published(profile, budget, figures, fast_step_ns, spill, source)
    possible: list[tuple[Problem, list[Candidate], Candidate, Placement]] = []
    for problem in _problems(profile, budget, figures, fast_step_ns, spill):
        found = candidates(problem)
        possible += [(problem, found, *placed) for placed in _placements(problem, found)]
    best = min(possible, key=lambda one: one[3].order)
    unmoved = min((one for one in possible if not one[3].schedule.moves), key=lambda one: one[3].order)
    worth = best[3].timeline.step_ns < (1 - _WORTH) * unmoved[3].timeline.step_ns
    problem, found, candidate, placement = best if worth else unmoved
    return assemble(problem, candidate, placement, found, policy=policy, source=source)


def _published(
    profile: Profile, budget: int, figures: Figures, fast_step_ns: float | None, spill: bool, source: str
) -> Plan:
    """Of the intervals whose tensors fit, that with the least exposed migration; all tensors have pages of
    their own. If none fits, that with the shortest step.
    """
    problem = _problems(profile, budget, figures, fast_step_ns, spill)[0]
    found = candidates(problem, variants=False)
    none = np.zeros(len(problem.units), dtype=bool)

    def literally(one: Candidate) -> tuple[bool, float, tuple[int, int]]:
        fits = one.needed < problem.room
        return (not fits, one.timeline.exposed_ns if fits else 0.0, one.order)

    for one in sorted(found[1:], key=literally):
        placement = place(problem, one.schedule, none)
        if placement is not None:
            return assemble(problem, one, placement, found, policy="sentinel", source=source)
    still = place(problem, Schedule(frozenset(), [], []), ~none)  # nothing could be moved
    assert still is not None  # noqa: S101 -- what is not in fast memory has room
    return assemble(problem, found[0], still, found, policy="sentinel", source=source)


def _placements(problem: Problem, found: list[Candidate]) -> list[tuple[Candidate, Placement]]:
    """The best candidates with addresses for all tensors.

    What is without migration is laid out by heat in several orders. A candidate with it is tried twice: only
    what it pins shares addresses, or all that does not move.
    """
    count = _tried(problem) // _LEAST
    every, nothing = np.ones(len(problem.units), dtype=bool), Schedule(frozenset(), [], [])
    still = [place(problem, nothing, every, first) for first in (ORDERS if count > 1 else (HEAT,))]
    placed = [(found[0], one) for one in still]
    for one in sorted(found[1:], key=lambda one: one.order)[:count]:
        pinned = np.zeros(len(problem.units), dtype=bool)
        pinned[sorted(one.pinned)] = True
        placed += [(one, place(problem, one.schedule, shared)) for shared in (pinned, every)]
    return [(one, placement) for one, placement in placed if placement is not None]


def _problems(
    profile: Profile, budget: int, figures: Figures, fast_step_ns: float | None, spill: bool
) -> list[Problem]:
    """What to make a plan for: the published problem, and with `spill` some with smaller pools.

    Above the floor, and for a large profile, the published one is all.
    """
    found: list[Problem] = []
    shares: tuple[float | None, ...] = (None, *_SPILL) if spill else (None,)
    for share in shares:
        if found and len(profile.ops) + len(profile.uses.tensor) > _EFFORT:
            break
        try:
            found.append(prepare(profile, budget, figures, fast_step_ns, spill=share))
        except BudgetError as e:
            error = e
    if not found:
        raise error
    return found


def assemble(
    problem: Problem,
    best: Candidate,
    placement: Placement,
    found: list[Candidate],
    *,
    policy: Policy = "sentinel-opt",
    source: str = "",
) -> Plan:
    """The plan that carries out `placement`, of one of the candidates `found`."""
    profile, made = problem.profile, placement.schedule
    groups, offsets = _arena(problem, placement)
    return Plan(
        graph=profile.graph,
        ops=len(profile.ops),
        budget=problem.budget,
        room=problem.room - placement.fixed.limit,
        reserved=problem.reserved,
        arena=groups[-1].offset + groups[-1].size if groups else 0,
        interval_layers=best.layers,
        intervals=best.starts,
        tensors=_placed(problem, placement, offsets),
        groups=groups,
        moves=_moves(problem, made, offsets),
        waits=made.waits,
        predicted=_predicted(problem, best, placement, found),
        made={
            "profile": source,
            "by": BY,
            "policy": policy,
            "figures": figures_format.encode(problem.figures),
            "fast_step_ns": problem.fast_step_ns,
        },
    )


def candidates(problem: Problem, *, variants: bool = True) -> list[Candidate]:
    """Without migration; as published, by number of layers; variants of the best of those, if wanted."""
    everything = len(intervals.layer_starts(problem.profile))
    found = [candidate(problem, "static", everything, [0], static(problem), 0)]
    if not len(problem.units):
        return found
    guess: frozenset[int] = frozenset()
    positions = Positions(problem)
    published: list[tuple[Candidate, Tables]] = []
    tried = _tried(problem)
    for layers in intervals.candidates(problem.profile, tried):
        tables = Tables(positions, visits(problem, intervals.starts(problem.profile, layers)))
        one, guess = _by_interval(problem, tables, Rule(layers), guess)
        published.append((one, tables))
    found += [one for one, _ in published]
    if not variants:
        return found
    published.sort(key=lambda pair: pair[0].order)
    for best, tables in published[: tried // _LEAST]:
        guess = frozenset(u for u in best.schedule.fast if problem.units.variable[u])
        roomy, guess = _by_interval(problem, tables, Rule(best.layers, headroom=True), guess)
        found.append(roomy)
        for rule in _variants(problem, tables.visits, Rule(best.layers, headroom=roomy.order < best.order)):
            one, guess = _by_interval(problem, tables, rule, guess)
            found.append(one)
    # A promotion that was given up can leave a shorter wait than the schedule counts on for a demotion
    return [one for one in found if not one.timeline.late]


def _tried(problem: Problem) -> int:
    """How many numbers of layers."""
    return min(_MOST, max(_LEAST, _EFFORT // (len(problem.slot) + len(problem.use_unit))))


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
    touched = np.where(problem.units.share > 0, problem.units.size, 0)
    needed = np.bincount(v.interval, weights=touched[v.unit])
    most = int(needed.max(initial=0))
    one = candidate(problem, rule.name, rule.layers, tables.starts, made, most, rule.pinned)
    return one, frozenset(unit for unit in made.fast if problem.units.variable[unit])


def candidate(
    problem: Problem,
    name: str,
    layers: int,
    starts: list[int],
    made: Schedule,
    needed: int,
    pinned: frozenset[int] = frozenset(),
) -> Candidate:
    """A schedule with its prediction."""
    return Candidate(
        name=name,
        layers=layers,
        starts=starts,
        schedule=made,
        timeline=predict(problem, made),
        moved_bytes=moved_bytes(problem, made),
        needed=needed,
        pinned=pinned,
    )


def _arena(problem: Problem, placement: Placement) -> tuple[list[Group], Ints]:
    """The arena's groups, and where each unit begins: what shares addresses, then units of their own."""
    fixed, units = placement.fixed, problem.units
    bounds = sorted({0, min(fixed.limit, fixed.size), fixed.size})
    groups = [Group(a, b - a, int(a >= fixed.limit), True) for a, b in zip(bounds, bounds[1:])]
    start = np.full(len(units), -1, dtype=np.int64)
    top = fixed.size
    for unit in np.flatnonzero(placement.own & ~units.variable).tolist():
        start[unit] = top
        slow, keep = unit not in placement.schedule.fast, bool(placement.keep[unit])
        groups.append(Group(top, int(units.size[unit]), int(slow), keep))
        top += int(units.size[unit])
    return groups, start


def _placed(problem: Problem, placement: Placement, start: Ints) -> list[Placed]:
    profile, units, classes = problem.profile, problem.units, problem.classes.tolist()
    t, fixed, fast = profile.tensors, placement.fixed, placement.schedule.fast
    offsets = problem.short_offset.copy()
    offsets[fixed.tensors] = fixed.offset
    inside = np.flatnonzero(problem.classes == LONG)
    first = units.of[inside]
    alone = start[first] >= 0
    inside, first = inside[alone], first[alone]
    offsets[inside] = start[first] + units.offset[inside] - units.start[first]
    slow = np.ones(len(t), dtype=np.int64)
    slow[fixed.tensors] = fixed.offset >= fixed.limit
    slow[fixed.tensors[problem.classes[fixed.tensors] == VARIABLES]] = 1
    slow[fixed.tensors[fixed.fast == 1]] = 0
    own = np.flatnonzero(units.of >= 0)
    own = own[placement.own[units.of[own]]]
    slow[own] = [unit not in fast for unit in units.of[own].tolist()]
    waits = _waits(profile)
    placed = []
    sizes, ops, ks = t.size.tolist(), t.op.tolist(), t.k.tolist()
    occurrence = profile.ops.occurrence.tolist()
    rows = zip(offsets.tolist(), slow.tolist())
    for i, (offset, node) in enumerate(rows):
        if classes[i] == OUTSIDE:
            continue
        op = ops[i]
        placed.append(
            Placed(
                op=profile.ops.name[op] if op >= 0 else None,
                occurrence=occurrence[op] if op >= 0 else 0,
                k=ks[i] if op >= 0 else 0,
                size=sizes[i],
                pool="short" if classes[i] == SHORT else "long",
                offset=None if classes[i] == VARIABLES else offset,
                node=0 if classes[i] == SHORT else node,
                name=t.name[i] if op < 0 else None,
                position=op if op >= 0 and waits[op] else None,
            )
        )
    return placed


def _waits(profile: Profile) -> Bools:
    """Of each operation whether it waits for others: it reads what one of them made in the step."""
    u, waits = profile.uses, np.zeros(len(profile.ops), dtype=bool)
    made = profile.tensors.birth[u.tensor]
    waits[u.position[(u.reads > 0) & (made >= 0) & (made < u.position)]] = True
    return waits


def _moves(problem: Problem, made: Schedule, start: Ints) -> list[Move]:
    units = problem.units
    variables = len(units.start)  # from this unit on; in the order of the profile's tensors
    order = np.flatnonzero(problem.classes != OUTSIDE)
    places = np.flatnonzero(problem.classes[order] == VARIABLES).tolist()
    sizes = problem.profile.tensors.size[problem.classes == VARIABLES].tolist()
    moves = []
    for unit, at, to, before in made.moves:
        if unit >= variables:
            i = unit - variables
            moves.append(Move(at, to, before, None, sizes[i], places[i]))
        else:
            moves.append(Move(at, to, before, int(start[unit]), int(units.size[unit]), None))
    return moves


def _predicted(
    problem: Problem, best: Candidate, placement: Placement, found: list[Candidate]
) -> dict[str, Any]:
    still, timeline = found[0], placement.timeline
    if not placement.schedule.moves:
        why = "no plan with migration is predicted to be faster than leaving tensors where they are born"
    else:
        share = 1 - timeline.step_ns / max(still.timeline.step_ns, 1e-9)
        why = (
            f"shortest predicted step of {len(found)} candidates, "
            f"{abs(share):.1%} {'shorter' if share >= 0 else 'longer'} than without migration; "
            "exposed migration is clamped at zero"
        )
    return {
        "step_ns": round(timeline.step_ns),
        "moved_bytes": placement.moved_bytes,
        "exposed_ns": round(timeline.exposed_ns),
        "pool_bytes": problem.pool_bytes,
        "fixed_bytes": placement.fixed.fast_bytes,
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
