# SPDX-License-Identifier: Apache-2.0
"""From a schedule of units to addresses for tensors, and what the step will take with them.

What moves has pages of its own, in groups, that are given back when it is dead. So may what is in fast memory
for all its life: then others can have its room before and after, at the price of new pages in every step. All
the rest never moves and shares addresses (`layout`), in the fast memory that is left at all times.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..memory.classify import LONG, VARIABLES
from ..problem import Problem
from ..schedule.scheduler import Schedule
from ..timing.replay import Timeline, contention, in_fast_memory, replay
from .layout import HEAT, Layout, Order, layout

if TYPE_CHECKING:
    from ..formats.fields import Bools, Floats, Ints
    from ..formats.figures import Figures


@dataclass(frozen=True)
class Placement:
    """A schedule with a place for every tensor.

    `own` are the units with pages of their own: groups, and variables that move. Those that are never in
    fast memory are to `keep` their pages.
    """

    schedule: Schedule
    own: Bools
    keep: Bools
    fixed: Layout
    timeline: Timeline
    moved_bytes: int

    @property
    def order(self) -> tuple[int, int]:
        """As `order`."""
        return order(self.timeline, self.moved_bytes)


def place(problem: Problem, made: Schedule, shared: Bools, first: Order = HEAT) -> Placement | None:
    """Place all tensors; those of the units `shared`, unless they move, share addresses. None if there is no
    room: of a tensor in pieces all pieces have their own places if one has.
    """
    units, t, n = problem.units, problem.profile.tensors, len(problem.slot)
    born_fast = _born_fast(problem, made)
    own = born_fast & ~shared & ~units.variable
    own[[move.unit for move in made.moves]] = True
    members = np.flatnonzero(units.of >= 0)
    which, unit = units.spread(members)
    alone = np.zeros(len(t), dtype=bool)
    np.logical_or.at(alone, members[which], own[unit])
    np.logical_or.at(own, unit, alone[members[which]])  # the other pieces
    limit = problem.room - int(_occupied(problem, made, born_fast, own).max(initial=0))
    if limit < 0:
        return None
    kept = ((problem.classes == LONG) | (problem.classes == VARIABLES)) & ~alone
    fixed = layout(problem, kept, limit // problem.profile.page * problem.profile.page, first)

    u = problem.profile.uses
    gain = problem.costs.gain * fixed.shares(len(t))[u.tensor]
    saved = _saved(problem, made, own) + np.bincount(u.position, weights=gain, minlength=n)
    keep = own & ~born_fast
    keep[[move.unit for move in made.moves]] = False
    renewed = np.flatnonzero(own & ~keep & ~units.variable & (units.share > 0))
    new = new_pages(problem.figures, units.size[renewed], np.where(born_fast[renewed], 0, 1))
    extra = np.bincount(units.birth[renewed], weights=new, minlength=n).astype(np.float64)
    timeline = _carried_out(problem, made, problem.slot - saved, extra)
    return Placement(made, own, keep, fixed, timeline, moved_bytes(problem, made))


def predict(problem: Problem, made: Schedule) -> Timeline:
    """The step of a schedule before anything has an address: as if every unit had its own pages."""
    saved = _saved(problem, made, np.ones(len(problem.units), dtype=bool))
    return _carried_out(problem, made, problem.slot - saved, np.zeros(len(problem.slot)))


def moved_bytes(problem: Problem, made: Schedule) -> int:
    return sum(int(problem.units.size[move.unit]) for move in made.moves)


def order(timeline: Timeline, moved: int) -> tuple[int, int]:
    """What is minimised: the step's time, and of equal ones what is moved. Whole ns: sums have noise."""
    return (round(timeline.step_ns), moved)


def _born_fast(problem: Problem, made: Schedule) -> Bools:
    born_fast = np.zeros(len(problem.units), dtype=bool)
    born_fast[sorted(made.fast)] = True
    return born_fast


def _saved(problem: Problem, made: Schedule, chosen: Bools) -> Floats:
    """At each position the ns that the `chosen` units save where the schedule has them in fast memory."""
    born_fast = _born_fast(problem, made)
    fast = in_fast_memory(problem.use_unit, problem.use_position, born_fast, made.moves)
    gain = np.where(chosen[problem.use_unit] & fast, problem.use_gain, 0.0)
    return np.bincount(problem.use_position, weights=gain, minlength=len(problem.slot)).astype(np.float64)


def _carried_out(problem: Problem, made: Schedule, slot: Floats, extra: Floats) -> Timeline:
    """The step, if operations take `slot` ns for themselves and their tensors, and `extra` beside."""
    times = [float(problem.move_ns[move.to][move.unit]) for move in made.moves]
    at_slow = problem.costs.at_slow(slot)
    slot = slot + extra + contention(at_slow, slot, made.moves, problem.units.size, problem.figures)
    return replay(slot, problem.costs.lead, made.moves, times, made.waits, problem.figures)


def new_pages(figures: Figures, size: Ints, node: Ints) -> Floats:
    """The ns that the system takes to fill so many bytes of new pages with zeros: to write them once."""
    return np.where(node == 0, figures.write_ns(0), figures.write_ns(1)) * size.astype(np.float64)


def _occupied(problem: Problem, made: Schedule, born_fast: Bools, own: Bools) -> Ints:
    """Bytes of fast memory that the units `own` take at each position; a move counts in both places."""
    units = problem.units
    change = np.zeros(len(problem.slot) + 1, dtype=np.int64)
    since = np.where(born_fast & own, units.birth, -1).tolist()
    size = np.where(units.share > 0, units.size, 0).tolist()
    for unit, at, to, before in made.moves:
        if to == 0 and since[unit] < 0:
            since[unit] = at
        elif to == 1 and since[unit] >= 0:
            change[since[unit]] += size[unit]
            change[before] -= size[unit]
            since[unit] = -1
    for unit, begin in enumerate(since):
        if begin >= 0:
            change[begin] += size[unit]
            change[units.death[unit]] -= size[unit]
    occupied: Ints = np.cumsum(change)
    return occupied
