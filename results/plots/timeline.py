# SPDX-License-Identifier: Apache-2.0
"""The timeline of a planned step and its execution: what a page draws, in percent of its width.

Planned times are outlines, measured ones are filled.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from results.columns import size
from results.executed import EXECUTED, NOT_EXECUTED, Executed, ExecutedMove
from results.explain_report import times
from results.fast_memory import fast_bytes
from results.units import digits, duration, time_unit

if TYPE_CHECKING:
    from sentinel.planner.formats.fields import Floats, Ints
    from sentinel.planner.formats.profile import Profile
    from sentinel.planner.simulate import Simulation

_ROW = 16  # pixels from one row of a lane to the next
_BAR = 11  # pixels that a bar is high
_NARROWEST = 0.08  # percent
_MOST_ROWS = 14
_POINTS = 500  # along a step, for bytes in fast memory
_TICKS = 4


@dataclass(frozen=True)
class Bar:
    """A rectangle: percent of the width, pixels from the lane's top, CSS class, and text on hovering."""

    x: float
    width: float
    y: float
    height: float
    css: str
    title: str


@dataclass(frozen=True)
class Lane:
    """A lane of bars, `height` pixels high."""

    title: str
    height: int
    bars: list[Bar]


@dataclass(frozen=True)
class Memory:
    """Bytes in fast memory: SVG paths in a box of 1000 by 100, and what the box's height stands for."""

    planned: str
    measured: str
    budget_y: float
    highest: str


@dataclass(frozen=True)
class Chart:
    """The lanes of a step; `ticks` are percent of the width and texts."""

    lanes: list[Lane]
    memory: Memory | None
    ticks: list[tuple[float, str]]


def chart(executed: Executed, profile: Profile | None, simulation: Simulation | None) -> Chart | None:
    """Return the timeline of a step, or None if neither planned nor measured times are known."""
    begins = [begin for begin in (executed.planned_begin, executed.measured_begin) if begin is not None]
    if not begins:
        return None
    end = max(float(begin[-1]) for begin in begins)
    scale = _Scale(end)
    lanes = [_compute(executed, profile, simulation, scale)]
    for to, title in ((0, "promotions"), (1, "demotions")):
        moves = [move for move in executed.moves if move.to == to and (move.planned or move.measured)]
        if moves:
            lanes.append(_moves(title, moves, scale))
    memory = None if profile is None else _memory(executed, profile, scale)
    return Chart(lanes, memory, _ticks(end))


@dataclass(frozen=True)
class _Scale:
    end: float

    def percent(self, ns: float) -> float:
        return round(min(max(ns / self.end, 0.0), 1.0) * 100, 3)

    def bar(self, begin: float, end: float, row: float, css: str, title: str, height: float = _BAR) -> Bar:
        x = self.percent(begin)
        return Bar(x, round(max(self.percent(end) - x, _NARROWEST), 3), row, height, css, title)


def _compute(
    executed: Executed, profile: Profile | None, simulation: Simulation | None, scale: _Scale
) -> Lane:
    """Layers, and the times that they wait for migrations: planned above, measured below."""
    if profile is None:
        starts, names = [0], ["the step"]
    else:
        layer = profile.ops.layer
        starts = np.flatnonzero(np.diff(layer, prepend=layer[0] - 1)).tolist()
        names = [f"layer {int(layer[start])}" for start in starts]
    edges = [*starts, executed.plan.ops]
    bars: list[Bar] = []
    for css, row, begin in (("plan", 2, executed.planned_begin), ("done", 2 + _ROW, executed.measured_begin)):
        if begin is None:
            continue
        for n, ((first, last), name) in enumerate(zip(pairwise(edges), names, strict=True)):
            span = float(begin[first]), float(begin[last])
            title = f"{name}, {'planned' if css == 'plan' else 'measured'}: {_span(*span)}"
            bars.append(scale.bar(*span, row, f"{css} layer{n % 2}", title))
    if simulation is not None:
        for position, ns in simulation.timeline.exposed.items():
            end = float(simulation.timeline.begin[position])
            bars.append(scale.bar(end - ns, end, 2, "plan wait", f"planned wait: {_span(end - ns, end)}"))
    if executed.counts.get("exposed_ns"):
        for move in executed.moves:
            if move.late_ns and move.due is not None:
                end = move.due + move.late_ns
                title = f"waited for {move.tensor}: {_span(move.due, end)}"
                bars.append(scale.bar(move.due, end, 2 + _ROW, "done wait", title))
    return Lane("layers: planned above, measured below", 2 * _ROW, bars)


def _moves(title: str, moves: Sequence[ExecutedMove], scale: _Scale) -> Lane:
    """One row for each of the moves that overlap, the planned and the measured time of a move in the same."""
    rows = _packed(moves)
    height = min(max(rows.values()) + 1, _MOST_ROWS)
    bars: list[Bar] = []
    for move in moves:
        top = 2 + rows[move.number] % _MOST_ROWS * _ROW
        late = "late" if move.status == "late" or move.status in NOT_EXECUTED else ""
        text = f"{move.verb} {move.tensor}, {size(move.size)}: {_status(move)}; {times(move)}"
        if move.reason:
            text += f"; {move.reason}"
        if move.measured is not None:
            copied = move.measured.end if move.copied is None else move.copied
            bars.append(scale.bar(move.measured.begin, copied, top, f"done {late}", text))
            if copied < move.measured.end:
                bars.append(scale.bar(copied, move.measured.end, top + 3, f"done map {late}", text, _BAR - 6))
        if move.planned is not None:
            bars.append(scale.bar(*move.planned, top, f"plan {late}", text))
    return Lane(title, height * _ROW, bars)


def _packed(moves: Iterable[ExecutedMove]) -> dict[int, int]:
    """Return the row of each move: the first that is free from the first of its times to the last."""
    ends: list[float] = []
    rows: dict[int, int] = {}
    extents = []
    for move in moves:
        spans = [span for span in (move.planned, move.measured) if span is not None]
        extents.append((min(s.begin for s in spans), max(s.end for s in spans), move.number))
    for begin, end, number in sorted(extents):
        row = next((n for n, taken in enumerate(ends) if taken <= begin), len(ends))
        if row == len(ends):
            ends.append(0.0)
        ends[row] = end
        rows[number] = row
    return rows


def _memory(executed: Executed, profile: Profile, scale: _Scale) -> Memory | None:
    planned = measured = None
    if executed.planned_begin is not None:
        spans = [move.planned for move in executed.moves]
        planned = fast_bytes(profile, executed.plan, executed.planned_begin, spans)
    if executed.measured_begin is not None and not executed.statuses["not recorded"]:
        spans = [move.measured if move.status in EXECUTED else None for move in executed.moves]
        measured = fast_bytes(profile, executed.plan, executed.measured_begin, spans)
    highest = max([executed.plan.budget, *(int(s[1].max()) for s in (planned, measured) if s is not None)])
    paths = [
        "" if series is None or begin is None else _path(*series, float(begin[-1]), scale, highest)
        for series, begin in ((planned, executed.planned_begin), (measured, executed.measured_begin))
    ]
    budget = 100 - 100 * executed.plan.budget / highest
    return Memory(paths[0], paths[1], round(budget, 2), size(highest))


def _path(at: Floats, values: Ints, end: float, scale: _Scale, highest: int) -> str:
    """Return the outline of the largest bytes in each part of the step, closed at the bottom."""
    edges = np.linspace(0, end, _POINTS + 1)
    first = np.maximum(np.searchsorted(at, edges[:-1], side="right") - 1, 0)
    last = np.maximum(np.searchsorted(at, edges[1:], side="left"), first + 1)
    heights = [int(values[a:b].max()) for a, b in zip(first.tolist(), last.tolist(), strict=True)]
    words = ["M0 100"]
    for left, right, height in zip(edges[:-1].tolist(), edges[1:].tolist(), heights, strict=True):
        y = round(100 - 100 * height / highest, 2)
        words.append(f"L{scale.percent(left) * 10:.1f} {y}L{scale.percent(right) * 10:.1f} {y}")
    return "".join(words) + f"L{scale.percent(end) * 10:.1f} 100"


def _ticks(end: float) -> list[tuple[float, str]]:
    """Return about `_TICKS` round times of the axis."""
    scale, unit = time_unit(end)
    step = 10.0 ** np.floor(np.log10(end / scale / _TICKS))
    step *= next(factor for factor in (1, 2, 5, 10) if step * factor * (_TICKS + 1) >= end / scale)
    count = int(end / scale / step)
    return [
        (round(100 * n * step * scale / end, 3), f"{digits(n * step)} {unit}" if n else "0")
        for n in range(count + 1)
    ]


def _span(begin: float, end: float) -> str:
    return f"{duration(begin)} to {duration(end)} ({duration(end - begin)})"


def _status(move: ExecutedMove) -> str:
    return f"late by {duration(move.late_ns)}" if move.status == "late" else move.status
