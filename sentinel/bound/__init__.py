# SPDX-License-Identifier: Apache-2.0
"""A lower bound on the step under any placement and any migration schedule, within the cost model.

A linear program relaxes the problem until it has an optimum that can be proven. Every schedule that the cost
model can predict is a solution of it:

- A tensor may be partly in fast memory: `y` is its share at a use, `k` the smallest share between two uses.
- At every position the shares of the tensors in use, and the `k` of all others that live, fit the budget.
  Sizes are touched bytes: no rounding to pages, no address layout, no reserved pool.
- Between two uses y - k is demoted and y' - k promoted. If these uses are both within a stretch of the step,
  so is the migration: migrations within any stretch take no longer than it does, waits included. A migrating
  page occupies one node, not both, and promotion and demotion may be instantaneous otherwise.
- New pages and remaps cost nothing. Of the contention of copies and computation, the least part is charged.

With frames, the migration cores copy together, in both directions, at most as fast as the nodes, and a
migration can begin after the last write. What is in fast memory at a write and leaves it before the next one
is copied once (`c`): its home has it from then on. Variables migrate page by page.

As in plans, tensors of the class `OUTSIDE` stay in slow memory. The bound is the value of the dual solution,
which holds even if the solver stops early; it is exact up to rounding.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from sentinel.planner.formats.figures import Figures
from sentinel.planner.formats.plan import Plan
from sentinel.planner.formats.profile import Profile
from sentinel.planner.policy import FRAMES, MOVE_PAGES, Mechanism
from sentinel.planner.schedule.shares import Relaxed
from sentinel.planner.timing.cost import estimate_costs

from .program import Relaxation

if TYPE_CHECKING:
    from sentinel.planner.formats.fields import Floats, Ints

BOUND_SECONDS = 60.0  # for the bound of a plan
_ROUNDS = 12  # of adding positions at which the solution exceeds the budget


@dataclass(frozen=True)
class Bound:
    """Times in ns: the bound, and the step with all tensors in fast and in slow memory.

    `promoted_bytes` and `demoted_bytes` are what the solution of the relaxation migrates, `relaxed` what it
    has in fast memory.
    """

    step_ns: float
    fast_ns: float
    slow_ns: float
    promoted_bytes: float
    demoted_bytes: float
    relaxed: Relaxed

    @property
    def fraction(self) -> float:
        """The most speed that any schedule has, as a share of the speed with fast memory only."""
        return self.fast_ns / self.step_ns

    def gap(self, step_ns: float) -> float:
        """How much longer a step is than the bound: 0.02 for 2 %."""
        return step_ns / self.step_ns - 1

    def recorded_in(self, plan: Plan) -> Plan:
        """Return the plan with the bound in its prediction."""
        return replace(plan, predicted={**plan.predicted, "bound_ns": round(self.step_ns)})


def lower_bound(
    profile: Profile,
    budget: int,
    figures: Figures,
    fast_step_ns: float | None = None,
    *,
    mechanism: Mechanism = MOVE_PAGES,
    time_limit_s: float | None = None,
) -> Bound:
    """Return the bound of a profiled step for `budget` bytes of fast memory.

    `fast_step_ns` is as for `search.make_plan`. The solver is stopped after `time_limit_s`; the bound is then
    lower than it could be, at worst the step with all tensors in fast memory.
    """
    costs = estimate_costs(profile, figures, fast_step_ns)
    relaxation = Relaxation(profile, costs, budget, figures, mechanism)
    deadline = None if time_limit_s is None else time.monotonic() + time_limit_s
    value, solution, positions = _solve(relaxation, relaxation.first_positions(), deadline)
    if solution is None:
        solution = relaxation.all_fast()
    elif mechanism == FRAMES:
        stricter = Relaxation(profile, costs, budget, figures, mechanism, relaxation.op_ns(solution))
        _, closer, _ = _solve(stricter, positions, deadline)
        if closer is not None:
            relaxation, solution = stricter, closer
    promoted, demoted = relaxation.moved_bytes(solution)
    return Bound(
        max(value, costs.fast_ns),
        costs.fast_ns,
        costs.slow_ns,
        promoted,
        demoted,
        relaxation.relaxed(solution),
    )


def _solve(
    relaxation: Relaxation, positions: Ints, deadline: float | None
) -> tuple[float, Floats | None, Ints]:
    """Return the best value, the last solution if any, and the positions at which it keeps the budget."""
    best, solution = 0.0, None
    for _ in range(_ROUNDS):
        solved = relaxation.solve(positions, None if deadline is None else deadline - time.monotonic())
        if solved is None:
            break
        value, solution = solved
        best = max(best, value)
        excess = relaxation.exceeded(solution)
        if not len(excess):
            break
        positions = np.union1d(positions, excess)
    return best, solution, positions
