# SPDX-License-Identifier: Apache-2.0
"""What the runtime does with a traced step under a plan: places of tensors, and when pages move.

docs/sentinel.md has the rules. With frames, groups are windows. Tensors that the plan does not place stay
where they were traced, on node 1.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from sentinel.replay import frames
from sentinel.replay.engine import (
    ABSENT,
    BORN,
    DIED,
    DISCARD,
    HOME,
    MAP,
    REACH,
    WINDOW,
    Group,
    Move,
    Scenario,
)
from sentinel.replay.placement import dense_lines, dense_page, identity_lines, outside_pool
from sentinel.replay.trace import LINE, LINES, PAGE, Kind, Trace, TracedTensor
from testbed.common.errors import UsageError

if TYPE_CHECKING:
    from sentinel.planner.formats.plan import Plan, TensorPlacement

_Action = tuple[int, int, int, int, int]


class _Pool:
    """A pool of the plan: the places that are taken, in bytes. `first_page` is a target page."""

    def __init__(self, first_page: int, size: int) -> None:
        self.first_page, self.pages = first_page, -(-size // PAGE)
        self._live: list[tuple[int, int]] = []

    def claim(self, offset: int, size: int) -> bool:
        """Take a place. Returns False if a part of it is taken."""
        i = bisect_left(self._live, (offset, 0))
        if i < len(self._live) and self._live[i][0] < offset + size:
            return False
        if i and self._live[i - 1][1] > offset:
            return False
        insort(self._live, (offset, offset + size))
        return True

    def release(self, offset: int, size: int) -> tuple[int, int]:
        """Free a place. Returns the pages of the pool, first and end, that no other tensor has."""
        i = bisect_left(self._live, (offset, offset + size))
        del self._live[i]
        first, end = offset // PAGE, -(-(offset + size) // PAGE)
        if i:
            first = max(first, -(-self._live[i - 1][1] // PAGE))
        if i < len(self._live):
            end = min(end, self._live[i][0] // PAGE)
        return first, end


def planned(trace: Trace, kind: Kind, plan: Plan) -> Scenario:
    """Return the scenario of a plan. Raises `UsageError` if the plan is of another graph."""
    if plan.graph != kind.profile.graph:
        raise UsageError("the plan is of another graph than the trace")
    return _Builder(trace, kind, plan).scenario()


class _Builder:
    def __init__(self, trace: Trace, kind: Kind, plan: Plan) -> None:
        self._trace, self._kind, self._plan = trace, kind, plan
        dense = len(trace.pages)
        self._reserved = _Pool(dense, plan.reserved)
        self._arena = _Pool(dense + self._reserved.pages, plan.arena)
        self._frames = _Pool(self._arena.first_page + self._arena.pages, plan.frames or 0)
        self._kept = [(g.offset // PAGE, (g.offset + g.size) // PAGE) for g in plan.groups if g.keep]
        self._by_key = {t.key: t for t in plan.tensors}
        self._groups = self._all_groups()
        self._group_index = {group.page: i for i, group in enumerate(self._groups)}
        self._group_starts = [group.page for group in self._groups]

    def scenario(self) -> Scenario:
        moves = self._moves()
        return Scenario(
            page=self._pages(),
            line=identity_lines(len(self._trace.pages)),
            actions=sorted(self._actions(), key=lambda action: action[0]),
            groups=self._groups,
            moves=list(moves.values()),
            plan_moves=list(moves),
            waits=list(self._plan.waits),
            room=self._plan.migratable_budget // PAGE,
            frames=self._frames.first_page if self._plan.has_frames else None,
        )

    def _frame(self, offset: int | None) -> int:
        """The target page of an offset in the fast frame pool; None is home."""
        return HOME if offset is None else self._frames.first_page + offset // PAGE

    def _variables(self) -> dict[str, TracedTensor]:
        return {t.name: t for t in self._kind.tensors if t.op < 0 and t.name is not None}

    def _all_groups(self) -> list[Group]:
        """Groups that are not kept, and variables that move, by page."""
        groups = [
            Group(
                page=self._arena.first_page + g.offset // PAGE,
                pages=g.size // PAGE,
                node=g.node,
                live=0,
                window=self._plan.has_frames,
                frame=self._frame(g.frame),
            )
            for g in self._plan.groups
            if not g.keep
        ]
        moving = {move.tensor for move in self._plan.moves if move.tensor is not None}
        variables = self._variables()
        for index in moving:
            tensor = self._plan.tensors[index]
            traced = variables.get(tensor.name or "")
            if traced is not None:
                groups.append(Group(*self._variable_pages(traced), tensor.node, live=1))
        return sorted(groups)

    def _variable_pages(self, traced: TracedTensor) -> tuple[int, int]:
        """The first dense page of a tensor, and their number."""
        first, end = traced.address // PAGE, -(-(traced.address + traced.size) // PAGE)
        return dense_page(self._trace, traced.address), end - first

    def _pages(self) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
        """The state of all target pages when the step begins."""
        identity = outside_pool(self._trace)
        for name, traced in self._variables().items():
            tensor = self._by_key.get(("", name, 0, traced.size))
            if tensor is not None and tensor.offset is None:
                first, count = self._variable_pages(traced)
                identity[first : first + count] = tensor.node
        arena = np.full(self._arena.pages, ABSENT, dtype=np.uint8)
        for group in self._plan.groups:
            state = group.node if group.keep else WINDOW if self._plan.has_frames else ABSENT + group.node
            arena[group.offset // PAGE : (group.offset + group.size) // PAGE] = state
        reserved, fast = (np.zeros(pool.pages, dtype=np.uint8) for pool in (self._reserved, self._frames))
        return np.concatenate([identity, reserved, arena, fast])

    def _moves(self) -> dict[int, Move]:
        """The moves of what the trace has, by their index in the plan."""
        variables = self._variables()
        moves = {}
        for index, move in enumerate(self._plan.moves):
            if move.tensor is None:
                assert move.offset is not None  # noqa: S101 -- the format has one of both
                page = self._arena.first_page + move.offset // PAGE
            else:
                traced = variables.get(self._plan.tensors[move.tensor].name or "")
                if traced is None:
                    continue
                page = dense_page(self._trace, traced.address)
            group = self._group_index[page]
            frame = self._frame(move.frame)
            moves[index] = Move(move.at, move.before, move.to, group, move.map or 0, frame, move.copy)
        return moves

    def _actions(self) -> Iterable[_Action]:
        if self._plan.has_frames:
            yield from frames.begins(self._kind, self._plan)
        yield from self._positions()
        placed: dict[int, tuple[_Pool, TensorPlacement]] = {}
        changes = [(t.born, 1, i) for i, t in enumerate(self._kind.tensors) if t.born is not None]
        changes += [(t.died, 0, i) for i, t in enumerate(self._kind.tensors) if t.died is not None]
        for event, is_birth, i in sorted(changes):
            traced = self._kind.tensors[i]
            if is_birth:
                place = self._place(traced)
                if place is not None:
                    placed[i] = place
                yield from self._birth(event, traced, place)
            elif i in placed:
                yield from self._death(event, traced, *placed.pop(i))

    def _positions(self) -> Iterable[_Action]:
        """The positions that the step reaches, by the operations that the plan names."""
        position = frames.positions(self._plan)
        for tensor in self._plan.tensors:
            if tensor.op is not None and tensor.position is not None:
                position[tensor.op, tensor.occurrence] = tensor.position
        reached = -1
        for op in self._kind.ops:
            new = position.get((op.name, op.occurrence), -1)
            if new > reached:
                reached = new
                yield op.event, REACH, reached, 0, 0

    def _place(self, traced: TracedTensor) -> tuple[_Pool, TensorPlacement] | None:
        """The place of a tensor that is born, if the plan has one for it that is free."""
        if traced.op < 0:
            return None
        op = self._kind.ops[traced.op]
        tensor = self._by_key.get((op.name, op.occurrence, traced.k, traced.size))
        if tensor is None or tensor.offset is None:
            return None
        pool = self._reserved if tensor.pool == "short" else self._arena
        return (pool, tensor) if pool.claim(tensor.offset, traced.size) else None

    def _birth(
        self, event: int, traced: TracedTensor, place: tuple[_Pool, TensorPlacement] | None
    ) -> Iterable[_Action]:
        first, count = dense_lines(self._trace, traced)
        if place is None:
            yield event, MAP, first, count, first
            return
        pool, tensor = place
        assert tensor.offset is not None  # noqa: S101 -- _place() checks it
        if pool is self._arena:
            yield from self._of_groups(event, BORN, tensor.offset, traced.size)
        yield event, MAP, first, count, pool.first_page * LINES + tensor.offset // LINE

    def _death(
        self, event: int, traced: TracedTensor, pool: _Pool, tensor: TensorPlacement
    ) -> Iterable[_Action]:
        assert tensor.offset is not None  # noqa: S101 -- _place() checks it
        first, end = pool.release(tensor.offset, traced.size)
        if pool is self._reserved:
            return
        yield from self._of_groups(event, DIED, tensor.offset, traced.size)
        if self._plan.has_frames:
            return  # homes and frames keep their memory
        for start, stop in _outside(first, end, self._kept):
            yield event, DISCARD, pool.first_page + start, stop - start, 0

    def _of_groups(self, event: int, action: int, offset: int, size: int) -> Iterable[_Action]:
        """The action for the groups of a tensor in the arena."""
        first_page = self._arena.first_page + offset // PAGE
        end_page = self._arena.first_page + -(-(offset + size) // PAGE)
        begin = bisect_left(self._group_starts, first_page + 1)
        if begin and self._groups[begin - 1][0] + self._groups[begin - 1][1] > first_page:
            begin -= 1
        end = bisect_left(self._group_starts, end_page)
        if end > begin:
            yield event, action, begin, end - begin, 0


def _outside(first: int, end: int, kept: list[tuple[int, int]]) -> Iterable[tuple[int, int]]:
    """The parts of [first, end) that are in none of the ranges, which are in order."""
    for start, stop in kept:
        if stop <= first or start >= end:
            continue
        if start > first:
            yield first, start
        first = stop
    if first < end:
        yield first, end
