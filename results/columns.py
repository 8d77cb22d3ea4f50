# SPDX-License-Identifier: Apache-2.0
"""The columns of a report: text for people, and keys to sort by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from results import notes
from results.rows import Row
from results.tables import BREAK, INNER_BREAK
from results.units import digits, duration, factor, in_common_unit, percent

Key = float | str | None


@dataclass(frozen=True)
class Column:
    """A column. `text` is empty if a cell has no such figure; `page_only` columns are not in terminals."""

    title: str
    text: Callable[[Row], str]
    key: Callable[[Row], Key]
    page_only: bool = False

    @property
    def is_text(self) -> bool:
        """Whether the column has words, not figures."""
        return self.title in TEXT


TEXT = ("Model", "Policy", "Budget", "Settings")
_MANDATORY = ("Model", "Policy", "Step time")
_COUNTS = ("Repeats", "Steps")  # omitted if all cells have the same count, which a note then gives


def columns(rows: list[Row]) -> list[Column]:
    """Return the columns that have something to say about these rows."""
    references = {row.reference for row in rows}
    has_tensors = any(row.tensors for row in rows)

    def relative(row: Row) -> str:
        r = row.relative
        if r is None:
            return "1" if row.id in references else ""
        text = factor(r.value, low=r.low, high=r.high, places=2, gap=BREAK)
        return text.replace(" to ", f" to{INNER_BREAK}")

    def on_node_0(row: Row) -> str:
        return percent(row.anon_shares.get("0", 0.0)) if row.anon_shares and not has_tensors else ""

    everything = [
        Column("Model", lambda row: row.model, lambda row: row.model),
        Column("Policy", lambda row: row.policy, lambda row: row.policy),
        Column("Budget", lambda row: row.budget, lambda row: row.budget_share),
        Column("Settings", lambda row: row.settings, lambda row: row.settings),
        Column("Repeats", lambda row: f"{row.repeats}", lambda row: row.repeats),
        Column("Steps", _steps, lambda row: row.summary.steps if row.summary else None),
        Column("Step time", _step_time, lambda row: row.summary.centre_ns if row.summary else None),
        Column("Relative", relative, lambda row: row.relative.value if row.relative else None),
        Column("Speed", _speed, lambda row: row.speed.value if row.speed else None, page_only=True),
        Column("Predicted", _predicted, lambda row: row.prediction.step_ns if row.prediction else None),
        Column(
            "Tensors on node 0",
            lambda row: _tensors(row) if has_tensors else "",
            lambda row: row.tensors.nodes[0] if row.tensors else None,
        ),
        Column("Process on node 0", on_node_0, lambda row: row.anon_shares.get("0")),
        Column("Promoted, demoted", _moved, lambda row: row.migration.moved if row.migration else None),
        Column("Exposed", _exposed, _key_of("exposed_ns")),
        Column("Late promotions", _bytes_of("late"), _key_of("late"), page_only=True),
        Column("Moved pages", _moved_pages, lambda row: row.vmstat.get(notes.MIGRATED)),
    ]
    return [column for column in everything if _is_shown(column, rows)]


def size(number: float) -> str:
    """Format bytes.

    >>> size(20480), size(0)
    ('20.0 KiB', '0 B')
    """
    return " ".join(in_common_unit(round(number))) if number else "0 B"


def exposed(ns: float, step_ns: float | None) -> str:
    """Format exposed time, with its share of the step.

    >>> exposed(250_000, 5_000_000).split(BREAK), exposed(0, 5_000_000)
    (['250 us', '(5.0%)'], '0')
    """
    return duration(ns) + (f"{BREAK}({percent(ns / step_ns)})" if step_ns else "") if ns else "0"


def _is_shown(column: Column, rows: list[Row]) -> bool:
    if column.title in _MANDATORY:
        return True
    texts = {column.text(row) for row in rows}
    return texts != {""} and not (column.title in _COUNTS and len(texts - {"-"}) <= 1)


def _steps(row: Row) -> str:
    return f"{row.summary.steps / row.summary.repeats:g}" if row.summary else "-"


def _step_time(row: Row) -> str:
    s = row.summary
    if s is None:
        return "other clock" if row.off_clock else "-"
    return duration(s.centre_ns, low=s.low_ns, high=s.high_ns, gap=BREAK).replace(" to ", f" to{INNER_BREAK}")


def _speed(row: Row) -> str:
    return percent(row.speed.value) if row.speed else ""


def _predicted(row: Row) -> str:
    p, s = row.prediction, row.summary
    if p is None:
        return ""
    return duration(p.step_ns) + (f"{BREAK}({p.step_ns / s.centre_ns - 1:+.0%})" if s else "")


def _tensors(row: Row) -> str:
    """Format the tensor bytes on node 0 and, if recorded, the budget."""
    if row.tensors is None:
        return "not recorded" if row.repeats else "-"
    if row.tensors.budget is None:
        return size(row.tensors.nodes[0])
    resident, budget, unit = in_common_unit(row.tensors.nodes[0], row.tensors.budget)
    return f"{resident} of{BREAK}{budget} {unit}"


def _moved(row: Row) -> str:
    m = row.migration
    return f"{size(m.promoted)},{BREAK}{size(m.demoted)}" if m else ""


def _bytes_of(counter: str) -> Callable[[Row], str]:
    return lambda row: size(getattr(row.migration, counter)) if row.migration else ""


def _key_of(counter: str) -> Callable[[Row], Key]:
    return lambda row: getattr(row.migration, counter) if row.migration else None


def _exposed(row: Row) -> str:
    m = row.migration
    return exposed(m.exposed_ns, row.summary.centre_ns if row.summary else None) if m else ""


def _moved_pages(row: Row) -> str:
    """Format the pages that the kernel migrated, if the runtime does not say what it moved."""
    pages = None if row.migration else row.vmstat.get(notes.MIGRATED)
    return digits(pages) if pages else ""
