# SPDX-License-Identifier: Apache-2.0
"""The search for a plan with frames: fractional schedules are rounded in several ways, the best one wins."""

from __future__ import annotations

import copy
from collections.abc import Sequence, Set
from typing import Any, Callable

import numpy as np

from .assemble_frames import assemble
from .errors import BudgetError
from .formats.figures import Figures
from .formats.plan import Plan
from .formats.profile import Profile
from .placement.frames import FramePlacement, place, predict
from .placement.layout import Order
from .placement.shared_pool import place_shared
from .problem import LARGE_PROFILE, Problem, prepare
from .schedule.frames import pack
from .schedule.prices import priced_shares
from .schedule.shares import Relaxed, shares_of
from .timing.cores import Cores

Judge = Callable[[Plan], float]  # returns the ns of a step with the plan
JUDGED = 12  # plans
# limits of the reserved pool, as shares of the budget (None: the paper's pool), and pieces of the budget
_DIVISIONS: tuple[tuple[float | None, int], ...] = ((0.0, 24), (0.0, 64), (0.1, 64), (None, 64))
_FEW = 2  # divisions that are tried without a linear program; more only if the budget is below their floor
_LARGE_DIVISION = (0.1, 24)  # of a large profile: few units
_THRESHOLD = 0.5  # from which on a share is rounded up
_MARGINS = (1.5, 1.0, 2.0)  # of moves: how much longer they may take than predicted; the last ones if judged
_ORDERS = tuple(Order(1.0, power) for power in (0.25, 0.5, 1.0))  # of tensors in a shared pool
_ROUNDS = 2  # of packing with the times of the step before


def make_plan(
    profile: Profile,
    budget: int,
    figures: Figures,
    *,
    fast_step_ns: float | None = None,
    resident: Set[str] | None = None,
    relaxed: Relaxed | None = None,
    others: Sequence[Plan] = (),
    source: str = "",
    judge: Judge | None = None,
) -> Plan:
    """Plan the step with frames; see `search.make_plan`. `relaxed` is a solution of the bound's program,
    `others` are plans that compete with those made here.

    Raises BudgetError if the budget is below the floor, whatever is done about short-lived tensors.
    """
    placements: list[tuple[str, FramePlacement]] = []
    error: BudgetError | None = None
    large = len(profile.ops) + len(profile.uses.tensor) > LARGE_PROFILE
    for i, (pool_share, pieces) in enumerate((_LARGE_DIVISION, *_DIVISIONS) if large else _DIVISIONS):
        if placements and (large or (relaxed is None and i >= _FEW)):
            break
        try:
            problem = prepare(
                profile,
                budget,
                figures,
                fast_step_ns,
                pool_share=pool_share,
                resident=resident,
                pieces=pieces,
            )
        except BudgetError as e:
            error = e
            continue
        pool = "pool as in the paper" if pool_share is None else f"pool {pool_share:g}"
        placements += _placements(
            problem, relaxed, f"{pool}, {pieces} pieces", large=large, judged=judge is not None and not large
        )
    if not placements:
        assert error is not None  # noqa: S101 -- otherwise a problem has a placement
        raise error
    placements.sort(key=lambda pair: pair[1].rank)
    rows = [_row(rule, placement) for rule, placement in placements]

    def plan(pair: tuple[str, FramePlacement], reason: str) -> Plan:
        predicted = {"rule": pair[0], "why": reason, "candidates": rows}
        return assemble(pair[1], predicted, policy="sentinel-opt", source=source)

    if judge is None:
        best = placements[0]
        if others and others[0].predicted["step_ns"] <= best[1].timeline.step_ns:
            return others[0]
        return plan(best, f"shortest predicted step of {len(placements)} candidates")
    judged = placements[:JUDGED]
    reason = f"shortest judged step of {len(judged) + len(others)} plans"
    return min((*others, *(plan(pair, reason) for pair in judged)), key=judge)


def _placements(
    problem: Problem, relaxed: Relaxed | None, name: str, *, large: bool, judged: bool
) -> list[tuple[str, FramePlacement]]:
    cores = Cores(problem.figures, problem.profile.page_bytes)
    if relaxed is None:
        shares, kind = priced_shares(problem, cores, problem.unit_budget), "prices"
    else:
        shares, kind = shares_of(problem, relaxed), "linear program"
    n = len(problem.op_ns)
    saved_ns = np.bincount(problem.use_position, weights=problem.use_saved_ns * shares.fast, minlength=n)
    first_op_ns = np.maximum(problem.op_ns - saved_ns, 0.0)
    placements = []
    for margin in _MARGINS if judged else _MARGINS[:1]:
        op_ns = first_op_ns
        for _ in range(1 if large else _ROUNDS):
            packing = pack(
                problem, shares, cores, op_ns, problem.unit_budget, threshold=_THRESHOLD, margin=margin
            )
            op_ns = np.diff(predict(packing, cores).begin)
        packing = pack(
            problem, shares, cores, op_ns, problem.unit_budget, threshold=_THRESHOLD, margin=margin
        )
        rule = f"{kind}, {name}, margin {margin:g}"
        shared = [
            (f"{rule}, lifetime {order.lifetime_power:g}", placement)
            for order in _ORDERS
            if (placement := place_shared(problem, copy.deepcopy(packing), cores, order)) is not None
        ]
        placements += shared or [(rule, place(problem, packing, cores))]
    return placements


def _row(rule: str, placement: FramePlacement) -> dict[str, Any]:
    """Return a candidate for the record in the plan."""
    timeline = placement.timeline
    return {
        "rule": rule,
        "interval_layers": 1,
        "step_ns": round(timeline.step_ns),
        "exposed_ns": round(timeline.exposed_ns),
        "moved_bytes": placement.copied_bytes,
        "moves": len(placement.moves),
        "needed_bytes": placement.frames,
        "fits": True,
    }
