# SPDX-License-Identifier: Apache-2.0
"""The rules for migratable groups of plans with frames: moves, ranges of the fast frame pool, and uses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from .check_ranges import Range, overlaps
from .formats.plan import Group, Move, Plan, Use
from .formats.profile import Profile


@dataclass
class Window:
    """A migratable group: `writes` are positions that allocate or write in it, `uses` all positions."""

    group: Group
    births: list[int] = field(default_factory=list)
    deaths: list[int] = field(default_factory=list)
    uses: set[int] = field(default_factory=set)
    writes: set[int] = field(default_factory=set)
    moves: list[Move] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"group {self.group.offset}"


def check_frames(profile: Profile, plan: Plan, windows: Sequence[Window]) -> Iterator[str]:
    """Check the migratable groups of a plan with frames."""
    frames = plan.frames or 0
    if frames % profile.page_bytes:
        yield "frames: is not a multiple of the page size"
    for window in windows:
        yield from _check_moves(window)
        ranges = [move.frame for move in window.moves if move.to == 0]
        for frame in ranges if window.group.node else [window.group.frame, *ranges]:
            if frame is None or frame % profile.page_bytes or frame + window.group.size > frames:
                yield f"{window.name}: its range at {frame} is not in whole pages inside the fast frame pool"
    yield from _check_ranges(windows)
    yield from _check_uses(profile, plan.uses, windows)


def _check_moves(window: Window) -> Iterator[str]:
    """Check moves against births, writes, uses and each other."""
    node, movable_from = window.group.node, max(window.births, default=0) + 1
    clean = False  # the home has the group's content
    uses, writes = sorted(window.uses), sorted(window.writes)
    for i, move in enumerate(window.moves):
        name = f"{window.name}: the move at {move.at}"
        mapped = move.at if move.map is None else move.map
        if move.to == node:
            yield f"{name} is to node {move.to}, where the group is already"
        if move.at < movable_from:
            yield f"{name} is before the last birth in the group, or before the end of the previous move"
        if not move.at <= mapped <= move.before:
            yield f"{name} is remapped at {mapped}, outside its time"
        if move.before > max(window.deaths, default=0):
            yield f"{name} ends after the group's death"
        if any(move.at <= p < move.before for p in writes):
            yield f"{name} is in progress during a write"
        if any(mapped <= p < move.before for p in uses):
            yield f"{name} is in progress during a use after {mapped}"
        previous = window.moves[i - 1] if i else None
        if previous is not None and any(previous.at <= p < move.at for p in writes):
            clean = False
        if not move.copy and (move.to == 0 or not clean):
            yield f"{name} copies nothing, but its destination does not have the content"
        if move.to == 0:
            end = window.moves[i + 1].before if i + 1 < len(window.moves) else max(window.deaths, default=0)
            if not any(move.before <= p < end for p in uses):
                yield f"{name} is useless: no use follows before the next move"
        clean = True  # both copies are equal until the next write
        node, movable_from = move.to, move.before


def _check_ranges(windows: Sequence[Window]) -> Iterator[str]:
    """Ranges of the fast frame pool are disjoint while they are taken."""
    ranges: list[Range] = []

    def take(window: Window, frame: int | None, begin: int, end: int) -> None:
        if frame is not None:
            ranges.append(Range(frame, frame + window.group.size, begin, end, window.name))

    for window in windows:
        if not window.moves:
            if window.group.node == 0:
                for begin, end in _lives(window):
                    take(window, window.group.frame, begin, end)
            continue
        frame, begin = window.group.frame, min(window.births, default=0)
        fast = window.group.node == 0
        for move in window.moves:
            if move.to == 0 and not fast:
                frame, begin, fast = move.frame, move.at, True
            elif move.to == 1 and fast:
                take(window, frame, begin, move.before)
                fast = False
        if fast:
            take(window, frame, begin, max(window.deaths, default=0))
    for frames, other in overlaps(ranges):
        yield f"{frames.name}: its range at {frames.first} is that of {other.name} at position {frames.begin}"


def _lives(window: Window) -> Iterator[tuple[int, int]]:
    """Yield the times in which a tensor of the window lives, without overlaps."""
    begin = end = -1
    for birth, death in sorted(zip(window.births, window.deaths)):
        if birth > end:
            if end >= 0:
                yield begin, end
            begin = birth
        end = max(end, death)
    if end >= 0:
        yield begin, end


def _check_uses(profile: Profile, uses: Sequence[Use], windows: Sequence[Window]) -> Iterator[str]:
    """`uses` lists the operations that allocate or use migratable groups, and where they wait for others."""
    expected = sorted({p for window in windows for p in (*window.uses, *window.births)})
    t, u = profile.tensors, profile.uses
    waiting: set[int] = set()  # positions that read a result of another operation of the step
    for tensor, position, reads in zip(u.tensor.tolist(), u.position.tolist(), u.reads.tolist()):
        if reads and 0 <= t.birth[tensor] < position:
            waiting.add(position)
    names = [
        Use(profile.ops.name[p], int(profile.ops.occurrence[p]), p if p in waiting else None)
        for p in expected
    ]
    if list(uses) != names:
        found = next((i for i, (a, b) in enumerate(zip(uses, names)) if a != b), min(len(uses), len(names)))
        yield f"uses[{found}]: is not the next operation that uses a migratable group"
