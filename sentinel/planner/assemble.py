# SPDX-License-Identifier: Apache-2.0
"""Assembly of a plan from a placement."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .candidates import Candidate
from .formats import figures as figures_format
from .formats.plan import Group, Move, Plan, TensorPlacement
from .formats.profile import Profile
from .memory.classify import LONG, OUTSIDE, RESIDENT, SHORT, VARIABLES
from .placement.place import Placement
from .problem import Problem

if TYPE_CHECKING:
    from .formats.fields import Bools, Ints

BY = "sentinel planner 1"


def assemble(
    problem: Problem,
    candidates: list[Candidate],
    candidate: Candidate,
    placement: Placement,
    reason: str,
    *,
    policy: str,
    source: str = "",
) -> Plan:
    """Return the plan of a placement of `candidate`.

    It was chosen from `candidates`, of which the first is static, for `reason`.
    """
    groups, unit_offset = _arena(problem, placement)
    return Plan(
        graph=problem.profile.graph,
        ops=len(problem.profile.ops),
        budget=problem.budget,
        migratable_budget=problem.unit_budget - placement.layout.fast_limit,
        reserved=problem.reserved,
        arena=groups[-1].offset + groups[-1].size if groups else 0,
        interval_layers=candidate.layers,
        intervals=candidate.starts,
        tensors=_tensor_placements(problem, placement, unit_offset),
        groups=groups,
        moves=_moves(problem, placement, unit_offset),
        waits=placement.schedule.waits,
        predicted=_predicted(problem, candidates, candidate, placement, reason),
        made={
            "profile": source,
            "by": BY,
            "policy": policy,
            "figures": figures_format.encode(problem.figures),
            "fast_step_ns": problem.fast_step_ns,
        },
    )


def _arena(problem: Problem, placement: Placement) -> tuple[list[Group], Ints]:
    """Return the groups of the arena and the offset of each unit with its own pages, -1 for other units.

    The shared address range comes first, split at the limit of fast memory.
    """
    layout, units = placement.layout, problem.units
    bounds = sorted({0, min(layout.fast_limit, layout.size), layout.size})
    groups = [Group(a, b - a, int(a >= layout.fast_limit), True) for a, b in zip(bounds, bounds[1:])]
    unit_offset = np.full(len(units), -1, dtype=np.int64)
    top = layout.size
    for unit in np.flatnonzero(placement.own & ~units.variable).tolist():
        unit_offset[unit] = top
        node, keep = int(unit not in placement.schedule.born_fast), bool(placement.keep[unit])
        groups.append(Group(top, int(units.size[unit]), node, keep))
        top += int(units.size[unit])
    return groups, unit_offset


def _tensor_placements(problem: Problem, placement: Placement, unit_offset: Ints) -> list[TensorPlacement]:
    profile, classes = problem.profile, problem.classes.tolist()
    t = profile.tensors
    offsets = _tensor_offsets(problem, placement, unit_offset).tolist()
    nodes = _tensor_nodes(problem, placement).tolist()
    waits = waits_for_others(profile)
    sizes, ops, ks = t.size.tolist(), t.op.tolist(), t.k.tolist()
    occurrence = profile.ops.occurrence.tolist()
    placements = []
    for i, (offset, node) in enumerate(zip(offsets, nodes)):
        if classes[i] == OUTSIDE:
            continue
        op = ops[i]
        placements.append(
            TensorPlacement(
                op=profile.ops.name[op] if op >= 0 else None,
                occurrence=occurrence[op] if op >= 0 else 0,
                k=ks[i] if op >= 0 else 0,
                size=sizes[i],
                pool="short" if classes[i] == SHORT else "long",
                offset=None if classes[i] in (VARIABLES, RESIDENT) else offset,
                node=0 if classes[i] == SHORT else node,
                name=t.name[i] if op < 0 else None,
                position=op if op >= 0 and waits[op] else None,
            )
        )
    return placements


def _tensor_offsets(problem: Problem, placement: Placement, unit_offset: Ints) -> Ints:
    """Return the offset of each tensor in its pool; those of variables have no meaning."""
    units, layout = problem.units, placement.layout
    offset = problem.pool_offset.copy()
    offset[layout.tensors] = layout.offset
    tensor = np.flatnonzero(problem.classes == LONG)
    tensor = tensor[unit_offset[units.first_unit[tensor]] >= 0]
    unit = units.first_unit[tensor]
    offset[tensor] = unit_offset[unit] + units.offset[tensor] - units.start[unit]
    return offset


def _tensor_nodes(problem: Problem, placement: Placement) -> Ints:
    """Return the node on which each tensor is born; those of short-lived tensors have no meaning."""
    units, layout, born_fast = problem.units, placement.layout, placement.schedule.born_fast
    node = np.ones(len(problem.classes), dtype=np.int64)
    node[problem.resident] = 0
    node[layout.tensors] = layout.offset >= layout.fast_limit
    node[layout.tensors[problem.classes[layout.tensors] == VARIABLES]] = 1
    node[layout.tensors[layout.fast_share == 1]] = 0
    own = np.flatnonzero(units.first_unit >= 0)
    own = own[placement.own[units.first_unit[own]]]
    node[own] = [unit not in born_fast for unit in units.first_unit[own].tolist()]
    return node


def waits_for_others(profile: Profile) -> Bools:
    """Return whether each operation waits for another one: whether it reads a result of the same step."""
    u, waits = profile.uses, np.zeros(len(profile.ops), dtype=bool)
    birth = profile.tensors.birth[u.tensor]
    waits[u.position[(u.reads > 0) & (birth >= 0) & (birth < u.position)]] = True
    return waits


def _moves(problem: Problem, placement: Placement, unit_offset: Ints) -> list[Move]:
    units, classes = problem.units, problem.classes
    first_variable = len(units.start)  # units of variables are last, in the order of the profile
    planned = classes[classes != OUTSIDE]
    plan_index = np.flatnonzero(planned == VARIABLES).tolist()
    variable_size = problem.profile.tensors.size[classes == VARIABLES].tolist()
    moves = []
    for unit, at, to, before in placement.schedule.moves:
        if unit >= first_variable:
            i = unit - first_variable
            moves.append(Move(at, to, before, None, variable_size[i], plan_index[i]))
        else:
            moves.append(Move(at, to, before, int(unit_offset[unit]), int(units.size[unit]), None))
    return moves


def _predicted(
    problem: Problem, candidates: list[Candidate], chosen: Candidate, placement: Placement, reason: str
) -> dict[str, Any]:
    timeline = placement.timeline
    if placement.schedule.moves:
        gain = 1 - timeline.step_ns / max(candidates[0].timeline.step_ns, 1e-9)
        reason += f"; step {abs(gain):.1%} {'shorter' if gain >= 0 else 'longer'} than without migration"
    return {
        "step_ns": round(timeline.step_ns),
        "moved_bytes": placement.moved_bytes,
        "exposed_ns": round(timeline.exposed_ns),
        "pool_bytes": problem.pool_bytes,
        "fixed_bytes": placement.layout.fast_bytes,
        "slow_ns": round(problem.costs.slow_ns),
        "fast_ns": round(problem.costs.fast_ns),
        "rule": chosen.rule,
        "why": reason,
        "candidates": [
            {
                "rule": candidate.rule,
                "interval_layers": candidate.layers,
                "step_ns": round(candidate.timeline.step_ns),
                "exposed_ns": round(candidate.timeline.exposed_ns),
                "moved_bytes": candidate.moved_bytes,
                "moves": len(candidate.schedule.moves),
                "needed_bytes": candidate.needed_bytes,
                "fits": candidate.needed_bytes < problem.unit_budget,
            }
            for candidate in candidates
        ],
    }
