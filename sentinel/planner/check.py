# SPDX-License-Identifier: Apache-2.0
"""The soundness of plans by the rules of docs/sentinel.md, checked by a replay of the step.

Shares no code with the search except the formats, so that an error of the search cannot hide itself. The
check works on positions, not on predicted times: a move occupies its destination from `at` on and its source
until `before`, however long it takes.
"""

from __future__ import annotations

from collections.abc import Iterator

from .check_frames import Window, check_frames
from .check_ranges import Range, overlaps
from .check_units import Unit, check_migratable_budget, check_moves
from .formats.plan import Plan, TensorPlacement
from .formats.profile import SCRATCH, VARIABLE, Profile

_ALIGNMENT = 64
_Tensors = list[tuple[int, TensorPlacement]]  # with their index in the profile


def check(profile: Profile, plan: Plan) -> list[str]:
    """Return every rule that `plan` breaks for `profile`, one line each; an empty list if it is sound."""
    if plan.graph != profile.graph or plan.ops != len(profile.ops):
        return ["graph: the plan is for another graph than the profile"]
    return [*_check_totals(profile, plan), *_StepCheck(profile, plan).broken_rules()]


def ensure_sound(profile: Profile, plan: Plan) -> Plan:
    """Return a new plan of `profile`. Raises AssertionError if it is not sound: a bug of the planner."""
    broken = check(profile, plan)
    if broken:
        raise AssertionError("\n".join(["bug in the planner: the plan is not sound:", *broken[:20]]))
    return plan


def _check_totals(profile: Profile, plan: Plan) -> Iterator[str]:
    """Check the rules that need no replay of the step."""
    n, layer = len(profile.ops), profile.ops.layer
    for name in ("reserved", "arena"):
        if getattr(plan, name) % profile.page_bytes:
            yield f"{name}: is not a multiple of the page size"
    if not plan.intervals or plan.intervals[0] != 0 or plan.intervals != sorted(set(plan.intervals)):
        yield "intervals: must begin with 0 and ascend"
    for p in plan.intervals:
        if p >= n or (p > 0 and layer[p] == layer[p - 1]):
            yield f"intervals: no layer begins at {p}"
    for p in plan.waits:
        if p not in plan.intervals and p != n and not plan.has_frames:
            yield f"waits: {p} is not the end of an interval"
    if plan.waits != sorted(set(plan.waits)):
        yield "waits: must ascend"
    end = 0
    for i, group in enumerate(sorted(plan.groups)):
        if group.offset % profile.page_bytes or group.size % profile.page_bytes:
            yield f"groups: the group at {group.offset} is not in whole pages"
        if i and group.offset < end:
            yield f"groups: the group at {group.offset} overlaps another"
        end = group.offset + group.size
    if end > plan.arena:
        yield f"arena: the groups exceed its {plan.arena} bytes"
    moved_bytes = sum(
        move.size if move.tensor is None else _whole_pages(move.size, profile.page_bytes)
        for move in plan.moves
        if move.copy
    )
    if plan.predicted.get("moved_bytes") != moved_bytes:
        yield f"predicted.moved_bytes: must be {moved_bytes}, the sum of the copies"


class _StepCheck:
    """Checks tensors and addresses, then moves, then memory."""

    def __init__(self, profile: Profile, plan: Plan) -> None:
        self.profile, self.plan, self.n = profile, plan, len(profile.ops)
        self.uses: list[list[int]] = [[] for _ in range(len(profile.tensors))]
        self.writes: list[list[int]] = [[] for _ in range(len(profile.tensors))]
        u = profile.uses
        for tensor, position, writes in zip(u.tensor.tolist(), u.position.tolist(), u.writes.tolist()):
            self.uses[tensor].append(position)
            if writes:
                self.writes[tensor].append(position)
        t = profile.tensors
        self.birth: list[int] = t.birth.tolist()
        self.death: list[int] = t.death.tolist()
        self.layer: list[int] = profile.ops.layer.tolist()
        self.groups = {g.offset: Unit(f"group {g.offset}", g.size, g.node, g.keep) for g in plan.groups}
        self.windows = {g.offset: Window(g) for g in plan.groups if plan.has_frames and not g.keep}
        self.variables: dict[int, Unit] = {}
        self.pool: _Tensors = []
        self.arena: _Tensors = []

    def broken_rules(self) -> Iterator[str]:
        yield from self._check_tensors()
        yield from self._check_addresses("short", self.pool, self.plan.reserved)
        yield from self._check_addresses("long", self.arena, self.plan.arena)
        yield from self._check_groups()
        yield from self._check_moves()
        groups = [unit for offset, unit in self.groups.items() if offset not in self.windows]
        units = [*groups, *self.variables.values()]
        for unit in units:
            yield from check_moves(unit, self.n)
        if self.plan.has_frames:
            yield from check_frames(self.profile, self.plan, list(self.windows.values()))
        yield from self._check_budget()
        migratable = [unit for unit in units if not unit.keep]
        yield from check_migratable_budget(migratable, self.plan.migratable_budget)

    def _check_tensors(self) -> Iterator[str]:
        """Check the placement of each tensor by itself, and sort tensors into pool, arena and variables."""
        t = self.profile.tensors
        index = {self.profile.key(i): i for i in range(len(t))}
        seen: set[int] = set()
        for place, tensor in enumerate(self.plan.tensors):
            path = f"tensors[{place}]"
            i = index.get(tensor.key)
            if i is None:
                yield f"{path}: is not in the profile"
                continue
            if i in seen:
                yield f"{path}: is a duplicate"
            elif t.thread[i]:
                yield f"{path}: has no key, because another thread allocated it"
            elif tensor.position is not None and tensor.position != t.op[i]:
                yield f"{path}: its operation is not at {tensor.position}"
            elif self.death[i] == self.n and t.kind[i] not in (VARIABLE, SCRATCH):
                yield f"{path}: is not freed within the step; the next one may find it there"
            elif tensor.pool == "short":
                self.pool.append((i, tensor))
                birth, death = self.birth[i], self.death[i]
                if birth < 0 or self.layer[birth] != self.layer[death - 1]:
                    yield f"{path}: is in the reserved pool, but lives in more than one layer"
                if tensor.node != 0:
                    yield f"{path}: is on node 1, but the reserved pool is on node 0"
            elif t.kind[i] == VARIABLE:
                if tensor.offset is not None:
                    yield f"{path}: is a variable, but has an offset"
                size = _whole_pages(tensor.size, self.profile.page_bytes)
                unit = self.variables[place] = Unit(f"variable {tensor.name}", size, tensor.node)
                self._add_to_unit(unit, i)
            elif tensor.op is None:
                yield f"{path}: is from before the step, but is not a variable"
            else:
                self.arena.append((i, tensor))
            seen.add(i)

    def _add_to_unit(self, unit: Unit, i: int) -> None:
        unit.births.append(self.birth[i])
        unit.deaths.append(self.death[i])
        unit.uses.update(self.uses[i])
        unit.layer_sets.add(frozenset(self.layer[p] for p in (*self.uses[i], max(0, self.birth[i]))))

    def _add_to_window(self, window: Window, i: int) -> None:
        window.births.append(self.birth[i])
        window.deaths.append(self.death[i])
        window.uses.update(self.uses[i])
        window.writes.update((self.birth[i], *self.writes[i]))

    def _check_addresses(self, pool: str, tensors: _Tensors, pool_size: int) -> Iterator[str]:
        """Tensors are aligned, inside the pool, and disjoint while both live."""
        ranges = []
        for i, t in tensors:
            offset, name = t.offset or 0, f"{t.op} {t.k}"
            if offset % _ALIGNMENT:
                yield f"{name}: its offset {offset} is not a multiple of {_ALIGNMENT}"
            if offset + t.size > pool_size:
                yield f"{name}: is not inside the {pool} pool of {pool_size} bytes"
            ranges.append(Range(offset, offset + t.size, self.birth[i], self.death[i], name))
        for tensor, other in overlaps(ranges):
            yield f"{tensor.name}: overlaps {other.name} in the {pool} pool while both live"

    def _check_groups(self) -> Iterator[str]:
        """One group covers each tensor, or several without a gap, as its pieces."""
        offsets = sorted(self.groups)
        for i, tensor in sorted(self.arena, key=lambda pair: pair[1].offset or 0):
            name, begin = f"{tensor.op} {tensor.k}", tensor.offset or 0
            end = begin + tensor.size
            start = _last_at_most(offsets, begin)
            unit = self.groups.get(start)
            if unit is None or begin >= start + unit.size:
                yield f"{name}: is in no group"
                continue
            if tensor.node != unit.node:
                yield f"{name}: is born on another node than its group"
            while unit is not None and start < end:
                self._add_to_unit(unit, i)
                if start in self.windows:
                    self._add_to_window(self.windows[start], i)
                unit.piece |= not start <= begin < end <= start + unit.size
                start += unit.size
                unit = self.groups.get(start)
            if start < end:
                yield f"{name}: extends beyond its groups"
        moved = {move.offset for move in self.plan.moves}
        for offset, unit in self.groups.items():
            if unit.keep or (offset in self.windows and offset not in moved and unit.births):
                continue
            if len(unit.layer_sets) > 1:
                yield f"{unit.name}: holds tensors with different sets of layers"
            if not unit.births:
                yield f"{unit.name}: is empty"
            if unit.piece and len(unit.births) > 1:
                yield f"{unit.name}: holds a piece of one tensor and another tensor"

    def _check_moves(self) -> Iterator[str]:
        """Check each move by itself, and assign it to its unit."""
        previous_at = 0
        for i, move in enumerate(self.plan.moves):
            path = f"moves[{i}]"
            if move.tensor is None:
                unit = self.groups.get(move.offset or 0)
            else:
                unit = self.variables.get(move.tensor)
            if move.at < previous_at:
                yield f"{path}: is not in order of `at`"
            previous_at = move.at
            if unit is not None and unit.keep:
                yield f"{path}: moves a group with `keep`"
            if unit is None or (move.tensor is None and move.size != unit.size):
                yield f"{path}: does not move one whole group"
                continue
            if not 0 <= move.at < move.before <= self.n:
                yield f"{path}: `before` must be after `at`, and within the step"
            if move.to == 0 and move.before not in self.plan.waits:
                yield f"{path}: is a promotion due at {move.before}, which is not in `waits`"
            unit.moves.append(move)
            if move.tensor is None and move.offset in self.windows:
                self.windows[move.offset].moves.append(move)

    def _check_budget(self) -> Iterator[str]:
        fixed_bytes = self._touched_bytes(self.pool, 0, self.plan.reserved)
        for group in self.plan.groups:
            if group.keep and group.node == 0:
                fixed_bytes += self._touched_bytes(self.arena, group.offset, group.offset + group.size)
        fixed_bytes += sum(unit.size for unit in self.variables.values() if unit.node == 0 and not unit.moves)
        frames, room = self.plan.frames or 0, self.plan.migratable_budget
        if fixed_bytes + room + frames > self.plan.budget:
            pool = f", {frames} bytes of frames" if self.plan.has_frames else ""
            yield (
                f"budget: {fixed_bytes} bytes that never move{pool} and a `room` of {room} "
                f"exceed the {self.plan.budget} bytes"
            )

    def _touched_bytes(self, tensors: _Tensors, start: int, end: int) -> int:
        """Return the bytes of touched pages from `start` to `end`, if each tensor touches its first pages."""
        page_bytes, pages, top = self.profile.page_bytes, 0, 0
        resident: list[int] = self.profile.tensors.resident_bytes.tolist()
        for begin, last in sorted(((t.offset or 0, (t.offset or 0) + resident[i]) for i, t in tensors)):
            if begin < end and start < last:
                end_page = _pages(min(last, end), page_bytes)
                pages += max(0, end_page - max(top, max(begin, start) // page_bytes))
                top = max(top, end_page)
        return pages * page_bytes


def _pages(size: int, page_bytes: int) -> int:
    return -(-size // page_bytes)


def _whole_pages(size: int, page_bytes: int) -> int:
    return max(1, _pages(size, page_bytes)) * page_bytes


def _last_at_most(ascending: list[int], value: int) -> int:
    """Return the last element that is at most `value`, or -1."""
    low, high = 0, len(ascending)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if ascending[middle] <= value else (low, middle)
    return ascending[low - 1] if low else -1
