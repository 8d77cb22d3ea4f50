# SPDX-License-Identifier: Apache-2.0
"""A replayed step as the statistics that the runtime records of an executed one (docs/sentinel.md)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from sentinel.replay.engine import BEGIN, REACH
from sentinel.replay.trace import PAGE

if TYPE_CHECKING:
    from sentinel.replay.engine import Moved, Replayed, Scenario
    from sentinel.replay.trace import Kind

_OUTCOMES = {"there": "resident", "pending": "unfinished"}  # names of the runtime's statistics
_COUNTERS = ("promoted", "demoted", "late", "failed", "crowded", "cancelled", "absent", "copied")


def counters(replayed: Replayed) -> dict[str, int]:
    """Return the runtime's counters of a replayed step: bytes, numbers, and ns of exposed time."""
    return {
        **{name: replayed.pages[name] * PAGE for name in _COUNTERS},
        "new_pages": replayed.pages["new_pages"],
        "remaps": replayed.remaps,
        "exposed_ns": round(replayed.exposed_ns),
    }


def executed(replayed: Replayed, scenario: Scenario, kind: Kind) -> dict[str, Any]:
    """Return the times of a planned step: `step`, `moves` and `ops`, in ns from its begin.

    `ops` are the begins of the operations by position, empty if the traced step had other operations.
    """
    ready, due = _times(scenario, replayed, BEGIN), _times(scenario, replayed, REACH)
    with_frames = scenario.frames is not None
    moves = []
    for index, move, moved in zip(scenario.plan_moves, scenario.moves, replayed.moved, strict=True):
        by_remap = with_frames and scenario.groups[move.group].window
        due_ns = due.at(move.before)
        gives_up = move.to == 0 and not replayed.waiting
        moves.append(
            {
                "move": index,
                "outcome": _OUTCOMES.get(moved.outcome, moved.outcome),
                "reason": _reason(moved, due_ns, gives_up=gives_up),
                "ready_ns": (ready if by_remap else due).at(move.at),
                "due_ns": due_ns,
                **_spans(moved, by_remap=by_remap),
            }
        )
    step = {"begin_ns": 0, "step_ns": round(replayed.step_ns)}
    return {"step": step, "moves": moves, "ops": _begins(replayed, kind)}


def _reason(moved: Moved, due_ns: int, *, gives_up: bool) -> str | None:
    """Why a move was cancelled; those that were cancelled before their deadline do not say."""
    if moved.outcome != "cancelled" or moved.ended_ns is None or round(moved.ended_ns) < due_ns:
        return None
    return "given up" if gives_up else "stuck"


def _spans(moved: Moved, *, by_remap: bool) -> dict[str, int | None]:
    """The times of a move: the copy, and for windows the end of the remap."""
    ended = moved.ended_ns if moved.outcome == "moved" else None
    times = (moved.begin_ns, moved.copied_ns if by_remap else ended, ended if by_remap else None)
    return {
        name: None if ns is None else round(ns)
        for name, ns in zip(("begin_ns", "end_ns", "remap_ns"), times, strict=True)
    }


class _Times:
    """When the step has come to a position, by rising positions and their times."""

    def __init__(self, reached: Iterable[tuple[int, float]], end_ns: float) -> None:
        self._positions: list[int] = []
        self._ns: list[float] = []
        for position, ns in reached:
            if not self._positions or position > self._positions[-1]:
                self._positions.append(position)
                self._ns.append(ns)
        self._end_ns = end_ns

    def at(self, position: int) -> int:
        """The ns at which it has, that of the step's end if it does not before."""
        i = bisect_left(self._positions, position)
        return 0 if position < 0 else round(self._ns[i] if i < len(self._ns) else self._end_ns)


def _times(scenario: Scenario, replayed: Replayed, kind: int) -> _Times:
    """Times of the watermark (BEGIN), or of the positions that the step reaches (REACH)."""
    actions = (action for action in scenario.actions if action[1] == kind)
    reached = ((action[2], float(replayed.event_ns[action[0]])) for action in actions)
    return _Times(reached, replayed.computed_ns)


def _begins(replayed: Replayed, kind: Kind) -> list[int]:
    events = {(op.name, op.occurrence): op.event for op in kind.ops}
    ops = kind.profile.ops
    keys = zip(ops.name, ops.occurrence.tolist(), strict=True)
    found = [events.get(key) for key in keys]
    return [] if None in found else [round(float(replayed.event_ns[e])) for e in found if e is not None]
