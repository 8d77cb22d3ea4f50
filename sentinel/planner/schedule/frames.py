# SPDX-License-Identifier: Apache-2.0
"""Schedules for frames: fractional ones, rounded to stays that fit the budget and the migration cores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..problem import Problem
from ..timing.cores import Cores
from .packing import Packing
from .shares import Shares

if TYPE_CHECKING:
    from ..formats.fields import Floats

_SURE = 0.99  # shares from here on are whole


def pack(
    problem: Problem,
    shares: Shares,
    cores: Cores,
    op_ns: Floats,
    capacity: int,
    *,
    threshold: float = 0.5,
    margin: float = 1.0,
    eager: bool = True,
) -> Packing:
    """Return stays for what a fractional schedule has in fast memory, and for what fits beside it."""
    packing = Packing(problem, cores, op_ns, capacity, margin=margin, eager=eager)
    clock = np.concatenate(([0.0], np.cumsum(op_ns)))
    _add_variables(packing, shares, threshold)
    _add_rounded(packing, shares, clock, threshold)
    fill(packing, clock)
    return packing


def _add_variables(packing: Packing, shares: Shares, threshold: float) -> None:
    """Keep variables in fast memory that are there for most of the time."""
    problem = packing.problem
    saved_ns = np.bincount(problem.use_unit, weights=problem.use_saved_ns, minlength=len(problem.units))
    share = np.ones(len(problem.units))
    np.minimum.at(share, problem.use_unit, np.where(problem.use_saved_ns > 0, shares.fast, 1.0))
    heat = saved_ns / problem.units.size
    chosen = np.flatnonzero(problem.units.variable & (share >= threshold) & (saved_ns > 0))
    for unit in chosen[np.lexsort((chosen, -heat[chosen], -np.minimum(share[chosen], _SURE)))].tolist():
        packing.always(unit)


def _add_rounded(packing: Packing, shares: Shares, clock: Floats, threshold: float) -> None:
    problem = packing.problem
    unit, units = problem.use_unit, problem.units
    fast = (shares.fast >= threshold) & ~units.variable[unit] & (units.share[unit] > 0)
    joined = np.zeros(len(unit), dtype=bool)
    joined[1:] = fast[1:] & fast[:-1] & (unit[1:] == unit[:-1]) & (shares.kept[:-1] >= threshold)
    first = np.flatnonzero(fast & ~joined)
    ends = fast.copy()
    ends[:-1] &= ~joined[1:]
    last = np.flatnonzero(ends)
    if not len(first):
        return
    sure = np.minimum(np.minimum.reduceat(np.append(shares.fast, 1.0), first), _SURE)
    value = packing.total_saved_ns[last + 1] - packing.total_saved_ns[first]
    life = clock[problem.use_position[last] + 1] - clock[problem.use_position[first]]
    density = value / (units.size[unit[first]] * np.maximum(life, 1.0))
    for k in np.lexsort((first, -density, -sure)).tolist():
        _add_parts(packing, int(unit[first[k]]), int(first[k]), int(last[k]), clock)


def _add_parts(packing: Packing, unit: int, first: int, last: int, clock: Floats) -> None:
    """Add a stay, or else its parts before and after its longest gap."""
    if packing.add(unit, first, last) or first == last:
        return
    position = packing.position
    gaps = [clock[position[row + 1]] - clock[position[row] + 1] for row in range(first, last)]
    row = first + int(np.argmax(gaps))
    for part in ((first, row), (row + 1, last)):
        _add_parts(packing, unit, *part, clock)


def fill(packing: Packing, clock: Floats) -> None:
    """Add single uses, most ns saved per byte first, if they save more than their migration costs."""
    problem = packing.problem
    units, unit = problem.units, problem.use_unit
    covered = np.zeros(len(unit), dtype=bool)
    for stay in packing.all_stays():
        covered[stay.first : stay.last + 1] = True
    lost_ns = sum(packing.lost_ns(to) for to in (0, 1)) * units.size[unit]
    gain = problem.use_saved_ns - np.where(problem.use_position == units.birth[unit], 0.0, lost_ns)
    open_ = ~covered & (gain > 0) & ~units.variable[unit] & (units.share[unit] > 0)
    rows = np.flatnonzero(open_)
    density = gain[rows] / units.size[unit[rows]]
    for row in rows[np.lexsort((rows, -density))].tolist():
        packing.add(int(unit[row]), row, row)
    for u in np.flatnonzero(units.variable).tolist():
        if packing.rows[u] < packing.rows[u + 1]:
            packing.always(u)
