# SPDX-License-Identifier: Apache-2.0
"""What a researcher asks of a profile and a plan, as plain numbers: tables and plots are made of these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from . import figures as figures_format
from .classify import CLASSES, OUTSIDE, classes, live_bytes, peak
from .cost import costs
from .errors import FormatError
from .figures import Figures
from .intervals import layer_starts
from .plan import Plan
from .profile import Profile
from .replay import Timeline, in_fast_memory, replay
from .schedule import UnitMove

if TYPE_CHECKING:
    from .fields import Bools, Ints

SIZES = (("below a page", 0), ("to 64 KiB", 4096), ("to 1 MiB", 1 << 16), ("1 MiB and more", 1 << 20))
HOTTEST = (0.05, 0.1, 0.2, 0.5)  # shares of the bytes


def characterise(profile: Profile) -> dict[str, Any]:
    """The step in numbers (paper, section III: sizes, lifetimes, and how unevenly accesses are spread)."""
    t = profile.tensors
    accesses = int(t.accesses.sum())
    return {
        "ops": len(profile.ops),
        "layers": len(layer_starts(profile)),
        "tensors": len(t),
        "step_ns": profile.step_ns,
        "peak_bytes": peak(profile),
        "allocated_bytes": int(t.size[t.birth >= 0].sum()),
        "accesses": accesses,
        "counts": profile.counts,
        "clock": profile.clock,
        "classes": _classes(profile),
        "hottest": [{"of_bytes": share, "of_accesses": hot} for share, hot in _hottest(profile)],
        "warnings": list(profile.warnings),
    }


def _classes(profile: Profile) -> list[dict[str, Any]]:
    """Tensors by lifetime and size: how many, how large together, and their share of all accesses."""
    t, found = profile.tensors, classes(profile)
    accesses = max(1, int(t.accesses.sum()))
    bounds = [max(least, profile.page) if least else 0 for _, least in SIZES] + [1 << 62]
    rows = []
    for number, name in enumerate(CLASSES):
        for (size, _), least, most in zip(SIZES, bounds, bounds[1:]):
            chosen = (found == number) & (t.size >= least) & (t.size < most)
            if chosen.any():
                rows.append(
                    {
                        "lifetime": name,
                        "size": size,
                        "tensors": int(chosen.sum()),
                        "of_tensors": int(chosen.sum()) / len(t),
                        "bytes": int(t.bytes[chosen].sum()),
                        "of_accesses": int(t.accesses[chosen].sum()) / accesses,
                    }
                )
    return rows


def _hottest(profile: Profile) -> list[tuple[float, float]]:
    """What share of all accesses goes to the hottest share of bytes, most accesses per page first."""
    t = profile.tensors
    order = np.argsort(-t.accesses / np.maximum(1, t.touched), kind="stable")
    size, accesses = np.cumsum(t.bytes[order]), np.cumsum(t.accesses[order])
    if not len(t) or not size[-1] or not accesses[-1]:
        return []
    shares = []
    for share in HOTTEST:
        whole = int(np.searchsorted(size, share * size[-1], side="right"))
        shares.append((share, float(accesses[whole - 1] / accesses[-1]) if whole else 0.0))
    return shares


def memory_of_profile(profile: Profile) -> dict[str, Ints]:
    """Bytes that live at each position, by class of lifetime."""
    t, found = profile.tensors, classes(profile)
    return {name: live_bytes(profile, np.where(found == i, t.bytes, 0)) for i, name in enumerate(CLASSES)}


@dataclass(frozen=True)
class Course:
    """A plan carried out in thought: bytes at each position by place, and when everything happens."""

    memory: dict[str, Ints]
    timeline: Timeline


def course(profile: Profile, plan: Plan) -> Course:
    """What the plan does to the profiled step, by the plan itself; the figures are those it was made with."""
    figures = _figures(plan)
    t, u, n = profile.tensors, profile.uses, len(profile.ops)
    index = {profile.key(i): i for i in range(len(t))}
    groups = np.array([group.offset for group in plan.groups], dtype=np.int64)
    of = np.full(len(t), -1, dtype=np.int64)
    nodes = [group.node for group in plan.groups]
    sizes = [group.size for group in plan.groups]
    variables: dict[int, int] = {}
    short = np.zeros(len(t), dtype=bool)
    for place, tensor in enumerate(plan.tensors):
        i = index[tensor.key]
        if tensor.pool == "short":
            short[i] = True
        elif tensor.offset is None:
            variables[place] = of[i] = len(nodes)
            nodes.append(tensor.node)
            sizes.append(max(1, -(-tensor.size // profile.page)) * profile.page)
        else:
            of[i] = int(np.searchsorted(groups, tensor.offset, side="right")) - 1
    moves = [
        UnitMove(
            int(np.searchsorted(groups, m.offset or 0)) if m.tensor is None else variables[m.tensor],
            m.at,
            m.to,
            m.before,
        )
        for m in plan.moves
    ]
    born_fast = np.array([node == 0 for node in nodes], dtype=bool)
    unit, order = of[u.tensor], np.lexsort((u.position, of[u.tensor]))
    planned = order[unit[order] >= 0]
    fast = short[u.tensor]
    fast[planned] = in_fast_memory(unit[planned], u.position[planned], born_fast, moves)
    cost = costs(profile, figures, plan.made.get("fast_step_ns"))
    saved = np.bincount(u.position, weights=np.where(fast, cost.gain, 0.0), minlength=n)
    times = [sizes[m.unit] // profile.page * figures.move_ns(m.to, profile.page) for m in moves]
    timeline = replay(cost.slot - saved, cost.lead, moves, times, plan.waits, figures)
    return Course(_memory(profile, plan, of, np.array(sizes, dtype=np.int64), born_fast, moves), timeline)


def _figures(plan: Plan) -> Figures:
    try:
        return figures_format.parse(plan.made.get("figures"))
    except FormatError as e:
        raise FormatError(f"the plan's made.figures: {e}") from None


def _memory(
    profile: Profile, plan: Plan, of: Ints, sizes: Ints, born_fast: Bools, moves: list[UnitMove]
) -> dict[str, Ints]:
    """Whole units from their first birth to their last death; a move takes its destination from `at` on."""
    t, n = profile.tensors, len(profile.ops)
    birth, death = np.full(len(sizes), n), np.zeros(len(sizes), dtype=np.int64)
    inside = np.flatnonzero(of >= 0)
    np.minimum.at(birth, of[inside], np.maximum(0, t.birth[inside]))
    np.maximum.at(death, of[inside], t.death[inside])
    change = np.zeros((2, n + 1), dtype=np.int64)
    node = np.where(born_fast, 0, 1)
    since = birth.copy()
    for move in moves:
        change[node[move.unit], since[move.unit]] += sizes[move.unit]
        change[node[move.unit], move.before] -= sizes[move.unit]
        node[move.unit], since[move.unit] = move.to, move.at
    for one in range(len(sizes)):
        change[node[one], since[one]] += sizes[one]
        change[node[one], death[one]] -= sizes[one]
    fast, slow = np.cumsum(change, axis=1)[:, :n]
    outside = live_bytes(profile, np.where(classes(profile) == OUTSIDE, t.bytes, 0))
    reserved = plan.predicted.get("pool_bytes", plan.reserved)
    return {"reserved": np.full(n, reserved), "fast": fast, "slow": slow + outside}
