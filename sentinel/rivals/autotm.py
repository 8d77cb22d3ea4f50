# SPDX-License-Identifier: Apache-2.0
"""AutoTM's static formulation: each tensor is in one memory for its whole life, chosen by an integer program.

Hildebrand et al., "AutoTM: Automatic Tensor Movement in Heterogeneous Memory Systems using Integer Linear
Programming", ASPLOS 2020, section 4.2. The program maximises the time that fast memory saves, with the bytes
that live at each operation as constraints. Differences from the original:

- It profiles every kernel with each combination of its operands' memories. Here a use of a tensor saves the
  same wherever the others are, as in all plans.
- It lowers the limit and solves again until its memory manager fits the tensors in; here what does not fit at
  any address stays in slow memory, and the limit is lowered only if a solution with less of it saves more.
- No tensor is special: AutoTM has no reserved pool, and no groups.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_matrix

from sentinel.planner.assemble import assemble
from sentinel.planner.candidates import predict_candidate
from sentinel.planner.formats.figures import Figures
from sentinel.planner.formats.plan import Plan
from sentinel.planner.formats.profile import Profile
from sentinel.planner.memory.classify import LONG, VARIABLES
from sentinel.planner.moves import NO_MIGRATION
from sentinel.planner.placement.place import Placement, place
from sentinel.planner.problem import Problem, prepare

if TYPE_CHECKING:
    from sentinel.planner.formats.fields import Bools, Ints

LIMITS = (1.0, 0.97, 0.94, 0.9)  # of the budget: those that the integer program is solved for
GAP = 1e-3  # to the optimum, at which the solver stops
SECONDS = 60.0  # at which it stops in any case


class Solution(NamedTuple):
    """The tensors in fast memory, how long the solver took, and how far from the optimum it may be."""

    fast: Bools
    seconds: float
    gap: float


def make_plan(
    profile: Profile,
    budget: int,
    figures: Figures,
    *,
    fast_step_ns: float | None = None,
    source: str = "",
    time_limit_s: float = SECONDS,
) -> Plan:
    """Plan the step for `budget` bytes of node 0, without migration.

    `fast_step_ns` and `source` are as for `search.make_plan`. `predicted` has the time of the solver
    (`solve_s`) and its proven gap to the optimum (`solve_gap`).
    """
    problem = prepare(profile, budget, figures, fast_step_ns, pool_share=0.0)
    everything = np.ones(len(problem.units), dtype=bool)
    options: list[tuple[Placement, Solution]] = []
    for limit in LIMITS:
        solution = solve(problem, int(limit * problem.unit_budget), time_limit_s / len(LIMITS))
        placement = place(problem, NO_MIGRATION, everything, preferred=solution.fast)
        assert placement is not None  # noqa: S101 -- tensors that do not fit are in slow memory
        options.append((placement, solution))
    placement, solution = min(options, key=lambda option: option[0].rank)
    layers = len(np.unique(profile.ops.layer))
    candidates = [predict_candidate(problem, "autotm", layers, [0], placement.schedule)]
    plan = assemble(
        problem,
        candidates,
        candidates[0],
        placement,
        f"integer program, within {solution.gap:.1%} of its optimum",
        policy="autotm",
        source=source,
    )
    seconds = sum(option[1].seconds for option in options)
    predicted = {**plan.predicted, "solve_s": round(seconds, 3), "solve_gap": solution.gap}
    return replace(plan, predicted=predicted)


def solve(problem: Problem, limit: int, time_limit_s: float) -> Solution:
    """Choose the tensors that save most in `limit` bytes of fast memory."""
    begin = time.monotonic()
    t, n = problem.profile.tensors, len(problem.op_ns)
    saved_ns = np.bincount(problem.profile.uses.tensor, weights=problem.costs.saved_ns, minlength=len(t))
    eligible = (problem.classes == LONG) | (problem.classes == VARIABLES)
    chosen = np.flatnonzero(eligible & (saved_ns > 0) & (t.resident_bytes <= limit))
    fast = np.zeros(len(t), dtype=bool)
    if not len(chosen):
        return Solution(fast, time.monotonic() - begin, 0.0)
    live = _live(np.maximum(t.birth[chosen], 0), np.minimum(t.death[chosen], n))
    weights = live.multiply(t.resident_bytes[chosen] / max(1, limit)).tocsr()
    solved = milp(
        -saved_ns[chosen] / saved_ns[chosen].sum(),
        integrality=np.ones(len(chosen)),
        bounds=Bounds(0, 1),
        constraints=LinearConstraint(weights, ub=1.0),
        options={"time_limit": time_limit_s, "mip_rel_gap": GAP},
    )
    if solved.x is not None:
        fast[chosen[solved.x > 0.5]] = True
    gap = 1.0 if solved.x is None else float(solved.mip_gap or 0.0)
    return Solution(fast, time.monotonic() - begin, gap)


def _live(birth: Ints, death: Ints) -> csr_matrix:
    """Return a matrix of the tensors that live at each birth, without positions that another one contains.

    What lives at a position also lives at the last birth before it, so only births bind; and only those
    after which a tensor dies before the next birth.
    """
    positions = np.unique(birth)
    last_birth = np.searchsorted(positions, death, side="left") - 1
    binding = positions[np.unique(last_birth)]
    alive = (birth[None, :] <= binding[:, None]) & (binding[:, None] < death[None, :])
    return csr_matrix(alive, dtype=np.float64)
