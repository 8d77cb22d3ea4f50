# SPDX-License-Identifier: Apache-2.0
"""The best placement without migration: what every plan with moves has to beat."""

from __future__ import annotations

import numpy as np

from ..problem import Problem
from .scheduler import Schedule


def static(problem: Problem, share: float = 1.0) -> Schedule:
    """Each unit where it is born for all its life; the hottest in fast memory while there is room for that.

    Hot is what saves most per byte. It takes the `share` of the room.
    """
    units, n, room = problem.units, len(problem.profile.ops), int(share * problem.room)
    gain = np.bincount(problem.use_unit, weights=problem.use_gain, minlength=len(units))
    heat = gain / units.size
    used = np.zeros(n, dtype=np.int64)
    fast = []
    order = np.lexsort((np.arange(len(units)), -heat))
    rows = zip(
        order.tolist(), units.size[order].tolist(), units.birth[order].tolist(), units.death[order].tolist()
    )
    for unit, size, birth, death in rows:
        if gain[unit] <= 0:
            break
        life = used[birth:death]
        if size <= room and int(life.max()) + size <= room:
            life += size
            fast.append(unit)
    chosen: frozenset[int] = frozenset(fast)
    return Schedule(chosen, [], [])
