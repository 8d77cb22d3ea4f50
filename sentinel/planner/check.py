# SPDX-License-Identifier: Apache-2.0
"""Whether a plan is sound: goes through the step by the plan and its profile alone, and tells broken rules.

It shares no code with what makes plans but the formats: what they get wrong in the same way would not be
seen. Rules are those of docs/sentinel.md. Positions are what counts here, not predicted times: a move takes
its destination from `at` on and its source until `before`, however long it takes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from .formats.plan import Move, Placed, Plan
from .formats.profile import SCRATCH, VARIABLE, Profile

_ALIGNMENT = 64


def check(profile: Profile, plan: Plan) -> list[str]:
    """Every rule that `plan` breaks for `profile`, a line each; empty if it is sound."""
    if plan.graph != profile.graph or plan.ops != len(profile.ops):
        return ["graph: the plan is for another graph than the profile"]
    return [*_numbers(profile, plan), *_Step(profile, plan).problems()]


def assured(profile: Profile, plan: Plan) -> Plan:
    """The plan, which was made just now of `profile`. Raises AssertionError if it is not sound: a defect."""
    broken = check(profile, plan)
    if broken:
        raise AssertionError("\n".join(["a defect of the planner, its plan is not sound:", *broken[:20]]))
    return plan


def _numbers(profile: Profile, plan: Plan) -> Iterator[str]:
    """What can be told without going through the step."""
    n, layer = len(profile.ops), profile.ops.layer
    for name in ("reserved", "arena"):
        if getattr(plan, name) % profile.page:
            yield f"{name}: is not in whole pages"
    if not plan.intervals or plan.intervals[0] != 0 or plan.intervals != sorted(set(plan.intervals)):
        yield "intervals: must begin with 0 and rise"
    for p in plan.intervals:
        if p >= n or (p > 0 and layer[p] == layer[p - 1]):
            yield f"intervals: no layer begins at {p}"
    for p in plan.waits:
        if p not in plan.intervals and p != n:
            yield f"waits: {p} is not the end of an interval"
    if plan.waits != sorted(set(plan.waits)):
        yield "waits: must rise"
    end = 0
    for i, group in enumerate(sorted(plan.groups)):
        if group.offset % profile.page or group.size % profile.page:
            yield f"groups: the one at {group.offset} is not in whole pages"
        if i and group.offset < end:
            yield f"groups: the one at {group.offset} overlaps another"
        end = group.offset + group.size
    if end > plan.arena:
        yield f"arena: {plan.arena} bytes do not hold its groups"
    moved = sum(move.size if move.tensor is None else _whole(move.size, profile.page) for move in plan.moves)
    if plan.predicted.get("moved_bytes") != moved:
        yield f"predicted.moved_bytes: is not the {moved} bytes of the moves"


@dataclass
class _Unit:
    """Pages that move as one: a group, or a variable."""

    name: str
    size: int
    node: int
    keep: bool = False  # its pages, which never move
    piece: bool = False  # of a tensor that is in several groups
    births: list[int] = field(default_factory=list)
    deaths: list[int] = field(default_factory=list)
    uses: set[int] = field(default_factory=set)
    layers: set[frozenset[int]] = field(default_factory=set)
    moves: list[Move] = field(default_factory=list)


class _Step:
    """The step by the plan: places first, then moves, then memory."""

    def __init__(self, profile: Profile, plan: Plan) -> None:
        self.profile, self.plan, self.n = profile, plan, len(profile.ops)
        self.uses: list[list[int]] = [[] for _ in range(len(profile.tensors))]
        for tensor, position in zip(profile.uses.tensor.tolist(), profile.uses.position.tolist()):
            self.uses[tensor].append(position)
        t = profile.tensors
        self.birth: list[int] = t.birth.tolist()
        self.death: list[int] = t.death.tolist()
        self.layer: list[int] = profile.ops.layer.tolist()
        self.groups = {g.offset: _Unit(f"group {g.offset}", g.size, g.node, g.keep) for g in plan.groups}
        self.variables: dict[int, _Unit] = {}

    def problems(self) -> Iterator[str]:
        index = {self.profile.key(i): i for i in range(len(self.profile.tensors))}
        short: list[tuple[int, Placed]] = []
        arena: list[tuple[int, Placed]] = []
        seen: set[int] = set()
        for place, tensor in enumerate(self.plan.tensors):
            i = index.get(tensor.key)
            if i is None:
                yield f"tensors[{place}]: is not in the profile"
            elif i in seen:
                yield f"tensors[{place}]: is there twice"
            elif self.profile.tensors.thread[i]:
                yield f"tensors[{place}]: was allocated by another thread, and has no key"
            elif tensor.position is not None and tensor.position != self.profile.tensors.op[i]:
                yield f"tensors[{place}]: its operation is not at {tensor.position}"
            elif self._outlives(i):
                yield f"tensors[{place}]: may outlive the step, and the next one would find it there"
            elif tensor.pool == "short":
                short.append((i, tensor))
                yield from self._is_short(i, tensor, place)
            elif self.profile.tensors.kind[i] == VARIABLE:
                if tensor.offset is not None:
                    yield f"tensors[{place}]: a variable has a place in the arena"
                size = _whole(tensor.size, self.profile.page)
                unit = self.variables[place] = _Unit(f"variable {tensor.name}", size, tensor.node)
                self._join(unit, i)
            elif tensor.op is None:
                yield f"tensors[{place}]: is from before the step, and no variable"
            else:
                arena.append((i, tensor))
            seen.add(-1 if i is None else i)
        yield from self._apart("short", short, self.plan.reserved)
        yield from self._apart("long", arena, self.plan.arena)
        yield from self._in_groups(arena)
        yield from self._moves()
        units = [*self.groups.values(), *self.variables.values()]
        for unit in units:
            yield from self._course(unit)
        held = self._held(short, 0, self.plan.reserved)
        for group in self.plan.groups:
            if group.keep and group.node == 0:
                held += self._held(arena, group.offset, group.offset + group.size)
        held += sum(unit.size for unit in self.variables.values() if unit.node == 0 and not unit.moves)
        if held + self.plan.room > self.plan.budget:
            room = f"{held} bytes that never move, and room for {self.plan.room}"
            yield f"budget: of {self.plan.budget} bytes of fast memory are {room}"
        yield from self._memory([unit for unit in units if not unit.keep])

    def _outlives(self, i: int) -> bool:
        kind = self.profile.tensors.kind[i]
        return self.death[i] == self.n and kind not in (VARIABLE, SCRATCH)

    def _held(self, tensors: list[tuple[int, Placed]], start: int, end: int) -> int:
        """Bytes of a pool from `start` to `end` that are ever touched, if of tensors the first pages are."""
        page, pages, top = self.profile.page, 0, 0
        held: list[int] = self.profile.tensors.bytes.tolist()
        for begin, last in sorted(((t.offset or 0, (t.offset or 0) + held[i]) for i, t in tensors)):
            if begin < end and start < last:
                after = _pages(min(last, end), page)
                pages += max(0, after - max(top, max(begin, start) // page))
                top = max(top, after)
        return pages * page

    def _is_short(self, i: int, tensor: Placed, place: int) -> Iterator[str]:
        birth, death = self.birth[i], self.death[i]
        if birth < 0 or self.layer[birth] != self.layer[death - 1]:
            yield f"tensors[{place}]: is in the reserved pool, and lives in more than one layer"
        if tensor.node != 0:
            yield f"tensors[{place}]: the reserved pool is on node 0"

    def _join(self, unit: _Unit, i: int) -> None:
        unit.births.append(self.birth[i])
        unit.deaths.append(self.death[i])
        unit.uses.update(self.uses[i])
        unit.layers.add(frozenset(self.layer[p] for p in (*self.uses[i], max(0, self.birth[i]))))

    def _apart(self, pool: str, tensors: list[tuple[int, Placed]], end: int) -> Iterator[str]:
        """No two that live at the same time overlap, and all are inside."""
        events: list[tuple[int, int, int]] = []
        where = {i: (t.offset or 0, (t.offset or 0) + t.size, f"{t.op} {t.k}") for i, t in tensors}
        for i, (begin, last, label) in where.items():
            if begin % _ALIGNMENT:
                yield f"{label}: its offset {begin} is no multiple of {_ALIGNMENT}"
            if last > end:
                yield f"{label}: is not inside the {pool} pool of {end} bytes"
            if last > begin:
                events += [(self.death[i], 0, i), (self.birth[i], 1, i)]
        living: dict[int, tuple[int, int, str]] = {}
        for _, born, i in sorted(events):
            if not born:
                del living[i]
                continue
            begin, last, label = where[i]
            for other_begin, other_last, other in living.values():
                if other_begin < last and begin < other_last:
                    yield f"{label}: overlaps {other} in the {pool} pool while both live"
                    break
            living[i] = where[i]

    def _in_groups(self, tensors: list[tuple[int, Placed]]) -> Iterator[str]:
        """Every tensor is covered by one group, or by several without a gap, its pieces."""
        ordered = sorted(self.groups)
        for i, t in sorted(tensors, key=lambda pair: pair[1].offset or 0):
            begin = t.offset or 0
            start = _last_not_after(ordered, begin)
            unit = self.groups.get(start)
            if unit is None or begin >= start + unit.size:
                yield f"{t.op} {t.k}: is in no group"
                continue
            if t.node != unit.node:
                yield f"{t.op} {t.k}: is born on another node than its group"
            while unit is not None and start < begin + t.size:
                self._join(unit, i)
                unit.piece |= not start <= begin < begin + t.size <= start + unit.size
                start += unit.size
                unit = self.groups.get(start)
            if start < begin + t.size:
                yield f"{t.op} {t.k}: goes beyond its groups"
        for unit in self.groups.values():
            if len(unit.layers) > 1 and not unit.keep:
                yield f"{unit.name}: tensors with different sets of layers share it"
            if not unit.births and not unit.keep:
                yield f"{unit.name}: there is nothing in it"
            if unit.piece and len(unit.births) > 1 and not unit.keep:
                yield f"{unit.name}: is a piece of one tensor, and there is another in it"

    def _moves(self) -> Iterator[str]:
        at = 0
        for i, move in enumerate(self.plan.moves):
            unit = (
                self.groups.get(move.offset or 0) if move.tensor is None else self.variables.get(move.tensor)
            )
            if move.at < at:
                yield f"moves[{i}]: is not in order of `at`"
            at = move.at
            if unit is not None and unit.keep:
                yield f"moves[{i}]: is of a group that keeps its pages"
            if unit is None or (move.tensor is None and move.size != unit.size):
                yield f"moves[{i}]: is not of one group"
                continue
            if not 0 <= move.at < move.before <= self.n:
                yield f"moves[{i}]: must be there after it is given, and in the step"
            if move.to == 0 and move.before not in self.plan.waits:
                yield f"moves[{i}]: a promotion is due at {move.before}, where nobody waits for it"
            unit.moves.append(move)

    def _course(self, unit: _Unit) -> Iterator[str]:
        """The moves of one unit, one after the other."""
        node, free_from = unit.node, max(unit.births, default=0) + 1
        uses = sorted(unit.uses)
        variable = min(unit.births, default=0) < 0
        for i, move in enumerate(unit.moves):
            where = f"{unit.name}: the move at {move.at}"
            if move.to == node:
                yield f"{where} is to node {move.to}, where it is"
            if move.at < free_from:
                yield f"{where} is given before all of it is born, or the move before is over"
            if move.before > max(unit.deaths, default=0):
                yield f"{where} is still under way when it is dead"
            if any(move.at <= p < move.before for p in uses):
                yield f"{where} is under way when it is used"
            if move.to == 0:
                leaves = unit.moves[i + 1].at if i + 1 < len(unit.moves) else self.n
                again = variable and i + 1 == len(unit.moves) and any(p < unit.moves[0].at for p in uses)
                if not again and not any(move.before <= p < leaves for p in uses):
                    yield f"{where} is for nothing: it is not used before it leaves"
            node, free_from = move.to, move.before
        if variable and node != unit.node:
            yield f"{unit.name}: is on node {node} after the step, and on {unit.node} before it"

    def _memory(self, units: list[_Unit]) -> Iterator[str]:
        """What comes and goes in fast memory at every position, with moves under way in both places."""
        change: dict[int, int] = defaultdict(int)
        for unit in units:
            if not unit.births or (min(unit.births) < 0 and not unit.moves):
                continue
            begin = max(0, min(unit.births)) if unit.node == 0 else None
            end = max(unit.deaths)
            for move in unit.moves:
                if move.to == 0 and begin is None:
                    begin = move.at
                elif move.to == 1 and begin is not None:
                    change[begin] += unit.size
                    change[move.before] -= unit.size
                    begin = None
            if begin is not None:
                change[begin] += unit.size
                change[end] -= unit.size
        taken = 0
        for p in sorted(change):
            taken += change[p]
            if taken > self.plan.room:
                yield f"room: {taken} bytes of fast memory are taken at position {p}"


def _pages(size: int, page: int) -> int:
    return -(-size // page)


def _whole(size: int, page: int) -> int:
    return max(1, _pages(size, page)) * page


def _last_not_after(ordered: list[int], value: int) -> int:
    """The last of `ordered` that is not after `value`; -1 if there is none."""
    low, high = 0, len(ordered)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if ordered[middle] <= value else (low, middle)
    return ordered[low - 1] if low else -1
