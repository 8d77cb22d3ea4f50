# SPDX-License-Identifier: Apache-2.0
"""Addresses for all tensors of a packing, and the predicted step with them.

Units with stays are groups with a frame range for each stay. All other tensors never migrate and share
addresses (`layout`); what the fast frame pool leaves of the budget is for the hottest of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..memory.classify import LONG
from ..problem import Problem
from ..schedule.frames import fill
from ..schedule.packing import Packing, Stay
from ..timing.cores import Cores, Remapping, divide, returning, run
from ..timing.timeline import Timeline
from .frame_ranges import assign
from .layout import Layout, lay_out

if TYPE_CHECKING:
    from ..formats.fields import Bools, Floats, Ints

_MAX_ROUNDS = 12  # of dropping stays whose demotion would be late


class FrameMove(NamedTuple):
    """A move of `unit`: positions as in a plan, and the offset in the fast frame pool of a promotion."""

    unit: int
    at: int
    to: int
    before: int
    map: int
    copy: bool
    frame: int | None


@dataclass(frozen=True)
class FramePlacement:
    """Stays with frame ranges.

    By unit: `own` has pages of its own, `frame` is the offset of its range at birth (-1 if it is born in slow
    memory). `windows` are the units with stays, `fast_variables` those in fast memory. The fast frame pool
    has `frames` bytes.
    """

    problem: Problem
    own: Bools
    windows: Bools
    frame: Ints
    frames: int
    fast_variables: Bools
    moves: list[FrameMove]
    layout: Layout
    timeline: Timeline
    shares_pool: bool = False
    chunk: int = 0

    @property
    def copied_bytes(self) -> int:
        size = self.problem.units.size
        return sum(int(size[move.unit]) for move in self.moves if move.copy)

    @property
    def rank(self) -> tuple[int, int]:
        """The sort key by which placements are compared, lowest first."""
        return (round(self.timeline.step_ns), self.copied_bytes)


def place(problem: Problem, packing: Packing, cores: Cores) -> FramePlacement:
    """Give every stay a frame range, and every other tensor an address.

    Stays without a free range are dropped, and so are those whose demotion would be late. `packing` is left
    with the stays of the placement.
    """
    units, page_bytes = problem.units, problem.profile.page_bytes
    retime(packing, cores)
    fill(packing, np.concatenate(([0.0], np.cumsum(packing.op_ns))))
    retime(packing, cores)
    fast_variables = np.zeros(len(units), dtype=bool)
    stays = []
    for stay in packing.all_stays():
        if units.variable[stay.unit]:
            fast_variables[stay.unit] = True
        else:
            stays.append(stay)
    pool = (problem.unit_budget - int(units.size[fast_variables].sum())) // page_bytes * page_bytes
    begin, end, unit = (
        np.array([getattr(stay, name) for stay in stays], dtype=np.int64) for name in ("begin", "end", "unit")
    )
    offset = assign(begin, end, units.size[unit], pool)
    for k in np.flatnonzero(offset < 0).tolist():
        packing.remove(stays[k])
    retime(packing, cores, extend=False)
    ranges = {(stay.unit, stay.first): o for stay, o in zip(stays, offset.tolist())}
    return _placement(problem, packing, ranges, fast_variables, pool, cores)


def predict(packing: Packing, cores: Cores) -> Timeline:
    """Predict the step of a packing, before its stays have frame ranges."""
    stays = packing.all_stays()
    return predict_stays(packing.problem, stays, moves_of(stays, {}), np.zeros(0), cores)


def retime(packing: Packing, cores: Cores, *, extend: bool = True) -> None:
    """Give demotions that would be late more time if asked, or else drop their stays, until none is late."""
    for _ in range(_MAX_ROUNDS):
        stays = packing.all_stays()
        moves = moves_of(stays, {})
        timeline = predict_stays(packing.problem, stays, moves, np.zeros(0), cores)
        late = {
            i
            for i, move in enumerate(moves)
            if move.to == 1 and timeline.spans[i][1] + packing.slack_ns > timeline.begin[move.before]
        }
        finish = {
            (moves[i].unit, moves[i].at): timeline.spans[i][1] + packing.slack_ns
            for i in late.union(timeline.late)
        }
        if not finish:
            return
        for stay in stays:
            for move in (stay.promotion, stay.demotion):
                if move is None or (stay.unit, move.at) not in finish:
                    continue
                before = int(np.searchsorted(timeline.begin, finish[stay.unit, move.at]))
                if not extend or move is stay.promotion or not packing.extend(stay, before):
                    packing.remove(stay)
                    break
    for stay in packing.all_stays():
        if stay.promotion is not None or stay.demotion is not None:
            packing.remove(stay)


def _placement(
    problem: Problem,
    packing: Packing,
    ranges: dict[tuple[int, int], int],
    fast_variables: Bools,
    pool: int,
    cores: Cores,
) -> FramePlacement:
    units, t, page_bytes = problem.units, problem.profile.tensors, problem.profile.page_bytes
    stays = packing.all_stays()
    windows = np.zeros(len(units), dtype=bool)
    frame = np.full(len(units), -1, dtype=np.int64)
    top = 0
    for stay in stays:
        if not units.variable[stay.unit]:
            windows[stay.unit] = True
            top = max(top, ranges[stay.unit, stay.first] + int(units.size[stay.unit]))
            if stay.promotion is None:
                frame[stay.unit] = ranges[stay.unit, stay.first]
    members = np.flatnonzero(units.first_unit >= 0)
    row, unit = units.of_tensors(members)
    tensor_own = np.zeros(len(t), dtype=bool)
    np.logical_or.at(tensor_own, members[row], windows[unit])
    own = windows.copy()
    np.logical_or.at(own, unit, tensor_own[members[row]])  # the other pieces
    layout = lay_out(
        problem, (problem.classes == LONG) & ~tensor_own, (pool - top) // page_bytes * page_bytes
    )
    u = problem.profile.uses
    saved_ns = np.bincount(
        u.position,
        weights=problem.costs.saved_ns * layout.fast_shares(len(t))[u.tensor],
        minlength=len(problem.op_ns),
    ).astype(np.float64)
    moves = moves_of(stays, ranges)
    return FramePlacement(
        problem=problem,
        own=own,
        windows=windows,
        frame=frame,
        frames=top,
        fast_variables=fast_variables,
        moves=moves,
        layout=layout,
        timeline=predict_stays(problem, stays, moves, saved_ns, cores),
    )


def moves_of(stays: list[Stay], ranges: dict[tuple[int, int], int]) -> list[FrameMove]:
    """Return the moves of stays in order of `at`, most urgent first."""
    moves = []
    for stay in stays:
        for to, move in ((0, stay.promotion), (1, stay.demotion)):
            if move is not None:
                frame = ranges.get((stay.unit, stay.first)) if to == 0 else None
                moves.append(FrameMove(stay.unit, move.at, to, move.before, move.map, move.copy, frame))
    return sorted(moves, key=lambda move: (move.at, move.before, move.unit, move.to))


def predict_stays(
    problem: Problem, stays: list[Stay], moves: list[FrameMove], saved_ns: Floats, cores: Cores
) -> Timeline:
    """Predict the step, in which operations save `saved_ns` besides what the stays save."""
    size = problem.units.size
    fast = np.zeros(len(problem.use_unit), dtype=bool)
    for stay in stays:
        fast[stay.first : stay.last + 1] = True
    weights = np.where(fast, problem.use_saved_ns, 0.0)
    op_ns = problem.op_ns - np.bincount(problem.use_position, weights=weights, minlength=len(problem.op_ns))
    if len(saved_ns):
        op_ns = op_ns - saved_ns
    remappings = [Remapping(m.at, m.to, m.before, m.map, m.copy, int(size[m.unit])) for m in moves]
    returns = [
        (int(problem.units.death[unit]), int(size[unit])) for unit in returning((m.unit, m.to) for m in moves)
    ]
    parts = divide(problem.costs, np.maximum(op_ns, 0.0))
    return run(parts, problem.costs.prologue_ns, remappings, cores, returns)
