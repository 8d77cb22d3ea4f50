# SPDX-License-Identifier: Apache-2.0
"""What a researcher asks of a profile and a plan, as plain numbers: tables and plots are made of these."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .errors import FormatError
from .formats import figures as figures_format
from .formats.figures import Figures
from .formats.plan import Placed, Plan
from .formats.profile import Profile
from .memory.arena import spread
from .memory.classify import CLASSES, OUTSIDE, classes, live_bytes, peak
from .placement.place import new_pages
from .schedule.intervals import layer_starts
from .schedule.scheduler import UnitMove
from .timing.cost import costs
from .timing.replay import Timeline, contention, in_fast_memory, replay

if TYPE_CHECKING:
    from .formats.fields import Bools, Floats, Ints

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
    held = _held(profile, plan)
    groups = {group.offset: i for i, group in enumerate(plan.groups)}
    units = len(groups) + len(plan.tensors)  # groups, then tensors, of which variables move as such
    moves = [
        UnitMove(groups[m.offset or 0] if m.tensor is None else len(groups) + m.tensor, m.at, m.to, m.before)
        for m in plan.moves
    ]
    born_fast = np.zeros(units, dtype=bool)
    born_fast[: len(groups)] = [group.node == 0 for group in plan.groups]
    born_fast[len(groups) :] = [tensor.node == 0 for tensor in plan.tensors]
    # each use once for every unit that holds part of its tensor
    first = np.searchsorted(held.tensor, np.arange(len(t) + 1))
    which, row = spread(first[u.tensor], first[u.tensor + 1] - first[u.tensor])
    order = np.lexsort((u.position[which], held.unit[row]))
    which, row = which[order], row[order]
    fast = in_fast_memory(held.unit[row], u.position[which], born_fast, moves)
    cost = costs(profile, figures, plan.made.get("fast_step_ns"))
    gain = np.where(fast, cost.gain[which] * held.share[row], 0.0)
    size = np.array([*(group.size for group in plan.groups), *(_whole(profile, x) for x in plan.tensors)])
    slot = cost.slot - np.bincount(u.position[which], weights=gain, minlength=n)
    lost = contention(cost.at_slow(slot), slot, moves, size, figures)
    slot = slot + _renewed(profile, plan, held, figures) + lost
    times = [int(size[m.unit]) // profile.page * figures.move_ns(m.to, profile.page) for m in moves]
    timeline = replay(slot, cost.lead, moves, times, plan.waits, figures)
    return Course(_memory(profile, plan, held, size, born_fast, moves), timeline)


class _Held(NamedTuple):
    """Which tensors are in which units, sorted by tensor; `share` is the part of a tensor's touched bytes
    that the unit holds. Units are the plan's groups, then its tensors that are in none.
    """

    tensor: Ints
    unit: Ints
    share: Floats


def _held(profile: Profile, plan: Plan) -> _Held:
    index = {profile.key(i): i for i in range(len(profile.tensors))}
    touched: list[int] = profile.tensors.bytes.tolist()
    starts = [group.offset for group in plan.groups]
    rows: list[tuple[int, int, float]] = []
    for place, tensor in enumerate(plan.tensors):
        i = index[tensor.key]
        if tensor.pool == "short" or tensor.offset is None:
            rows.append((i, len(starts) + place, 1.0))
            continue
        begin = tensor.offset
        for unit in range(bisect_right(starts, begin) - 1, len(starts)):
            group = plan.groups[unit]
            if group.offset >= begin + max(1, tensor.size):
                break
            inside = min(begin + touched[i], group.offset + group.size) - max(begin, group.offset)
            rows.append((i, unit, max(0, inside) / max(1, touched[i])))
    rows.sort()
    tensors, units, shares = zip(*rows) if rows else ((), (), ())
    return _Held(
        np.array(tensors, dtype=np.int64), np.array(units, dtype=np.int64), np.array(shares, dtype=float)
    )


def _renewed(profile: Profile, plan: Plan, held: _Held, figures: Figures) -> Floats:
    """At each position the ns that new pages of groups take that do not keep theirs."""
    born = np.full(len(plan.groups) + len(plan.tensors), len(profile.ops))
    np.minimum.at(born, held.unit, np.maximum(0, profile.tensors.birth[held.tensor]))
    used = np.bincount(held.unit, weights=held.share, minlength=len(born)) > 0
    groups = [i for i, group in enumerate(plan.groups) if not group.keep and used[i]]
    size = np.array([plan.groups[i].size for i in groups], dtype=np.int64)
    node = np.array([plan.groups[i].node for i in groups], dtype=np.int64)
    ns = new_pages(figures, size, node)
    return np.bincount(born[groups], weights=ns, minlength=len(profile.ops)).astype(np.float64)


def _whole(profile: Profile, tensor: Placed) -> int:
    """Bytes of its pages."""
    return max(1, -(-tensor.size // profile.page)) * profile.page


def _figures(plan: Plan) -> Figures:
    try:
        return figures_format.parse(plan.made.get("figures"))
    except FormatError as e:
        raise FormatError(f"the plan's made.figures: {e}") from None


def _memory(
    profile: Profile, plan: Plan, held: _Held, size: Ints, born_fast: Bools, moves: list[UnitMove]
) -> dict[str, Ints]:
    """What moves is whole from its first birth to its last death, and in its destination from `at` on; of the
    rest the tensors that live are shown.
    """
    t, n = profile.tensors, len(profile.ops)
    birth, death = np.maximum(0, t.birth[held.tensor]), t.death[held.tensor]
    begin, end = np.full(len(size), n), np.zeros(len(size), dtype=np.int64)
    np.minimum.at(begin, held.unit, birth)
    np.maximum.at(end, held.unit, death)
    change = np.zeros((2, n + 1), dtype=np.int64)
    node = np.where(born_fast, 0, 1)
    since = begin.copy()
    moved = np.zeros(len(size), dtype=bool)
    for move in moves:
        change[node[move.unit], since[move.unit]] += size[move.unit]
        change[node[move.unit], move.before] -= size[move.unit]
        node[move.unit], since[move.unit] = move.to, move.at
        moved[move.unit] = True
    for one in np.flatnonzero(moved).tolist():
        change[node[one], since[one]] += size[one]
        change[node[one], end[one]] -= size[one]
    short = np.array([False] * len(plan.groups) + [x.pool == "short" for x in plan.tensors], dtype=bool)
    rest = ~moved[held.unit] & ~short[held.unit]
    part = np.rint(held.share * t.bytes[held.tensor]).astype(np.int64)[rest]
    np.add.at(change, (node[held.unit[rest]], birth[rest]), part)
    np.add.at(change, (node[held.unit[rest]], death[rest]), -part)
    fast, slow = np.cumsum(change, axis=1)[:, :n]
    outside = live_bytes(profile, np.where(classes(profile) == OUTSIDE, t.bytes, 0))
    reserved = plan.predicted.get("pool_bytes", plan.reserved)
    return {"reserved": np.full(n, reserved), "fast": fast, "slow": slow + outside}
