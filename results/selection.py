# SPDX-License-Identifier: Apache-2.0
"""Find a cell by what a person calls it: its id, the beginning of its id, or its label."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from results.units import printable
from testbed.common.errors import UsageError

_MOST_NAMED = 8  # cells in a hint


def choose(name: str, labels: Mapping[str, str]) -> list[str]:
    """Return the ids of the cells with this id, this label, or an id that begins so.

    `labels` maps ids to labels; ids with the same label are the same cell. Raises `UsageError` with the
    nearest cells if there is none, and with all of them if there are several.
    """
    by_label = [cell for cell, label in labels.items() if label == name]
    by_id = [cell for cell in labels if name and cell.startswith(name)]
    found = [name] if name in labels else by_label or by_id
    chosen = {labels[cell] for cell in found}
    if len(chosen) == 1:
        return [cell for cell, label in labels.items() if label in chosen]
    problem = "several cells match" if found else "no such cell"
    near = found or _nearest(name, labels)
    listed = "; ".join(f"{cell} ({labels[cell]})" for cell in near[:_MOST_NAMED])
    more = f"; {len(near) - _MOST_NAMED} more" if len(near) > _MOST_NAMED else ""
    raise UsageError(f"{printable(name)}: {problem}", hint=f"cells: {listed}{more}" if near else None)


def _nearest(name: str, labels: Mapping[str, str]) -> list[str]:
    """Return the ids of the cells with similar labels, nearest first, or of all cells."""
    similar = difflib.get_close_matches(name, labels.values(), n=_MOST_NAMED, cutoff=0.5)
    return [cell for label in similar for cell in labels if labels[cell] == label] or list(labels)
