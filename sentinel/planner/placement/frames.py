# SPDX-License-Identifier: Apache-2.0
"""A packing with frame ranges for its stays, and the predicted step with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..problem import Problem
from ..schedule.packing import Packing, Stay
from ..timing.cores import Remapping, divide, returning, run
from ..timing.timeline import Timeline
from .layout import Layout

if TYPE_CHECKING:
    from ..formats.fields import Bools, Floats, Ints

_EXTENDED, _MAX_ROUNDS = 12, 60  # rounds in which late demotions may get more time, and all rounds


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
    """Stays with frame ranges, and a layout of all other tensors.

    By unit: `own` has pages of its own, `frame` is the offset of its range at birth (-1 if it is born in slow
    memory). `windows` are the units with stays, `fast_variables` those in fast memory. The fast memory of the
    layout is the fast frame pool, in windows of `chunk` bytes.
    """

    problem: Problem
    own: Bools
    windows: Bools
    frame: Ints
    fast_variables: Bools
    moves: list[FrameMove]
    layout: Layout
    chunk: int
    timeline: Timeline

    @property
    def copied_bytes(self) -> int:
        size = self.problem.units.size
        return sum(int(size[move.unit]) for move in self.moves if move.copy)

    @property
    def rank(self) -> tuple[int, int]:
        """The sort key by which placements are compared, lowest first."""
        return (round(self.timeline.step_ns), self.copied_bytes)


def predict(packing: Packing) -> Timeline:
    """Predict the step of a packing, before its stays have frame ranges."""
    stays = packing.all_stays()
    return predict_stays(packing, stays, moves_of(stays, {}))


def retime(packing: Packing, *, extend: bool = True) -> None:
    """Give demotions that would be late more time if asked, or else drop their stays, until none is late.

    A demotion with more time may delay others, so after some rounds their stays are dropped in any case.
    """
    for round_ in range(_MAX_ROUNDS):
        extends = extend and round_ < _EXTENDED
        stays = packing.all_stays()
        moves = moves_of(stays, {})
        timeline = predict_stays(packing, stays, moves)
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
                if not extends or move is stay.promotion or not packing.extend(stay, before):
                    packing.remove(stay)
                    break
    packing.remove_moves()


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
    packing: Packing, stays: list[Stay], moves: list[FrameMove], saved_ns: Floats | float = 0.0
) -> Timeline:
    """Predict the step, in which operations save `saved_ns` besides what the stays save."""
    problem = packing.problem
    size = problem.units.size
    fast = np.zeros(len(problem.use_unit), dtype=bool)
    for stay in stays:
        fast[stay.first : stay.last + 1] = True
    weights = np.where(fast, problem.use_saved_ns, 0.0)
    op_ns = problem.op_ns - np.bincount(problem.use_position, weights=weights, minlength=len(problem.op_ns))
    remappings = [Remapping(m.at, m.to, m.before, m.map, m.copy, int(size[m.unit])) for m in moves]
    returns = [
        (int(problem.units.death[unit]), int(size[unit])) for unit in returning((m.unit, m.to) for m in moves)
    ]
    parts = divide(problem.costs, np.maximum(op_ns - saved_ns, 0.0))
    return run(parts, problem.costs.prologue_ns, remappings, packing.cores, returns)
