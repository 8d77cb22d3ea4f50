# SPDX-License-Identifier: Apache-2.0
"""What `sentinel run --dry-run` shows: the cells, what is done, and how long the rest takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sentinel.cli import output

if TYPE_CHECKING:
    from experiments.matrix import Cell
    from experiments.resuming import Which
    from results.labels import Axes


def show(cells: Sequence[Cell], axes: Axes, out: Path | None, which: Which, *, as_json: bool) -> None:
    """Print the cells with their ids, finished repeats in `out`, and the estimated time of those to do."""
    from rich.markup import escape

    from experiments import durations, resuming
    from results import runs

    known = durations.read()
    rows, total, unknown = [], 0.0, 0
    entries: list[dict[str, Any]] = []
    for cell in cells:
        done = len(runs.finished(out, cell.id)) if out is not None else 0
        todo = len(resuming.choose([cell], out, which)[cell.id]) if out is not None else cell.repeats
        seconds = known.of(cell)
        if seconds is None:
            unknown += todo
        else:
            total += seconds * todo
        estimate = None if seconds is None else seconds * todo
        status = {"repeats": cell.repeats, "done": done, "todo": todo, "estimated_seconds": estimate}
        entries.append({"id": cell.id, **cell.resolved, "status": status})
        text = "-" if estimate is None else shown_seconds(estimate)
        label = escape(axes.label(cell.resolved))
        rows.append((cell.id, label, str(cell.repeats), str(done), str(todo), text))
    if as_json:
        output.show_json(entries)
        return
    parts = [f"about {shown_seconds(total)} to go on one worker"] if total else []
    parts += [f"{unknown} repeats of unknown duration"] if unknown else []
    caption = f"{len(cells)} cells; {' and '.join(parts) or 'nothing to do'}"
    titles = ("cell", "label", "repeats", "done", "to do", "time")
    output.show(output.rows(titles, rows, caption=caption))


def shown_seconds(seconds: float) -> str:
    """Return a duration in words.

    >>> shown_seconds(75), shown_seconds(150), shown_seconds(9000)
    ('75 s', '2.5 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
