# SPDX-License-Identifier: Apache-2.0
"""The page of `sentinel explain`: the timeline of each planned step and its execution, and all its moves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from results import columns, explain_report, page
from results.executed import ExecutedMove
from results.explain import Explanation
from results.plots import colours
from results.plots.timeline import Chart, chart
from results.units import duration

_MOST_MOVES = 1000  # rows of a table; more would make the page large


@dataclass(frozen=True)
class _Column:
    title: str

    @property
    def is_text(self) -> bool:
        return self.title in ("Move", "Tensor", "Status", "Reason")


@dataclass(frozen=True)
class _Step:
    explanation: Explanation
    css_name: str
    heading: str
    outcomes: str
    figures: list[tuple[str, str, str]]
    chart: Chart | None
    lines: list[tuple[str, list[page.Item]]]


_COLUMNS = [
    _Column(title)
    for title in ("Move", "Tensor", "Bytes", "Planned", "Measured", "Deadline", "Status", "Late by", "Reason")
]


def write(explanations: Sequence[Explanation], path: Path, *, title: str) -> None:
    """Write the page. Raises `UsageError` if the file cannot be written."""
    page.write_text(
        path,
        page.render(
            "explain.html.j2",
            page_title=title,
            steps=[_step(explanation) for explanation in explanations],
            columns=_COLUMNS,
            most_moves=_MOST_MOVES,
        ),
    )


def _step(explanation: Explanation) -> _Step:
    executed = explanation.executed
    shown = [*executed.untimely, *(move for move in executed.moves if not move.reason)][:_MOST_MOVES]
    return _Step(
        explanation=explanation,
        css_name=colours.css_name(explanation.policy),
        heading=explain_report.heading(explanation),
        outcomes=explain_report.outcomes(executed),
        figures=explain_report.figures(executed),
        chart=chart(executed, explanation.profile, explanation.simulation),
        lines=[
            (colours.css_name(explanation.policy), _items(move))
            for move in sorted(shown, key=lambda move: move.number)
        ],
    )


def _items(move: ExecutedMove) -> list[page.Item]:
    planned, measured = move.planned, move.measured
    values: list[tuple[str, columns.Key]] = [
        (move.verb, move.verb),
        (move.tensor, move.tensor),
        (columns.size(move.size), move.size),
        (_at(planned.begin if planned else None), planned.begin if planned else None),
        (_at(measured.begin if measured else None), measured.begin if measured else None),
        (_at(move.due), move.due),
        (move.status, move.status),
        (duration(move.late_ns) if move.late_ns else "", move.late_ns or None),
        (move.reason, move.reason),
    ]
    return [page.Item([text] if text else [], key) for text, key in values]


def _at(ns: float | None) -> str:
    return "-" if ns is None else duration(ns)
