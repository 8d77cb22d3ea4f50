# SPDX-License-Identifier: Apache-2.0
"""Capuchin: tensors leave fast memory between two accesses that are far apart, and are back for the second.

Peng et al., "Capuchin: Tensor-based GPU Memory Management for Deep Learning", ASPLOS 2020
(doi:10.1145/3373376.3378505). It measures the accesses of one step. A tensor with two accesses or more can be
evicted after one of them, the evicted-access, and prefetched for the next, the back-access. Its free time is

    (back-access - swap time) - (evicted-access + swap time)

The tensors with most free time are evicted, until the step fits. The access at which a prefetch begins is its
in-trigger: the last one before back-access - swap time. If a prefetch has not ended at its back-access, since
others were under way, its in-trigger is earlier in the next step. If no in-trigger hides a prefetch, the
cheaper of swap and recomputation is taken, beginning with the tensors that free most bytes for a second of
recomputation. Differences from the original:

- There is no recomputation, and no swap that cannot be hidden. Slow memory can be used where it is: so
  tensors stay in it instead, those first that free most bytes for a ns that their accesses lose.
- An in-trigger moves by steps of a twentieth of the swap time, as many at once as the prefetch was late.
- To evict is to demote to node 1, to prefetch is to promote. Two threads do so, one for each direction, by
  `move_pages`; a GPU copies in both directions, too.
- Times are those that the planner predicts with all tensors in fast memory, and the later steps that correct
  the in-triggers are predicted, too. They also correct when an eviction has ended; Capuchin waits for one
  when it needs the memory.
- The runtime waits for promotions at the beginning of layers: there a prefetch is due, for an access of that
  layer. An eviction within a layer is impossible.
- Tensors of operations that may run at any time in a step (sentinel/planner/memory/order.py) do not move.
- Small tensors with the same layers share pages and move together. Of a tensor that is larger than the budget
  each piece counts as one.
- The addresses of tensors that do not move are the planner's: where that is faster, they share memory, and
  tensors in slow memory get what is left of the budget.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from sentinel.planner.assemble import assemble
from sentinel.planner.candidates import predict_candidate, static_candidate
from sentinel.planner.formats.figures import Figures
from sentinel.planner.formats.plan import Plan
from sentinel.planner.formats.profile import Profile
from sentinel.planner.memory.classify import LONG
from sentinel.planner.memory.order import births
from sentinel.planner.moves import Schedule, UnitMove
from sentinel.planner.placement.place import Placement, place, predict
from sentinel.planner.problem import Problem, prepare
from sentinel.planner.schedule.intervals import layer_starts
from sentinel.planner.timing.timeline import Timeline

if TYPE_CHECKING:
    from sentinel.planner.formats.fields import Bools, Floats, Ints

ADJUSTMENT = 0.05  # of the swap time, by which an in-trigger moves in a step
STEPS = 40  # in which in-triggers are corrected; after that, swaps that are late are given up
PLACED_STEPS = 8  # of those, once tensors have addresses, which takes longer


@dataclass(frozen=True)
class Swap:
    """A unit leaves fast memory from `evict` on, has left at `freed`, returns from `trigger` on until `due`.

    These are positions; `free_ns` is its free time.
    """

    unit: int
    evict: int
    freed: int
    trigger: int
    due: int
    free_ns: float


def make_plan(
    profile: Profile,
    budget: int,
    figures: Figures,
    *,
    fast_step_ns: float | None = None,
    source: str = "",
) -> Plan:
    """Plan the step for `budget` bytes of node 0.

    `fast_step_ns` and `source` are as for `search.make_plan`. `predicted` has the number of `swaps`, and of
    the steps after which no in-trigger moved (`feedback_steps`).
    """
    problem = prepare(profile, budget, figures, fast_step_ns, pool_share=0.0, pieces=1)
    decisions = _Decisions(problem)
    steps = decisions.settle(lambda schedule: predict(problem, schedule), STEPS)

    def placed(shared: Bools) -> tuple[Placement, int]:
        """Correct the swaps once tensors have addresses. Returns the number of all steps, too."""
        own = decisions.copy()
        more = own.settle(lambda _: own.place(shared).timeline, PLACED_STEPS)
        return own.place(shared), steps + more

    options = map(placed, (_floating(problem), np.ones(len(problem.units), dtype=bool)))
    placement, steps = min(options, key=lambda option: option[0].rank)
    count = len(placement.schedule.moves) // 2
    starts = layer_starts(profile).tolist()
    candidate = predict_candidate(problem, "capuchin", 1, starts, placement.schedule)
    plan = assemble(
        problem,
        [static_candidate(problem), candidate],
        candidate,
        placement,
        f"{count} swaps, those with most free time",
        policy="capuchin",
        source=source,
    )
    predicted = {**plan.predicted, "swaps": count, "feedback_steps": steps}
    return replace(plan, predicted=predicted)


def find_swaps(problem: Problem) -> list[Swap]:
    """Return the swaps that can be hidden, those with most free time first."""
    units = problem.units
    clock = _clock(problem)
    starts = layer_starts(problem.profile)
    unit, position = problem.use_unit[:-1], problem.use_position[:-1]
    back = problem.use_position[1:]
    evict = np.maximum(position + 1, units.ready[unit])
    due = starts[np.searchsorted(starts, back, side="right") - 1]
    movable = (units.share > 0) & ~_floating(problem)
    possible = (unit == problem.use_unit[1:]) & movable[unit] & (evict < due)
    unit, evict, due = unit[possible], evict[possible], due[possible]
    out_end_ns = clock[evict] + problem.move_ns[1][unit]
    in_begin_ns = clock[due] - problem.move_ns[0][unit]
    freed = np.searchsorted(clock, out_end_ns)
    trigger = np.minimum(np.searchsorted(clock, in_begin_ns, side="right") - 1, due - 1)
    free_ns = in_begin_ns - out_end_ns
    hidden = np.flatnonzero((free_ns > 0) & (freed < trigger))
    ranked = hidden[np.lexsort((hidden, -free_ns[hidden]))]
    columns = (column[ranked].tolist() for column in (unit, evict, freed, trigger, due, free_ns))
    return [Swap(*row) for row in zip(*columns, strict=True)]


def _floating(problem: Problem) -> Bools:
    """The units of tensors that may be born at any time."""
    return problem.units.units_of(births(problem.profile).floats & (problem.classes == LONG))


def _clock(problem: Problem) -> Floats:
    """The begin of each operation, and the end of the step, with all tensors in fast memory."""
    ns = np.maximum(problem.costs.op_ns - problem.costs.op_saved_ns, 0.0)
    return np.concatenate(([0.0], np.cumsum(ns)))


class _Decisions:
    """What is swapped, and what stays in slow memory. All the rest is in fast memory for its lifetime.

    `occupied` has the bytes of fast memory at each position. A unit takes up fast memory while it moves.
    """

    def __init__(self, problem: Problem) -> None:
        units = problem.units
        self.problem, self.budget = problem, problem.unit_budget
        self.fast: Bools = units.share > 0
        self.swaps: dict[int, list[Swap]] = {}  # by unit
        self._candidates = find_swaps(problem)
        self._size: list[int] = units.size.tolist()
        self._birth: list[int] = units.birth.tolist()
        self._death: list[int] = units.death.tolist()
        change = np.zeros(len(problem.op_ns) + 1, dtype=np.int64)
        np.add.at(change, units.birth[self.fast], units.size[self.fast])
        np.add.at(change, units.death[self.fast], -units.size[self.fast])
        self.occupied: Ints = np.cumsum(change)[:-1]
        lost_ns = np.bincount(problem.use_unit, weights=problem.use_saved_ns, minlength=len(units))
        value = units.size / np.maximum(lost_ns, 1e-9)
        self._by_value: list[int] = np.lexsort((np.arange(len(units)), -value)).tolist()

    def copy(self) -> _Decisions:
        """Return decisions that change on their own."""
        other = copy.copy(self)
        other.fast, other.occupied = self.fast.copy(), self.occupied.copy()
        other.swaps = {unit: list(swaps) for unit, swaps in self.swaps.items()}
        return other

    def settle(self, predict_step: Callable[[Schedule], Timeline], limit: int) -> int:
        """Choose until the step fits and no move is late. Returns the number of steps that were predicted.

        After `limit` steps, swaps that are late are given up.
        """
        self._choose()
        for step in range(1, limit + 1):
            if not self._correct(predict_step(self.schedule())):
                return step
            self._choose()
        self._candidates = []  # no more swaps
        self._correct(predict_step(self.schedule()), give_up=True)
        self._choose()
        return limit + 1

    def place(self, shared: Bools) -> Placement:
        """Assign addresses; units in `shared` that do not move may share them."""
        preferred = self.problem.units.tensors_with(self.fast)
        placement = place(self.problem, self.schedule(), shared, preferred=preferred)
        assert placement is not None  # noqa: S101 -- the step fits
        return placement

    def schedule(self) -> Schedule:
        """The moves of the swaps, and where units are born."""
        waits = sorted({swap.due for swaps in self.swaps.values() for swap in swaps})
        return Schedule(frozenset(np.flatnonzero(self.fast).tolist()), [m for _, m in self._moves()], waits)

    def _moves(self) -> list[tuple[Swap, UnitMove]]:
        """The moves in order, each with its swap."""
        swaps = [swap for unit in sorted(self.swaps) for swap in self.swaps[unit]]
        out = [(swap, UnitMove(swap.unit, swap.evict, 1, swap.freed)) for swap in swaps]
        back = [(swap, UnitMove(swap.unit, swap.trigger, 0, swap.due)) for swap in swaps]
        return sorted(out + back, key=lambda pair: (pair[1].at, pair[1].before))

    def _choose(self) -> None:
        """Swap units, and then leave units in slow memory, until the step fits."""
        left: list[Swap] = []
        for swap in self._candidates:
            if self.fast[swap.unit] and self._exceeds(swap.freed, swap.trigger):
                self.occupied[swap.freed : swap.trigger] -= self._size[swap.unit]
                self.swaps.setdefault(swap.unit, []).append(swap)
            else:
                left.append(swap)
        self._candidates = left
        if not self._exceeds(0, len(self.occupied)):
            return
        for unit in self._by_value:
            if self.fast[unit] and self._is_in_excess(unit):
                for swap in list(self.swaps.get(unit, ())):
                    self._give_up(swap)
                self.fast[unit] = False
                self.occupied[self._birth[unit] : self._death[unit]] -= self._size[unit]

    def _exceeds(self, begin: int, end: int) -> bool:
        return int(self.occupied[begin:end].max(initial=0)) > self.budget

    def _is_in_excess(self, unit: int) -> bool:
        """Whether the unit is in fast memory at a position at which the step does not fit."""
        begin = self._birth[unit]
        excess = self.occupied[begin : self._death[unit]] > self.budget
        for swap in self.swaps.get(unit, ()):
            excess[swap.freed - begin : swap.trigger - begin] = False
        return bool(excess.any())

    def _give_up(self, swap: Swap) -> None:
        self.swaps[swap.unit].remove(swap)
        self.occupied[swap.freed : swap.trigger] += self._size[swap.unit]

    def _correct(self, timeline: Timeline, *, give_up: bool = False) -> bool:
        """Correct the swaps of which a move was late in a step. Returns whether there were any.

        A swap that cannot be corrected is given up; with `give_up`, each one that was late.
        """
        corrected: dict[Swap, tuple[int, int]] = {}
        for (swap, move), (_, end_ns) in zip(self._moves(), timeline.spans, strict=True):
            freed, trigger = corrected.get(swap, (swap.freed, swap.trigger))
            if move.to == 1:
                freed = max(freed, int(np.searchsorted(timeline.begin, end_ns * (1 - 1e-9))))
            else:
                trigger = self._earlier(swap, end_ns, timeline)
            if (freed, trigger) != (swap.freed, swap.trigger):
                corrected[swap] = freed, trigger
        for swap, (freed, trigger) in corrected.items():
            if give_up or freed >= trigger:
                self._give_up(swap)
                continue
            self.occupied[swap.freed : freed] += self._size[swap.unit]
            self.occupied[trigger : swap.trigger] += self._size[swap.unit]
            swaps = self.swaps[swap.unit]
            swaps[swaps.index(swap)] = replace(swap, freed=freed, trigger=trigger)
        return bool(corrected)

    def _earlier(self, swap: Swap, end_ns: float, timeline: Timeline) -> int:
        """Return the in-trigger of a prefetch that ended at `end_ns`, adjusted as often as it needs."""
        back_ns = float(timeline.begin[swap.due]) - timeline.exposed.get(swap.due, 0.0)
        late_ns = end_ns - back_ns
        if late_ns <= 1e-9 * end_ns:
            return swap.trigger
        adjustment_ns = ADJUSTMENT * float(self.problem.move_ns[0][swap.unit])
        begin_ns = float(timeline.begin[swap.trigger]) - math.ceil(late_ns / adjustment_ns) * adjustment_ns
        trigger = int(np.searchsorted(timeline.begin, begin_ns, side="right")) - 1
        return min(trigger, swap.trigger - 1)
