# SPDX-License-Identifier: Apache-2.0
"""The rules for the units of a plan: when they may move, and how much fast memory they occupy."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from .formats.plan import Move


@dataclass
class Unit:
    """Pages that migrate together: a group or a variable. A `piece` holds only part of a tensor."""

    name: str
    size: int
    node: int
    keep: bool = False
    piece: bool = False
    births: list[int] = field(default_factory=list)
    deaths: list[int] = field(default_factory=list)
    uses: set[int] = field(default_factory=set)
    layer_sets: set[frozenset[int]] = field(default_factory=set)
    moves: list[Move] = field(default_factory=list)


def check_moves(unit: Unit, n: int) -> Iterator[str]:
    """Check the moves of a unit against its lifetime, its uses and each other; the step has `n` positions."""
    node, movable_from = unit.node, max(unit.births, default=0) + 1
    uses = sorted(unit.uses)
    variable = min(unit.births, default=0) < 0
    for i, move in enumerate(unit.moves):
        name = f"{unit.name}: the move at {move.at}"
        if move.to == node:
            yield f"{name} is to node {move.to}, where the unit is already"
        if move.at < movable_from:
            yield f"{name} is before the last birth in the unit, or before the end of the previous move"
        if move.before > max(unit.deaths, default=0):
            yield f"{name} ends after the unit's death"
        if any(move.at <= p < move.before for p in uses):
            yield f"{name} is in progress during a use"
        if move.to == 0:
            next_at = unit.moves[i + 1].at if i + 1 < len(unit.moves) else n
            for_next_step = variable and i + 1 == len(unit.moves) and any(p < unit.moves[0].at for p in uses)
            if not for_next_step and not any(move.before <= p < next_at for p in uses):
                yield f"{name} is useless: no use follows before the next move"
        node, movable_from = move.to, move.before
    if variable and node != unit.node:
        yield f"{unit.name}: is on node {node} after the step, but on {unit.node} before it"


def check_migratable_budget(units: list[Unit], budget: int) -> Iterator[str]:
    """Sum up migratable units in fast memory at each position; a migrating unit counts on both nodes."""
    change: dict[int, int] = defaultdict(int)
    for unit in units:
        if not unit.births or (min(unit.births) < 0 and not unit.moves):
            continue
        begin = max(0, min(unit.births)) if unit.node == 0 else None
        for move in unit.moves:
            if move.to == 0 and begin is None:
                begin = move.at
            elif move.to == 1 and begin is not None:
                change[begin] += unit.size
                change[move.before] -= unit.size
                begin = None
        if begin is not None:
            change[begin] += unit.size
            change[max(unit.deaths)] -= unit.size
    occupied = 0
    for p in sorted(change):
        occupied += change[p]
        if occupied > budget:
            yield f"room: migratable units occupy {occupied} bytes of fast memory at position {p}"
