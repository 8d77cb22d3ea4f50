# SPDX-License-Identifier: Apache-2.0
"""Visits: all uses of one unit within one migration interval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..problem import Problem

if TYPE_CHECKING:
    from ..formats.fields import Floats, Ints


@dataclass(frozen=True)
class Visits:
    """Sorted by unit, then interval. `first` and `last` are positions, `gain` is saved if all of it is in
    fast memory.

    `next` is the unit's next visit, -1 if there is none; a variable's last is followed by its first, of the
    next step. `apart` is how many intervals later it is, and `stay` what it is worth to stay for it: ns saved
    there by each byte and ns (with everything in slow memory) of the time between.
    """

    starts: Ints
    unit: Ints
    interval: Ints
    first: Ints
    last: Ints
    gain: Floats
    next: Ints
    apart: Ints
    stay: Floats


def visits(problem: Problem, starts: Ints) -> Visits:
    """The visits if intervals begin at the positions `starts`."""
    m, units = len(starts), problem.units
    interval = np.searchsorted(starts, problem.use_position, side="right") - 1
    key = problem.use_unit * m + interval
    begins = np.flatnonzero(np.diff(key, prepend=-1))
    ends = np.flatnonzero(np.diff(key, append=-1))
    count = len(begins)
    unit, interval = problem.use_unit[begins], interval[begins]
    gain = np.add.reduceat(problem.use_gain, begins) if count else np.zeros(0)

    following = np.arange(1, count + 1)
    is_last = np.diff(unit, append=-1) != 0
    firsts = np.maximum.accumulate(np.where(np.diff(unit, prepend=-1) != 0, np.arange(count), 0))
    following = np.where(~is_last, following, np.where(units.variable[unit], firsts, -1))
    wraps = is_last & (following >= 0)
    first, last = problem.use_position[begins], problem.use_position[ends]
    clock = np.concatenate(([0.0], np.cumsum(problem.costs.slot)))
    step = np.where(wraps, problem.costs.slow_ns, 0.0)
    gap = np.where(following >= 0, clock[first[following]] + step - clock[last + 1], 0.0)
    worth = np.divide(gain[following], gap * units.size[unit], out=np.full(count, np.inf), where=gap > 0)
    return Visits(
        starts=starts,
        unit=unit,
        interval=interval,
        first=first,
        last=last,
        gain=gain,
        next=following,
        apart=interval[following] + np.where(wraps, m, 0) - interval,
        stay=np.where(following >= 0, worth, 0.0),
    )
