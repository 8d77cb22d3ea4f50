# SPDX-License-Identifier: Apache-2.0
"""The static schedule: the best placement of units without migration."""

from __future__ import annotations

import numpy as np

from ..moves import Schedule
from ..problem import Problem


def static_schedule(problem: Problem, budget_share: float = 1.0) -> Schedule:
    """Place each unit for its whole lifetime; fill `budget_share` of the unit budget with the hottest units.

    Heat is ns saved per byte.
    """
    units, n, budget = problem.units, len(problem.profile.ops), int(budget_share * problem.unit_budget)
    saved_ns = np.bincount(problem.use_unit, weights=problem.use_saved_ns, minlength=len(units))
    heat = saved_ns / units.size
    occupied = np.zeros(n, dtype=np.int64)
    fast = []
    order = np.lexsort((np.arange(len(units)), -heat))
    columns = (column[order].tolist() for column in (units.size, units.birth, units.death))
    for unit, size, birth, death in zip(order.tolist(), *columns):
        if saved_ns[unit] <= 0:
            break
        lifetime = occupied[birth:death]
        if size <= budget and int(lifetime.max()) + size <= budget:
            lifetime += size
            fast.append(unit)
    units_in_fast: frozenset[int] = frozenset(fast)
    return Schedule(units_in_fast, [], [])
