# SPDX-License-Identifier: Apache-2.0
"""How long a schedule takes: operations, helpers and waits against each other, however it was made."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..formats.figures import Figures
from ..schedule.scheduler import UnitMove

if TYPE_CHECKING:
    from ..formats.fields import Bools, Floats, Ints


@dataclass(frozen=True)
class Timeline:
    """Times in ns from the step's beginning.

    `begin` is when each operation begins, with the step's end as its last; `spans` is for each move when its
    helper works on it; `exposed` what was waited for at positions; `late` the moves that were not where they
    should be when they should (promotions are waited for, so they are demotions).
    """

    begin: Floats
    spans: list[tuple[float, float]]
    exposed: dict[int, float]
    late: list[int]

    @property
    def step_ns(self) -> float:
        return float(self.begin[-1])

    @property
    def exposed_ns(self) -> float:
        return sum(self.exposed.values())


def in_fast_memory(unit: Ints, position: Ints, born_fast: Bools, moves: Sequence[UnitMove]) -> Bools:
    """For each use, of `unit` at `position`, sorted by both, whether it is in fast memory then.

    A promotion counts from its `before`, a demotion from its `at`.
    """
    fast = born_fast[unit].copy()
    positions: list[int] = position.tolist()
    bounds: list[int] = np.searchsorted(unit, np.arange(len(born_fast) + 1)).tolist()
    for moved, at, to, before in moves:  # in order, so that later ones have the last word
        end = bounds[moved + 1]
        fast[bisect_left(positions, before if to == 0 else at, bounds[moved], end) : end] = to == 0
    return fast


def contention(
    at_slow: Floats, slot: Floats, moves: Sequence[UnitMove], size: Ints, figures: Figures
) -> Floats:
    """The ns that each operation loses to the copies of the moves that begin with it.

    A copy takes its turns at slow memory, to write what is demoted or to read what is promoted. Computing
    loses that time in so far as it is at slow memory too: by the share that `at_slow` has of `slot` (ns by
    operation) between the move's ends. `size` is of units, in bytes. What copies take of fast memory is left
    out: it is faster, and most computing is there.
    """
    n, slow = len(slot), figures.nodes[1]
    if not moves:
        return np.zeros(n)
    unit, at, to, before = np.array(moves, dtype=np.int64).T
    begin = np.clip(at, 0, n - 1)
    end = np.clip(before, begin + 1, n)
    busy, clock = (np.concatenate(([0.0], np.cumsum(each))) for each in (at_slow, slot))
    span = clock[end] - clock[begin]
    share = np.divide(busy[end] - busy[begin], span, out=np.zeros(len(unit)), where=span > 0)
    turns = size[unit] / np.where(to == 1, slow.write_bandwidth, slow.read_bandwidth)
    return np.bincount(begin, weights=turns * share, minlength=n).astype(np.float64)


def replay(
    slot: Floats,
    lead: float,
    moves: Sequence[UnitMove],
    move_ns: Sequence[float],
    waits: Sequence[int],
    figures: Figures,
) -> Timeline:
    """Run a step whose operations take `slot` ns under its placement; each move takes `move_ns` of its
    helper.

    A helper takes its moves in order, one after the other, from when they are given to it. At the positions
    `waits` the step waits until the promotions that are due there have ended.
    """
    n = len(slot)
    clock = np.concatenate(([0.0], np.cumsum(slot))) + lead
    lanes = (0, figures.helpers - 1)
    free = [0.0] * figures.helpers
    spans: list[tuple[float, float]] = []
    exposed: dict[int, float] = {}
    due: dict[int, float] = {}  # position: when the last promotion for it has ended
    shift = np.zeros(n + 1)
    waited = 0.0
    events = sorted({move.at for move in moves} | set(waits))
    given = 0
    for p in events:
        if p in due and p in waits:
            late = due[p] - (float(clock[p]) + waited)
            if late > 0:
                exposed[p] = late
                waited += late
                shift[p] = late
        while given < len(moves) and moves[given].at == p:
            move = moves[given]
            lane = lanes[move.to]
            start = max(free[lane], float(clock[p]) + waited)
            free[lane] = start + move_ns[given]
            spans.append((start, free[lane]))
            if move.to == 0:
                due[move.before] = max(due.get(move.before, 0.0), free[lane])
            given += 1
    begin = clock + np.cumsum(shift)
    # what the floating point of two ways to the same sum may differ by is not late
    late_moves = [
        i
        for i, move in enumerate(moves)
        if move.to == 1 and spans[i][1] > float(begin[move.before]) * (1 + 1e-9)
    ]
    return Timeline(begin, spans, exposed, late_moves)
