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
    """Visits sorted by unit and interval.

    `first` and `last` are positions. `saved_ns` is what the visit saves if the whole unit is in fast memory.
    `next` is the unit's next visit, or -1; the last visit of a variable is followed by its first one in the
    next step. `distance` is the number of intervals until then, and `retain_value` the value of retaining the
    unit in fast memory for it: ns that it saves, per byte and per ns of the gap (with all tensors in slow
    memory).
    """

    starts: Ints
    unit: Ints
    interval: Ints
    first: Ints
    last: Ints
    saved_ns: Floats
    next: Ints
    distance: Ints
    retain_value: Floats


def collect_visits(problem: Problem, starts: Ints) -> Visits:
    """Return the visits for intervals that begin at the positions `starts`."""
    intervals, units = len(starts), problem.units
    interval = np.searchsorted(starts, problem.use_position, side="right") - 1
    key = problem.use_unit * intervals + interval
    first_use = np.flatnonzero(np.diff(key, prepend=-1))
    last_use = np.flatnonzero(np.diff(key, append=-1))
    count = len(first_use)
    unit, interval = problem.use_unit[first_use], interval[first_use]
    saved_ns = np.add.reduceat(problem.use_saved_ns, first_use) if count else np.zeros(0)

    is_last = np.diff(unit, append=-1) != 0
    first_of_unit = np.maximum.accumulate(np.where(np.diff(unit, prepend=-1) != 0, np.arange(count), 0))
    wrapped = np.where(units.variable[unit], first_of_unit, -1)
    following = np.where(is_last, wrapped, np.arange(1, count + 1))
    in_next_step = is_last & (following >= 0)
    first, last = problem.use_position[first_use], problem.use_position[last_use]
    clock = np.concatenate(([0.0], np.cumsum(problem.costs.op_ns)))
    step_ns = np.where(in_next_step, problem.costs.slow_ns, 0.0)
    gap_ns = np.where(following >= 0, clock[first[following]] + step_ns - clock[last + 1], 0.0)
    retain_value = np.divide(
        saved_ns[following], gap_ns * units.size[unit], out=np.full(count, np.inf), where=gap_ns > 0
    )
    return Visits(
        starts=starts,
        unit=unit,
        interval=interval,
        first=first,
        last=last,
        saved_ns=saved_ns,
        next=following,
        distance=interval[following] + np.where(in_next_step, intervals, 0) - interval,
        retain_value=np.where(following >= 0, retain_value, 0.0),
    )
