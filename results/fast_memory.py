# SPDX-License-Identifier: Apache-2.0
"""Bytes in fast memory over a step, from the times at which its operations and moves ran."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from sentinel.planner.simulate import unit_contents, unit_moves

if TYPE_CHECKING:
    from sentinel.planner.formats.fields import Floats, Ints
    from sentinel.planner.formats.plan import Plan
    from sentinel.planner.formats.profile import Profile


def fast_bytes(
    profile: Profile, plan: Plan, begin: Floats, spans: Sequence[tuple[float, float] | None]
) -> tuple[Floats, Ints]:
    """Return times in ns at which the bytes in fast memory change, and the bytes from then on.

    `begin` has the begins of the operations and the end of the step, `spans` the begin and the end of each
    move, None of one that was not executed. A promoted group counts from the begin of its move, a demoted one
    until the end, and whole while it lives. Of what does not migrate the live tensors count, and of the
    reserved pool what the plan expects to be touched.
    """
    contents, t = unit_contents(profile, plan), profile.tensors
    birth, death = np.maximum(0, t.birth[contents.tensor]), t.death[contents.tensor]
    nodes = [group.node for group in plan.groups] + [tensor.node for tensor in plan.tensors]
    pools = ["long"] * len(plan.groups) + [tensor.pool for tensor in plan.tensors]
    moves: dict[int, list[int]] = {}
    for number, move in enumerate(unit_moves(plan)):
        moves.setdefault(move.unit, []).append(number)
    born: dict[int, int] = {}
    died: dict[int, int] = {}
    changes = [(0.0, int(plan.predicted.get("pool_bytes", plan.reserved)))]
    rows = zip(
        *(a.tolist() for a in (contents.tensor, contents.unit, contents.share, birth, death)), strict=True
    )
    for tensor, unit, share, first, end in rows:
        if unit in moves:
            born[unit], died[unit] = min(born.get(unit, first), first), max(died.get(unit, end), end)
        elif nodes[unit] == 0 and pools[unit] == "long":
            size = round(share * int(t.resident_bytes[tensor]))
            changes += [(float(begin[first]), size), (float(begin[end]), -size)]
    for unit, numbers in moves.items():
        if unit not in born:
            continue
        size, last = plan.moves[numbers[0]].size, float(begin[died[unit]])
        since = float(begin[born[unit]]) if nodes[unit] == 0 else None
        for number in numbers:
            span = spans[number]
            if span is None:
                continue
            if plan.moves[number].to == 0 and since is None:
                since = span[0]
            elif plan.moves[number].to == 1 and since is not None:
                changes += [(since, size), (max(since, span[1]), -size)]
                since = None
        if since is not None:
            changes += [(since, size), (max(since, last), -size)]
    times, deltas = (np.array(column) for column in zip(*changes, strict=True))
    order = np.argsort(times, kind="stable")
    return times[order].astype(np.float64), np.cumsum(deltas[order]).astype(np.int64)
