# SPDX-License-Identifier: Apache-2.0
"""The moves of a planned step as its record has them (docs/sentinel.md, Statistics).

Older records of the runtime have no moves by `move_pages`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from results.decoding import DamagedError
from results.records import LARGEST, Step

Outcome = Literal["none", "moved", "resident", "cancelled", "absent", "failed", "unfinished"]
Reason = Literal["given up", "stuck", "step end", "written", "died", "superseded", "stopped"]
_Ns = Annotated[int, Field(ge=-LARGEST, le=LARGEST)] | None


class MoveRecord(BaseModel):
    """What became of the move with the index `move` in the plan. Times are in ns on the record's clock.

    `ready_ns`: it was allowed to begin; `due_ns`: the step came to its deadline; `begin_ns`, `end_ns`: of the
    copy; `remap_ns`: end of the remap. `reason` says why it was cancelled. None: it did not come to that, or
    is not recorded.
    """

    model_config = ConfigDict(frozen=True, strict=True)
    move: int = Field(ge=0)
    outcome: Outcome
    reason: Reason | None = None
    ready_ns: _Ns = None
    due_ns: _Ns = None
    begin_ns: _Ns = None
    end_ns: _Ns = None
    remap_ns: _Ns = None

    @property
    def finish_ns(self) -> int | None:
        """When the move had ended, or None if it had not."""
        if self.outcome != "moved":
            return None
        return self.end_ns if self.remap_ns is None else self.remap_ns


class _Clocked(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)
    begin_ns: _Ns = None
    step_ns: Annotated[int, Field(ge=0, le=LARGEST)] = 0


class _Recorded(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)
    step: _Clocked = _Clocked()
    moves: list[MoveRecord] = []
    ops: list[Annotated[int, Field(ge=0, le=LARGEST)]] = []


@dataclass(frozen=True)
class StepMoves:
    """The moves of a step, by index in the plan. `begin_ns` is the step's begin on the clock of their times.

    `begin_ns` is None in older records, which cannot be shown on a time axis. `step_ns` is the length of the
    step on that clock, `ops` the begin of each operation in ns from the step's begin, if it is recorded.
    """

    begin_ns: int | None
    step_ns: int
    moves: dict[int, MoveRecord]
    ops: list[int]

    def since_begin(self, ns: int | None) -> float | None:
        """Return a time of a move in ns from the step's begin."""
        return None if ns is None or self.begin_ns is None else float(ns - self.begin_ns)


def read(step: Step, *, moves: int, ops: int) -> StepMoves:
    """Return the moves that the record of a step has, of a plan with so many moves and operations.

    Raises `DamagedError` if it is damaged, or of another plan.
    """
    try:
        recorded = _Recorded.model_validate({k: v for k, v in step.runtime.items() if k in _FIELDS})
    except ValidationError as e:
        error = e.errors(include_url=False)[0]
        where = ".".join(str(part) for part in error["loc"])
        raise DamagedError(f"step {step.step}: damaged: runtime.{where}: {error['msg']}") from None
    by_index = {record.move: record for record in recorded.moves}
    if len(by_index) < len(recorded.moves):
        raise DamagedError(f"step {step.step}: damaged: runtime.moves has a move twice")
    if by_index and max(by_index) >= moves:
        raise DamagedError(
            f"step {step.step}: runtime.moves are of another plan: it has no move {max(by_index)}"
        )
    return StepMoves(
        begin_ns=recorded.step.begin_ns,
        step_ns=recorded.step.step_ns,
        moves=by_index,
        ops=recorded.ops if len(recorded.ops) == ops else [],
    )


_FIELDS = frozenset(_Recorded.model_fields)
