# SPDX-License-Identifier: Apache-2.0
"""A simulated run of a plan: memory by position, and the timeline of the step."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .errors import FormatError
from .formats import figures as figures_format
from .formats.figures import Figures
from .formats.plan import Plan
from .formats.profile import Profile
from .memory.arena import enumerate_runs
from .memory.classify import OUTSIDE, classify, live_bytes
from .moves import UnitMove
from .placement.place import new_page_ns
from .timing.cores import Cores, Remapping, divide, returning, run
from .timing.cost import Costs, estimate_costs
from .timing.timeline import Timeline, in_fast_memory, predict_timeline

if TYPE_CHECKING:
    from .formats.fields import Bools, Floats, Ints


@dataclass(frozen=True)
class Simulation:
    """Bytes at each position by place (`reserved`, `fast`, `slow`), and the timeline."""

    memory: dict[str, Ints]
    timeline: Timeline


def simulate(profile: Profile, plan: Plan) -> Simulation:
    """Simulate the profiled step under a plan, with the figures that the plan was made with.

    Uses nothing of the search, so it also serves plans from other sources. Raises FormatError if the plan has
    no valid figures.
    """
    figures = _figures(plan)
    t, u, n = profile.tensors, profile.uses, len(profile.ops)
    contents = unit_contents(profile, plan)
    size = _unit_sizes(profile, plan)
    moves = unit_moves(plan)
    nodes = [group.node for group in plan.groups] + [tensor.node for tensor in plan.tensors]
    born_fast = np.array(nodes, dtype=np.int64) == 0
    # one row for each use and each unit that holds a part of its tensor
    first_row = np.searchsorted(contents.tensor, np.arange(len(t) + 1))
    use, row = enumerate_runs(first_row[u.tensor], first_row[u.tensor + 1] - first_row[u.tensor])
    order = np.lexsort((u.position[use], contents.unit[row]))
    use, row = use[order], row[order]
    fast = in_fast_memory(contents.unit[row], u.position[use], born_fast, _effective(plan, moves))
    costs = estimate_costs(profile, figures, plan.made.get("fast_step_ns"))
    saved_ns = np.where(fast, costs.saved_ns[use] * contents.share[row], 0.0)
    op_ns = costs.op_ns - np.bincount(u.position[use], weights=saved_ns, minlength=n)
    if plan.has_frames:
        timeline = _cores_timeline(profile, plan, figures, costs, op_ns, size, moves)
    else:
        timeline = predict_timeline(
            costs,
            op_ns,
            _renewal_ns(profile, plan, contents, figures),
            moves,
            plan.waits,
            size,
            page_bytes=profile.page_bytes,
            figures=figures,
        )
    return Simulation(_memory(profile, plan, contents, size, born_fast, moves), timeline)


def _effective(plan: Plan, moves: list[UnitMove]) -> list[UnitMove]:
    """Return moves whose `at` is where the unit leaves: with frames, reads go on until `map`."""
    if not plan.has_frames:
        return moves
    return [
        unit_move if move.map is None else unit_move._replace(at=move.map)
        for unit_move, move in zip(moves, plan.moves)
    ]


def _cores_timeline(
    profile: Profile,
    plan: Plan,
    figures: Figures,
    costs: Costs,
    op_ns: Floats,
    size: Ints,
    moves: list[UnitMove],
) -> Timeline:
    """Predict a step whose groups migrate by frames."""
    death: dict[int, int] = {}
    contents = unit_contents(profile, plan)
    for unit, tensor in zip(contents.unit.tolist(), contents.tensor.tolist()):
        death[unit] = max(death.get(unit, 0), int(profile.tensors.death[tensor]))
    remappings = [
        Remapping(m.at, m.to, m.before, m.at if m.map is None else m.map, m.copy, int(size[unit_move.unit]))
        for unit_move, m in zip(moves, plan.moves)
    ]
    returns = [(death[unit], int(size[unit])) for unit in returning((m.unit, m.to) for m in moves)]
    parts = divide(costs, np.maximum(op_ns, 0.0))
    return run(parts, costs.prologue_ns, remappings, Cores(figures, profile.page_bytes), returns)


class Contents(NamedTuple):
    """Which unit holds which part of which tensor, sorted by tensor. `share` is of its touched bytes.

    Units are the plan's groups, then its tensors, for tensors in no group.
    """

    tensor: Ints
    unit: Ints
    share: Floats


def unit_contents(profile: Profile, plan: Plan) -> Contents:
    """Return which unit holds which part of which tensor of the profile."""
    index = {profile.key(i): i for i in range(len(profile.tensors))}
    touched: list[int] = profile.tensors.resident_bytes.tolist()
    offsets = [group.offset for group in plan.groups]
    rows: list[tuple[int, int, float]] = []
    for place, tensor in enumerate(plan.tensors):
        i = index[tensor.key]
        if tensor.pool == "short" or tensor.offset is None:
            rows.append((i, len(offsets) + place, 1.0))
            continue
        begin = tensor.offset
        for unit in range(bisect_right(offsets, begin) - 1, len(offsets)):
            group = plan.groups[unit]
            if group.offset >= begin + max(1, tensor.size):
                break
            inside = min(begin + touched[i], group.offset + group.size) - max(begin, group.offset)
            rows.append((i, unit, max(0, inside) / max(1, touched[i])))
    rows.sort()
    tensors, units, shares = zip(*rows) if rows else ((), (), ())
    return Contents(
        np.array(tensors, dtype=np.int64), np.array(units, dtype=np.int64), np.array(shares, dtype=float)
    )


def _unit_sizes(profile: Profile, plan: Plan) -> Ints:
    """Return the bytes of each unit, in whole pages."""
    page_bytes = profile.page_bytes
    tensors = [max(1, -(-tensor.size // page_bytes)) * page_bytes for tensor in plan.tensors]
    return np.array([*(group.size for group in plan.groups), *tensors])


def unit_moves(plan: Plan) -> list[UnitMove]:
    """Return the moves of a plan in terms of units."""
    unit_at = {group.offset: i for i, group in enumerate(plan.groups)}
    return [
        UnitMove(
            unit_at[move.offset or 0] if move.tensor is None else len(unit_at) + move.tensor,
            move.at,
            move.to,
            move.before,
        )
        for move in plan.moves
    ]


def _renewal_ns(profile: Profile, plan: Plan, contents: Contents, figures: Figures) -> Floats:
    """Return the ns at each position for new pages of groups without `keep`."""
    birth = np.full(len(plan.groups) + len(plan.tensors), len(profile.ops))
    np.minimum.at(birth, contents.unit, np.maximum(0, profile.tensors.birth[contents.tensor]))
    touched = np.bincount(contents.unit, weights=contents.share, minlength=len(birth)) > 0
    groups = [i for i, group in enumerate(plan.groups) if not group.keep and touched[i]]
    size = np.array([plan.groups[i].size for i in groups], dtype=np.int64)
    node = np.array([plan.groups[i].node for i in groups], dtype=np.int64)
    ns = new_page_ns(figures, size, node)
    return np.bincount(birth[groups], weights=ns, minlength=len(profile.ops)).astype(np.float64)


def _figures(plan: Plan) -> Figures:
    try:
        return figures_format.parse(plan.made.get("figures"))
    except FormatError as e:
        raise FormatError(f"the plan's made.figures: {e}") from None


def _memory(
    profile: Profile,
    plan: Plan,
    contents: Contents,
    size: Ints,
    born_fast: Bools,
    moves: list[UnitMove],
) -> dict[str, Ints]:
    """Return the bytes at each position by place.

    A unit that migrates counts whole from its first birth to its last death, and on its destination from `at`
    on. Of other units the live tensors count.
    """
    t, n = profile.tensors, len(profile.ops)
    birth, death = np.maximum(0, t.birth[contents.tensor]), t.death[contents.tensor]
    begin, end = np.full(len(size), n), np.zeros(len(size), dtype=np.int64)
    np.minimum.at(begin, contents.unit, birth)
    np.maximum.at(end, contents.unit, death)
    change = np.zeros((2, n + 1), dtype=np.int64)
    node = np.where(born_fast, 0, 1)
    since = begin.copy()
    migrates = np.zeros(len(size), dtype=bool)
    for move in moves:
        change[node[move.unit], since[move.unit]] += size[move.unit]
        change[node[move.unit], move.before] -= size[move.unit]
        node[move.unit], since[move.unit] = move.to, move.at
        migrates[move.unit] = True
    for unit in np.flatnonzero(migrates).tolist():
        change[node[unit], since[unit]] += size[unit]
        change[node[unit], end[unit]] -= size[unit]
    short = np.array([False] * len(plan.groups) + [x.pool == "short" for x in plan.tensors], dtype=bool)
    rest = ~migrates[contents.unit] & ~short[contents.unit]
    part = np.rint(contents.share * t.resident_bytes[contents.tensor]).astype(np.int64)[rest]
    np.add.at(change, (node[contents.unit[rest]], birth[rest]), part)
    np.add.at(change, (node[contents.unit[rest]], death[rest]), -part)
    fast, slow = np.cumsum(change, axis=1)[:, :n]
    outside = live_bytes(profile, np.where(classify(profile) == OUTSIDE, t.resident_bytes, 0))
    reserved = plan.predicted.get("pool_bytes", plan.reserved)
    return {"reserved": np.full(n, reserved), "fast": fast, "slow": slow + outside}
