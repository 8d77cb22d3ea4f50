# SPDX-License-Identifier: Apache-2.0
"""A planned step and its execution: each move as the plan has it, and what became of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from results import moves as move_records
from results.migration import grown
from results.moves import MoveRecord, StepMoves
from results.reasons import Reasons
from results.records import Step
from sentinel.planner.formats.plan import Move, Plan
from sentinel.planner.simulate import Simulation
from sentinel.planner.timing.cores import returning

if TYPE_CHECKING:
    from sentinel.planner.formats.fields import Floats

Status = Literal[
    "on time", "late", "moved", "cancelled", "failed", "unfinished", "absent", "there", "not recorded"
]
EXECUTED: tuple[Status, ...] = ("on time", "late", "moved")
NOT_EXECUTED: tuple[Status, ...] = ("cancelled", "failed", "unfinished")
_OF_OUTCOME: dict[str, Status] = {
    "resident": "there",
    "cancelled": "cancelled",
    "failed": "failed",
    "absent": "absent",
    "unfinished": "unfinished",
    "none": "unfinished",
}


class Span(NamedTuple):
    """A time from `begin` to `end`, in ns since the step's begin."""

    begin: float
    end: float


@dataclass(frozen=True)
class ExecutedMove:
    """A move of a plan and its execution. Times in ns since the step's begin, sizes in bytes.

    `planned` and `measured` last from the begin of the copy to the end of the move; `copied` is the end of
    the copy. `ready` and `due` are when the move might begin, and its deadline. `tensor` names the largest
    tensor that it moves. `late_ns` is how long after its deadline it ended. What is not known is None.
    """

    number: int
    tensor: str
    size: int
    to: int
    status: Status
    planned: Span | None
    planned_due: float | None
    measured: Span | None
    copied: float | None
    ready: float | None
    due: float | None
    late_ns: float
    reason: str

    @property
    def verb(self) -> str:
        """What it does: `promote` or `demote`."""
        return "promote" if self.to == 0 else "demote"


@dataclass(frozen=True)
class Executed:
    """A planned step and its execution.

    `counts` are the runtime's counters of the step, by name; `planned_begin` and `measured_begin` the begins
    of the operations by position and the end of the step, in ns, None if they are not known.
    """

    plan: Plan
    step: int
    step_ns: float
    counts: dict[str, int]
    moves: list[ExecutedMove]
    planned_begin: Floats | None
    measured_begin: Floats | None

    @property
    def statuses(self) -> Counter[Status]:
        """The number of moves by status."""
        return Counter(move.status for move in self.moves)

    @property
    def untimely(self) -> list[ExecutedMove]:
        """The moves that were late or not executed, worst first.

        First those that were not executed, by size, then by how late they were.
        """
        found = [move for move in self.moves if move.status == "late" or move.status in NOT_EXECUTED]
        return sorted(found, key=lambda move: (move.status == "late", -move.late_ns, -move.size, move.number))

    def planned_bytes(self, *, to: int) -> int:
        """Return the bytes that the plan moves to a node."""
        return sum(move.size for move in self.plan.moves if move.to == to)

    @property
    def planned_copies(self) -> int:
        """The bytes that the plan copies: `move_pages` copies whatever it moves."""
        return sum(move.size for move in self.plan.moves if move.copy)

    @property
    def planned_remaps(self) -> int:
        """The windows that the plan remaps, those of dead groups included."""
        moves = [(move.offset, move.to) for move in self.plan.moves if move.map is not None]
        return len(moves) + len(returning((offset or 0, to) for offset, to in moves))


def execute(
    plan: Plan, simulation: Simulation | None, before: Step | None, step: Step, ns: float
) -> Executed:
    """Return how a step of `ns` executed its plan; `before` is the record of the step before it.

    Raises `DamagedError` if the record is damaged.
    """
    recorded = move_records.read(step, moves=len(plan.moves), ops=plan.ops)
    names = tensor_names(plan)
    timeline = simulation.timeline if simulation is not None else None
    reasons = Reasons(plan, recorded, names, timeline)
    planned_begin = timeline.begin if timeline is not None else None
    executed = []
    for number, move in enumerate(plan.moves):
        record = recorded.moves.get(number)
        status = _status(record)
        timely = status not in ("late", "absent", *NOT_EXECUTED)
        span = timeline.spans[number] if timeline is not None else None
        due = None if record is None else recorded.since_begin(record.due_ns)
        measured, copied = (None, None) if record is None else _times(record, recorded)
        executed.append(
            ExecutedMove(
                number=number,
                tensor=names[number],
                size=move.size,
                to=move.to,
                status=status,
                planned=None if span is None or not np.isfinite(span[1]) else Span(*map(float, span)),
                planned_due=None if planned_begin is None else float(planned_begin[move.before]),
                measured=measured,
                copied=copied,
                ready=None if record is None else recorded.since_begin(record.ready_ns),
                due=due,
                late_ns=_late_ns(measured, due) if status == "late" else 0.0,
                reason="" if timely else reasons.of(number),
            )
        )
    return Executed(
        plan=plan,
        step=step.step,
        step_ns=ns,
        counts=grown(before, step),
        moves=executed,
        planned_begin=planned_begin,
        measured_begin=_measured_begin(plan, recorded, planned_begin),
    )


def tensor_names(plan: Plan) -> list[str]:
    """Return for each move the name of the largest tensor that it moves, and how many others it moves."""
    inside: dict[int, list[tuple[int, str]]] = {}
    offsets = [group.offset for group in plan.groups]
    ends = np.array([group.offset + group.size for group in plan.groups])
    for tensor in plan.tensors:
        if tensor.pool == "short" or tensor.offset is None:
            continue
        first = int(np.searchsorted(ends, tensor.offset, side="right"))
        name = f"{tensor.op}:{tensor.k}" if tensor.op is not None else str(tensor.name)
        for group in range(first, len(offsets)):
            if offsets[group] >= tensor.offset + max(1, tensor.size):
                break
            inside.setdefault(offsets[group], []).append((tensor.size, name))
    return [_name(plan, move, inside) for move in plan.moves]


def _name(plan: Plan, move: Move, inside: dict[int, list[tuple[int, str]]]) -> str:
    if move.tensor is not None:
        return str(plan.tensors[move.tensor].name)
    tensors = sorted(inside.get(move.offset or 0, [(0, "?")]), key=lambda tensor: -tensor[0])
    return tensors[0][1] + (f" and {len(tensors) - 1} more" if len(tensors) > 1 else "")


def _status(record: MoveRecord | None) -> Status:
    if record is None:
        return "not recorded"
    if record.outcome != "moved":
        return _OF_OUTCOME[record.outcome]
    if record.finish_ns is None or record.due_ns is None:
        return "moved"
    return "late" if record.finish_ns > record.due_ns else "on time"


def _late_ns(measured: Span | None, due: float | None) -> float:
    return 0.0 if measured is None or due is None else max(0.0, measured.end - due)


def _times(record: MoveRecord, recorded: StepMoves) -> tuple[Span | None, float | None]:
    """Return the span of a move, and the end of its copy."""
    begin, copied = recorded.since_begin(record.begin_ns), recorded.since_begin(record.end_ns)
    remapped = recorded.since_begin(record.remap_ns)
    if begin is None:
        return None, None
    last = remapped if remapped is not None else copied
    return Span(begin, begin if last is None else max(begin, last)), copied


def _measured_begin(plan: Plan, recorded: StepMoves, planned: Floats | None) -> Floats | None:
    """Return when each operation began, and when the step ended.

    Unless that is recorded, operations between recorded positions take times in proportion to the planned.
    """
    if recorded.begin_ns is None or not recorded.step_ns:
        return None
    n, end = plan.ops, float(recorded.step_ns)
    if recorded.ops:
        return np.maximum.accumulate(np.append(recorded.ops, end).astype(np.float64))
    known = {0: 0.0, n: end}
    for number, record in recorded.moves.items():
        for position, ns in (
            (plan.moves[number].at, record.ready_ns),
            (plan.moves[number].before, record.due_ns),
        ):
            since = recorded.since_begin(ns)
            if since is not None and 0 < position < n and 0 <= since <= end:
                known[position] = min(since, known.get(position, end))
    positions = np.array(sorted(known))
    times = np.maximum.accumulate([known[position] for position in positions.tolist()])
    axis = np.arange(n + 1, dtype=np.float64) if planned is None else planned
    return np.interp(axis, axis[positions], times)
