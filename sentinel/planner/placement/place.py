# SPDX-License-Identifier: Apache-2.0
"""Addresses for all tensors of a schedule, and the predicted step with them.

Units that migrate have pages of their own, which return to the system when the unit dies. A unit that is in
fast memory for its whole lifetime may have its own pages too: others can use its memory before and after, at
the cost of new pages in every step. All other tensors never migrate and share addresses (`layout`), in the
fast memory that is left at all times.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..memory.classify import LONG, VARIABLES
from ..moves import Schedule
from ..problem import Problem
from ..timing.timeline import Timeline, in_fast_memory, predict_timeline
from .layout import BY_HEAT, Layout, Order, lay_out

if TYPE_CHECKING:
    from ..formats.fields import Bools, Floats, Ints
    from ..formats.figures import Figures


@dataclass(frozen=True)
class Placement:
    """A schedule with addresses.

    By unit: `own` has pages of its own (groups, and variables that migrate); `keep` retains them, as units
    that are never in fast memory do. `layout` has all other tensors.
    """

    schedule: Schedule
    own: Bools
    keep: Bools
    layout: Layout
    timeline: Timeline
    moved_bytes: int

    @property
    def rank(self) -> tuple[int, int]:
        """The sort key by which placements are compared, lowest first."""
        return rank(self.timeline, self.moved_bytes)


def rank(timeline: Timeline, moved_bytes: int) -> tuple[int, int]:
    """Return the step time, in whole ns because sums have rounding errors, then the bytes moved."""
    return (round(timeline.step_ns), moved_bytes)


def place(
    problem: Problem,
    schedule: Schedule,
    shared: Bools,
    order: Order = BY_HEAT,
    *,
    preferred: Bools | None = None,
) -> Placement | None:
    """Assign an address to every tensor.

    Units in `shared` that never migrate may overlap in address if their lifetimes do not. Of their tensors,
    those in `preferred` get fast memory first. If one piece of a tensor has its own pages, all of its pieces
    have. Returns None if the units with pages of their own exceed the budget at any position.
    """
    units, n = problem.units, len(problem.op_ns)
    born_fast = _born_fast(problem, schedule)
    migrating = [move.unit for move in schedule.moves]
    own = born_fast & ~shared & ~units.variable
    own[migrating] = True
    tensor_own = units.tensors_with(own)
    own = units.units_of(tensor_own)
    available = problem.unit_budget - int(_occupied(problem, schedule, born_fast, own).max(initial=0))
    if available < 0:
        return None
    page_bytes = problem.profile.page_bytes
    included = ((problem.classes == LONG) | (problem.classes == VARIABLES)) & ~tensor_own
    layout = lay_out(problem, included, available // page_bytes * page_bytes, order, preferred)

    saved_ns = _saved_ns(problem, schedule, own) + layout.saved_ns(problem)
    keep = own & ~born_fast
    keep[migrating] = False
    renewed = np.flatnonzero(own & ~keep & ~units.variable & (units.share > 0))
    renewal_ns = new_page_ns(problem.figures, units.size[renewed], np.where(born_fast[renewed], 0, 1))
    extra_ns = np.bincount(units.birth[renewed], weights=renewal_ns, minlength=n).astype(np.float64)
    timeline = _predict(problem, schedule, saved_ns, extra_ns)
    return Placement(schedule, own, keep, layout, timeline, moved_bytes(problem, schedule))


def predict(problem: Problem, schedule: Schedule) -> Timeline:
    """Predict a schedule before addresses are known, as if every unit had its own pages, at no cost."""
    saved_ns = _saved_ns(problem, schedule, np.ones(len(problem.units), dtype=bool))
    return _predict(problem, schedule, saved_ns, np.zeros(len(problem.op_ns)))


def moved_bytes(problem: Problem, schedule: Schedule) -> int:
    return sum(int(problem.units.size[move.unit]) for move in schedule.moves)


def new_page_ns(figures: Figures, size: Ints, node: Ints) -> Floats:
    """Return the ns to fill `size` bytes of new pages on `node` with zeros: one write."""
    return np.where(node == 0, figures.write_ns(0), figures.write_ns(1)) * size.astype(np.float64)


def _born_fast(problem: Problem, schedule: Schedule) -> Bools:
    born_fast = np.zeros(len(problem.units), dtype=bool)
    born_fast[sorted(schedule.born_fast)] = True
    return born_fast


def _saved_ns(problem: Problem, schedule: Schedule, included: Bools) -> Floats:
    """Return what the units `included` save in each operation."""
    born_fast = _born_fast(problem, schedule)
    fast = in_fast_memory(problem.use_unit, problem.use_position, born_fast, schedule.moves)
    saved_ns = np.where(included[problem.use_unit] & fast, problem.use_saved_ns, 0.0)
    return np.bincount(problem.use_position, weights=saved_ns, minlength=len(problem.op_ns)).astype(
        np.float64
    )


def _predict(problem: Problem, schedule: Schedule, saved_ns: Floats, extra_ns: Floats) -> Timeline:
    return predict_timeline(
        problem.costs,
        problem.op_ns - saved_ns,
        extra_ns,
        schedule.moves,
        schedule.waits,
        problem.units.size,
        page_bytes=problem.profile.page_bytes,
        figures=problem.figures,
    )


def _occupied(problem: Problem, schedule: Schedule, born_fast: Bools, own: Bools) -> Ints:
    """Return the fast memory of the units `own` at each position; a migrating unit counts on both nodes."""
    units = problem.units
    change = np.zeros(len(problem.op_ns) + 1, dtype=np.int64)
    fast_since = np.where(born_fast & own, units.birth, -1).tolist()
    size = np.where(units.share > 0, units.size, 0).tolist()
    for unit, at, to, before in schedule.moves:
        if to == 0 and fast_since[unit] < 0:
            fast_since[unit] = at
        elif to == 1 and fast_since[unit] >= 0:
            change[fast_since[unit]] += size[unit]
            change[before] -= size[unit]
            fast_since[unit] = -1
    for unit, begin in enumerate(fast_since):
        if begin >= 0:
            change[begin] += size[unit]
            change[units.death[unit]] -= size[unit]
    occupied: Ints = np.cumsum(change)
    return occupied
