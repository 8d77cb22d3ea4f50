# SPDX-License-Identifier: Apache-2.0
"""Why a move was late, or was not executed, as far as the record of its step tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

from results.moves import MoveRecord, StepMoves
from results.units import duration
from sentinel.planner.formats.plan import Plan
from sentinel.planner.timing.timeline import Timeline

_LEAST_NS = 1000.0  # shorter delays explain nothing
_LEAST_SHARE = 0.1  # of the time until the deadline
_LONGER = 1.25  # than planned: worth a word
_CANCELLED = {
    "given up": "given up at its deadline: in this step late promotions are not waited for",
    "stuck": "at its deadline it needed a further operation to end",
    "step end": "unfinished at the step's end",
    "written": "written during its copy",
    "died": "its last tensor died before it ended",
    "superseded": "the opposite move of the same pages came before it began",
    "stopped": "its plan ended",
}
_OTHER = {
    "absent": "the group was not alive, or the variable not known yet",
    "failed": "the system refused it",
    "unfinished": "unfinished at the step's end",
    "none": "unfinished at the step's end",
}
Range = tuple[int, int]


class Reasons:
    """The reasons of a step's moves. `names` are those of the moves' tensors."""

    def __init__(
        self, plan: Plan, recorded: StepMoves, names: Sequence[str], timeline: Timeline | None
    ) -> None:
        self._plan, self._recorded, self._names, self._timeline = plan, recorded, names, timeline

    def of(self, number: int) -> str:
        """Return the reasons for what became of a move that was not on time."""
        record = self._recorded.moves[number]
        texts = [_OTHER.get(record.outcome, "")]
        if record.outcome == "cancelled":
            texts.append(_CANCELLED.get(record.reason or "", ""))
        if self._recorded.begin_ns is not None and record.outcome in ("moved", "cancelled", "unfinished"):
            texts += [self._delay(number, record), self._window(number, record)]
            texts += [self._copy(number, record), self._remap(record)]
        return "; ".join(filter(None, texts)) or "reason not recorded"

    def _at(self, ns: int | None) -> str:
        since = self._recorded.since_begin(ns)
        return "?" if since is None else duration(since)

    def _delay(self, number: int, record: MoveRecord) -> str:
        """Why it began later than it might have, or not at all."""
        until = record.due_ns if record.begin_ns is None else record.begin_ns
        if record.ready_ns is None or until is None:
            return ""
        window = 0 if record.due_ns is None else record.due_ns - record.ready_ns
        if until - record.ready_ns < max(_LEAST_NS, _LEAST_SHARE * window):
            return ""
        verb = "waited for" if record.begin_ns is not None else "still waited for"
        blocker = self._blocker(number, record.ready_ns, until)
        if blocker is not None:
            when = self._finish(blocker)
            which = f"the frames of {self._names[blocker]}"
            return f"{verb} {which} until {self._at(when)}" if when is not None else f"{verb} {which}"
        others = [
            other
            for other in self._recorded.moves.values()
            if other.move != number and self._serves_both(other.move, number)
            if other.begin_ns is not None and other.end_ns is not None
            if other.begin_ns < until and other.end_ns > record.ready_ns
        ]
        if others:
            who = "migration cores" if self._plan.moves[number].map is not None else "migration thread"
            return f"began late, since the {who} had {len(others)} other moves until {self._at(until)}"
        return f"began {duration(until - record.ready_ns)} after it might" if record.begin_ns else ""

    def _serves_both(self, a: int, b: int) -> bool:
        """Whether the same threads migrate both: all cores by frames, else one for each direction."""
        a_move, b_move = self._plan.moves[a], self._plan.moves[b]
        return (a_move.map is None) == (b_move.map is None) and (
            a_move.map is not None or a_move.to == b_move.to
        )

    def _window(self, number: int, record: MoveRecord) -> str:
        """Whether the step came to the deadline sooner than planned."""
        if self._timeline is None or record.ready_ns is None or record.due_ns is None:
            return ""
        move, begin = self._plan.moves[number], self._timeline.begin
        planned, measured = (
            float(begin[move.before] - begin[max(0, move.at)]),
            record.due_ns - record.ready_ns,
        )
        if measured <= 0:
            return "the step came to its begin and its deadline at once"
        if planned - measured < _LEAST_NS or measured * _LONGER > planned:
            return ""
        return f"had {duration(measured)} until its deadline, planned {duration(planned)}"

    def _copy(self, number: int, record: MoveRecord) -> str:
        if self._timeline is None or record.begin_ns is None or record.end_ns is None:
            return ""
        begin, end = self._timeline.spans[number]
        measured = record.end_ns - record.begin_ns
        if measured < _LEAST_NS or measured < _LONGER * (end - begin):
            return ""
        return f"its copy took {duration(measured)}, planned {duration(end - begin)}"

    def _remap(self, record: MoveRecord) -> str:
        if record.end_ns is None or record.due_ns is None or record.end_ns > record.due_ns:
            return ""
        if record.remap_ns is not None and record.remap_ns - record.end_ns > _LEAST_NS:
            return f"was copied at {self._at(record.end_ns)}, but in use until {self._at(record.remap_ns)}"
        return ""

    def _finish(self, number: int) -> int | None:
        record = self._recorded.moves.get(number)
        return record.finish_ns if record is not None else None

    def _blocker(self, number: int, ready: int, until: int) -> int | None:
        """The last demotion to leave a part of the frames of a promotion while it waited, or that did not."""
        move = self._plan.moves[number]
        if move.to == 1 or move.frame is None:
            return None
        blockers: list[tuple[int, int]] = []
        for other, (start, end) in self._left.items():
            if end <= move.frame or start >= move.frame + move.size or other >= number:
                continue
            finish = self._finish(other)
            cancelled = other in self._recorded.moves and self._recorded.moves[other].outcome == "cancelled"
            if finish is None and cancelled:
                blockers.append((until, other))
            elif finish is not None and ready < finish <= until:
                blockers.append((finish, other))
        return max(blockers)[1] if blockers else None

    @cached_property
    def _left(self) -> Mapping[int, Range]:
        """The frame range that each demotion leaves, by its number."""
        frames = {group.offset: group.frame for group in self._plan.groups}
        left: dict[int, Range] = {}
        for number, move in enumerate(self._plan.moves):
            if move.offset is None or move.map is None:
                continue
            if move.to == 0:
                frames[move.offset] = move.frame
            elif (frame := frames.get(move.offset)) is not None:
                left[number] = (frame, frame + move.size)
        return left
