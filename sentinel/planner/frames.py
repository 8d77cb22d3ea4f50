# SPDX-License-Identifier: Apache-2.0
"""The search for a plan with frames: fractional schedules are rounded in several ways, the best one wins."""

from __future__ import annotations

from collections.abc import Sequence, Set
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from .assemble_frames import assemble
from .formats.figures import Figures
from .formats.plan import Plan
from .formats.profile import Profile
from .placement.frames import FramePlacement, predict
from .placement.layout import Order
from .placement.shared_pool import place
from .policy import Judge
from .problem import Problem, above_floor, is_large, prepare
from .schedule.frames import pack
from .schedule.packing import Packing
from .schedule.prices import priced_shares
from .schedule.shares import Relaxed, Shares, shares_of
from .timing.cores import Cores

JUDGED = 12  # plans
_FEW = 2  # divisions that are tried without a linear program
_THRESHOLD = 0.5  # from which on a share is rounded up
_MARGINS = (1.5, 1.0, 2.0)  # of moves: how much longer they may take than predicted; the last ones if judged
# of tensors in a shared pool; the last one puts large tensors first, of which few would fit later
_ORDERS = (*(Order(1.0, power) for power in (0.25, 0.5, 1.0)), Order(0.5, 0.0))
_ROUNDS = 2  # of packing with the times of the step before


class Division(NamedTuple):
    """How the budget is divided: the limit of the reserved pool as a share of it, and pieces of the rest."""

    pool_share: float | None  # None: the paper's pool
    pieces: int

    def __str__(self) -> str:
        pool = "pool as in the paper" if self.pool_share is None else f"pool {self.pool_share:g}"
        return f"{pool}, {self.pieces} pieces"


# few pieces take few remaps, many pieces fit better
_DIVISIONS = (
    Division(0.0, 8),
    Division(0.0, 24),
    Division(0.0, 64),
    Division(0.1, 64),
    Division(None, 64),
)
_LARGE_DIVISION = Division(0.1, 24)  # of a large profile: few units


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
    eager: bool = True,
) -> Plan:
    """Plan the step with frames; see `search.make_plan`. `relaxed` is a solution of the bound's program,
    `others` are plans that compete with those made here. `eager`: copy a group while it is still read.

    Raises BudgetError if the budget is below the floor, whatever is done about short-lived tensors.
    """
    large = is_large(profile)
    options = above_floor(
        lambda division: prepare(
            profile,
            budget,
            figures,
            fast_step_ns,
            pool_share=division.pool_share,
            pieces=division.pieces,
            resident=resident,
        ),
        (_LARGE_DIVISION, *_DIVISIONS) if large else _DIVISIONS,
    )
    placements = [
        pair
        for division, problem in islice(options, 1 if large else _FEW if relaxed is None else None)
        for pair in _placements(
            problem, relaxed, str(division), large=large, judged=judge is not None and not large, eager=eager
        )
    ]
    placements.sort(key=lambda pair: pair[1].rank)
    rows = [_row(rule, placement) for rule, placement in placements]

    def plan(pair: tuple[str, FramePlacement], reason: str) -> Plan:
        predicted = {"rule": pair[0], "why": reason, "candidates": rows}
        return assemble(pair[1], predicted, policy="sentinel-opt", source=source)

    if judge is None:
        reason = f"shortest predicted step of {len(placements) + len(others)} candidates"
        plans = (*others, *(plan(pair, reason) for pair in placements[:1]))
        return min(plans, key=lambda plan: plan.predicted["step_ns"])
    judged = placements[:JUDGED]
    reason = f"shortest judged step of {len(judged) + len(others)} plans"
    return min((*others, *(plan(pair, reason) for pair in judged)), key=judge)


def _placements(
    problem: Problem, relaxed: Relaxed | None, name: str, *, large: bool, judged: bool, eager: bool
) -> list[tuple[str, FramePlacement]]:
    cores = Cores(problem.figures, problem.profile.page_bytes)
    fractional = {"prices": priced_shares(problem, cores, problem.unit_budget)}
    if relaxed is not None:
        fractional["linear program"] = shares_of(problem, relaxed)
    found = []
    for kind, shares in fractional.items():
        for margin in _MARGINS if judged else _MARGINS[:1]:
            packing = _pack(problem, shares, cores, margin, rounds=1 if large else _ROUNDS, eager=eager)
            rule = f"{kind}, {name}, margin {margin:g}"
            found += [(f"{rule}, {order}", place(packing.copy(), order)) for order in _ORDERS]
        # where copies are in the way of computation, what stays may be worth more than what moves
        packing.remove_moves()
        found += [(f"{kind}, {name}, no moves, {order}", place(packing.copy(), order)) for order in _ORDERS]
    return found


def _pack(
    problem: Problem, shares: Shares, cores: Cores, margin: float, *, rounds: int, eager: bool
) -> Packing:
    """Return a packing for the times that operations have with it."""
    saved_ns = np.bincount(
        problem.use_position, weights=problem.use_saved_ns * shares.fast, minlength=len(problem.op_ns)
    )
    op_ns = np.maximum(problem.op_ns - saved_ns, 0.0)
    for i in range(rounds + 1):
        packing = pack(
            problem,
            shares,
            cores,
            op_ns,
            problem.unit_budget,
            threshold=_THRESHOLD,
            margin=margin,
            eager=eager,
        )
        if i < rounds:
            op_ns = np.diff(predict(packing).begin)
    return packing


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
        "needed_bytes": placement.layout.fast_limit,
        "fits": True,
    }
