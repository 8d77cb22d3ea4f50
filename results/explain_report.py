# SPDX-License-Identifier: Apache-2.0
"""An explanation of a planned step as text of 80 columns, and as JSON."""

from __future__ import annotations

import dataclasses
import textwrap
from typing import Any

from results import columns
from results.executed import Executed, ExecutedMove, Span, Status
from results.explain import Explanation
from results.units import duration, printable

FORMAT = 1
_WIDTH = 80
_STATUSES: tuple[Status, ...] = (
    "on time",
    "moved",
    "late",
    "cancelled",
    "failed",
    "unfinished",
    "absent",
    "there",
)


def figures(executed: Executed) -> list[tuple[str, str, str]]:
    """Return the figures of a step, planned and measured: a name and two texts each."""
    predicted, counts = executed.plan.predicted, executed.counts
    change = executed.step_ns / predicted["step_ns"] - 1 if predicted["step_ns"] else 0.0

    def size(counter: str) -> str:
        return columns.size(counts[counter]) if counter in counts else "-"

    def number(counter: str) -> str:
        return str(counts[counter]) if counter in counts else "-"

    frames = executed.plan.has_frames
    return [
        ("step time", duration(predicted["step_ns"]), f"{duration(executed.step_ns)} ({change:+.1%})"),
        (
            "exposed time",
            duration(predicted["exposed_ns"]),
            duration(counts["exposed_ns"]) if "exposed_ns" in counts else "-",
        ),
        ("promoted", columns.size(executed.planned_bytes(to=0)), size("promoted")),
        ("demoted", columns.size(executed.planned_bytes(to=1)), size("demoted")),
        ("copied for frames", columns.size(executed.planned_copies) if frames else "-", size("copied")),
        ("windows remapped", str(executed.planned_remaps) if frames else "-", number("remaps")),
        ("born without room", "0 B", size("crowded")),
        ("new pages", "0" if frames else "-", number("new_pages")),
    ]


def outcomes(executed: Executed) -> str:
    """Return the number of moves by status, such as `12 moves: 11 on time, 1 late`."""
    statuses = executed.statuses
    count = len(executed.moves) - statuses["not recorded"]
    parts = ", ".join(f"{statuses[status]} {status}" for status in _STATUSES if statuses[status])
    return (
        f"{_counted(count, 'move')}: {parts}"
        if count
        else "no moves recorded"
        if executed.moves
        else "no moves"
    )


def heading(explanation: Explanation) -> str:
    """Return the label of the cell and the step that is explained."""
    e = explanation
    kind = f", steps {e.kind}" if e.kind else ""
    how = "replayed" if e.replayed else f"by the {e.clock} clock"
    which = "the only measured one" if e.steps == 1 else f"the median of {e.steps}"
    return f"{e.label}{kind}: step {e.executed.step} of repeat {e.repeat}, {which}, {how}"


def text(explanation: Explanation, *, most: int) -> str:
    """Return the explanation as text, with at most `most` moves that were late or not executed."""
    return "\n".join(
        _wrapped(heading(explanation)) + body(explanation.executed, explanation.notes, most=most)
    )


def body(executed: Executed, notes: list[str], *, most: int) -> list[str]:
    """Return the lines of a planned step and its execution."""
    lines = [f"  {'':20}{'planned':>16}{'measured':>22}"]
    lines += [f"  {name:20}{planned:>16}{measured:>22}" for name, planned, measured in figures(executed)]
    lines += _wrapped(outcomes(executed), indent="  ")
    for note in notes:
        lines += _wrapped(f"note: {note}", indent="  ")
    untimely = executed.untimely
    for move in untimely[:most]:
        lines += _move(move)
    if len(untimely) > most:
        lines.append(f"  {len(untimely) - most} more such moves: --json has all")
    return lines


def _move(move: ExecutedMove) -> list[str]:
    what: str = move.status
    if move.status == "late":
        what += f" by {duration(move.late_ns)}"
    lines = _wrapped(f"{move.verb} {printable(move.tensor)}, {columns.size(move.size)}: {what}", indent="  ")
    lines += _wrapped(times(move), indent="    ")
    return lines + _wrapped(printable(move.reason), indent="    ")


def times(move: ExecutedMove) -> str:
    """Return the planned and the measured times of a move."""
    planned, measured = _span(move.planned, move.planned_due), _span(move.measured, move.due)
    return f"planned {planned}; measured {measured}"


def _span(span: Span | None, due: float | None) -> str:
    text = "-" if span is None else f"{duration(span.begin)} to {duration(span.end)}"
    return text if due is None else f"{text}, due {duration(due)}"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _wrapped(line: str, indent: str = "") -> list[str]:
    more = indent + "  "
    return textwrap.wrap(line, _WIDTH, initial_indent=indent, subsequent_indent=more)


def to_dict(explanations: list[Explanation], warnings: list[str]) -> dict[str, Any]:
    """Return the explanations for JSON, times in nanoseconds and sizes in bytes."""
    return {
        "format": FORMAT,
        "warnings": warnings,
        "plans": [
            {
                "cell": e.cell,
                "label": e.label,
                "policy": e.policy,
                "kind": e.kind or None,
                "repeat": e.repeat,
                "measured_steps": e.steps,
                "clock": e.clock,
                "replayed": e.replayed,
                "notes": e.notes,
                **executed_dict(e.executed),
            }
            for e in explanations
        ],
    }


def executed_dict(executed: Executed) -> dict[str, Any]:
    """Return a planned step and its execution for JSON."""
    predicted = executed.plan.predicted
    return {
        "mechanism": "frames" if executed.plan.has_frames else "move_pages",
        "step": executed.step,
        "planned": {
            "step_ns": predicted["step_ns"],
            "exposed_ns": predicted["exposed_ns"],
            "promoted": executed.planned_bytes(to=0),
            "demoted": executed.planned_bytes(to=1),
            "copied": executed.planned_copies,
            "remaps": executed.planned_remaps,
        },
        "measured": {"step_ns": executed.step_ns, **executed.counts},
        "statuses": dict(executed.statuses),
        "moves": [_move_dict(move) for move in executed.moves],
    }


def _move_dict(move: ExecutedMove) -> dict[str, Any]:
    value = dataclasses.asdict(move)
    for name in ("planned", "measured"):
        span = value[name]
        value[name] = None if span is None else {"begin_ns": span[0], "end_ns": span[1]}
    for name in ("planned_due", "copied", "ready", "due"):
        value[f"{name}_ns"] = value.pop(name)
    return value
