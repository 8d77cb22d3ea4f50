# SPDX-License-Identifier: Apache-2.0
"""Assembly of a plan with frames from a placement."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .assemble import BY, waits_for_others
from .formats import figures as figures_format
from .formats.plan import Group, Move, Plan, TensorPlacement, Use
from .memory.classify import LONG, OUTSIDE, RESIDENT, SHORT, VARIABLES
from .placement.frames import FramePlacement
from .schedule.intervals import layer_starts

if TYPE_CHECKING:
    from .formats.fields import Ints


def assemble(placement: FramePlacement, predicted: dict[str, Any], *, policy: str, source: str = "") -> Plan:
    """Return the plan of a placement. `predicted` is added to its prediction."""
    problem = placement.problem
    groups, unit_offset = _arena(placement)
    layout, timeline = placement.layout, placement.timeline
    return Plan(
        graph=problem.profile.graph,
        ops=len(problem.profile.ops),
        budget=problem.budget,
        migratable_budget=0,
        reserved=problem.reserved,
        arena=groups[-1].offset + groups[-1].size if groups else 0,
        interval_layers=len(layer_starts(problem.profile)),
        intervals=[0],
        tensors=_tensors(placement, unit_offset),
        groups=groups,
        moves=[
            Move(m.at, m.to, m.before, int(unit_offset[m.unit]), size, None, m.map, m.frame, m.copy)
            for m in placement.moves
            for size in (int(problem.units.size[m.unit]),)
        ],
        waits=sorted({move.before for move in placement.moves if move.to == 0}),
        predicted={
            "step_ns": round(timeline.step_ns),
            "moved_bytes": placement.copied_bytes,
            "exposed_ns": round(timeline.exposed_ns),
            "pool_bytes": problem.pool_bytes,
            "fixed_bytes": layout.fast_bytes,
            "slow_ns": round(problem.costs.slow_ns),
            "fast_ns": round(problem.costs.fast_ns),
            **predicted,
        },
        made={
            "profile": source,
            "by": BY,
            "policy": policy,
            "mechanism": "frames",
            "figures": figures_format.encode(problem.figures),
            "fast_step_ns": problem.fast_step_ns,
        },
        frames=layout.fast_limit,
        uses=_uses(placement),
        cores=problem.figures.migration_cores,
    )


def _arena(placement: FramePlacement) -> tuple[list[Group], Ints]:
    """Return the groups and the offset of each unit with its own pages, -1 for other units."""
    layout, units = placement.layout, placement.problem.units
    groups = _shared_windows(placement)
    if layout.size > layout.fast_limit:
        groups.append(Group(layout.fast_limit, layout.size - layout.fast_limit, 1, True))
    unit_offset = np.full(len(units), -1, dtype=np.int64)
    top = max([layout.size, *(group.offset + group.size for group in groups)])  # the last window is whole
    frames = placement.frame.tolist()
    for unit in np.flatnonzero(placement.own & ~units.variable).tolist():
        unit_offset[unit] = top
        born_fast = frames[unit] >= 0
        groups.append(
            Group(
                offset=top,
                size=int(units.size[unit]),
                node=int(not born_fast),
                keep=not placement.windows[unit],
                frame=frames[unit] if born_fast else None,
            )
        )
        top += int(units.size[unit])
    return groups, unit_offset


def _shared_windows(placement: FramePlacement) -> list[Group]:
    """Return windows for the addresses of the layout in the pool, where it has tensors."""
    layout, chunk = placement.layout, placement.chunk
    size = placement.problem.profile.tensors.size[layout.tensors]
    inside = (layout.offset >= 0) & (layout.offset < layout.fast_limit)
    used = np.zeros(layout.fast_limit // chunk + 1, dtype=np.int64)
    last = np.minimum(layout.offset + size, layout.fast_limit)
    np.add.at(used, layout.offset[inside] // chunk, 1)
    np.add.at(used, -(-last[inside] // chunk), -1)
    starts = (np.flatnonzero(np.cumsum(used)[:-1] > 0) * chunk).tolist()
    return [Group(start, chunk, 0, False, start) for start in starts]


def _tensors(placement: FramePlacement, unit_offset: Ints) -> list[TensorPlacement]:
    problem, layout = placement.problem, placement.layout
    profile, units, classes = problem.profile, problem.units, problem.classes.tolist()
    t = profile.tensors
    offset, node = problem.pool_offset.copy(), np.ones(len(t), dtype=np.int64)
    offset[layout.tensors] = layout.offset
    node[layout.tensors] = layout.offset >= layout.fast_limit
    own = np.flatnonzero(units.first_unit >= 0)
    own = own[placement.own[units.first_unit[own]] & (problem.classes[own] == LONG)]
    unit = units.first_unit[own]
    offset[own] = unit_offset[unit] + units.offset[own] - units.start[unit]
    node[own] = placement.frame[unit] < 0
    variable = np.flatnonzero(problem.classes == VARIABLES)
    node[variable] = ~placement.fast_variables[units.first_unit[variable]]
    node[problem.resident] = 0
    waits = waits_for_others(profile)
    sizes, ops, ks, offsets, nodes = (a.tolist() for a in (t.size, t.op, t.k, offset, node))
    occurrence = profile.ops.occurrence.tolist()
    return [
        TensorPlacement(
            op=profile.ops.name[op] if op >= 0 else None,
            occurrence=occurrence[op] if op >= 0 else 0,
            k=ks[i] if op >= 0 else 0,
            size=sizes[i],
            pool="short" if classes[i] == SHORT else "long",
            offset=None if classes[i] in (VARIABLES, RESIDENT) else offsets[i],
            node=0 if classes[i] == SHORT else nodes[i],
            name=t.name[i] if op < 0 else None,
            position=op if op >= 0 and waits[op] else None,
        )
        for i, op in enumerate(ops)
        if classes[i] != OUTSIDE
    ]


def _uses(placement: FramePlacement) -> list[Use]:
    """Return the operations that allocate or use a tensor of a migratable group."""
    problem, layout = placement.problem, placement.layout
    profile, units = problem.profile, problem.units
    windowed = units.tensors_with(placement.windows) & (problem.classes == LONG)
    windowed[layout.tensors[(layout.offset >= 0) & (layout.offset < layout.fast_limit)]] = True
    u = profile.uses
    positions = np.union1d(u.position[windowed[u.tensor]], profile.tensors.birth[windowed])
    waits, occurrence = waits_for_others(profile), profile.ops.occurrence
    return [Use(profile.ops.name[p], int(occurrence[p]), p if waits[p] else None) for p in positions.tolist()]
