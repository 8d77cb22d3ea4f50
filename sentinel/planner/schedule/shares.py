# SPDX-License-Identifier: Apache-2.0
"""Fractional schedules: how much of each tensor is in fast memory at each use, and between its uses."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..problem import Problem

if TYPE_CHECKING:
    from ..formats.fields import Floats, Ints


class Relaxed(NamedTuple):
    """A solution of a relaxation, by use, sorted by tensor and position.

    `fast` is the share of the tensor in fast memory at the use, `kept` the share that stays there until the
    next use: of the last use of a variable, until the first one in the next step.
    """

    tensor: Ints
    position: Ints
    fast: Floats
    kept: Floats


class Shares(NamedTuple):
    """The same by use of a unit, as `Problem.use_unit` and the like."""

    fast: Floats
    kept: Floats


def shares_of(problem: Problem, relaxed: Relaxed) -> Shares:
    """Return a relaxed solution by use of a unit.

    The first piece of a tensor is in fast memory before the second one, and so on. Uses that the relaxation
    leaves out are where their unit stayed after the use before.
    """
    units, n = problem.units, len(problem.profile.ops)
    inside = np.flatnonzero(units.first_unit[relaxed.tensor] >= 0)
    row, unit = units.of_tensors(relaxed.tensor[inside])
    source = inside[row]
    piece_end = np.cumsum(units.share)
    first = units.first_unit[relaxed.tensor[source]]
    share = units.share[unit]
    begin = piece_end[unit] - share - (piece_end[first] - units.share[first])
    key = problem.use_unit * n + problem.use_position
    index = np.searchsorted(key, unit * n + relaxed.position[source])
    weight: Floats = problem.profile.tensors.resident_bytes[relaxed.tensor[source]] * share
    known = (share > 0) & (index < len(key))
    known[known] = key[index[known]] == (unit * n + relaxed.position[source])[known]
    index, source = index[known], source[known]
    weight, begin, share = weight[known], begin[known], share[known]
    total = np.bincount(index, weights=weight, minlength=len(key))

    def of_units(values: Floats) -> Floats:
        piece = np.clip((values[source] - begin) / share, 0.0, 1.0)
        mean = np.bincount(index, weights=weight * piece, minlength=len(key))
        return np.divide(mean, total, out=np.zeros(len(key)), where=total > 0)

    fast, kept = of_units(relaxed.fast), of_units(relaxed.kept)
    starts = np.diff(problem.use_unit, prepend=-1) != 0
    last_known = np.maximum.accumulate(np.where((total > 0) | starts, np.arange(len(key)), 0))
    kept = kept[last_known]
    fast = np.where(total > 0, fast, kept)
    # a unit stays where it is until the last of its tensors is born
    bound = ~np.append(starts[1:], True) & (
        np.append(problem.use_position[1:], 0) < units.ready[problem.use_unit]
    )
    return Shares(fast, np.where(bound, np.minimum(fast, np.append(fast[1:], 0.0)), kept))
