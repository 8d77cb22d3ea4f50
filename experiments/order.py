# SPDX-License-Identifier: Apache-2.0
"""The order in which repeats run.

Rounds of one repeat of every cell, each in an order of its own: a slow drift of the host then affects all
cells alike, and an interrupted run has equally many repeats of each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from experiments.matrix import Cell
from testbed.common import files


@dataclass(frozen=True)
class Task:
    """A repeat of a cell to run."""

    cell: Cell
    repeat: int


def arrange(cells: Sequence[Cell], todo: Mapping[str, Sequence[int]], seed: int | None) -> list[Task]:
    """Return the repeats in `todo` (by cell id) in the order of `seed`; None: cell by cell, as listed.

    Any two repeats keep their order, whatever else there is to do.
    """
    tasks = [Task(cell, repeat) for cell in cells for repeat in todo.get(cell.id, ())]
    if seed is None:
        return tasks
    return sorted(tasks, key=lambda task: (task.repeat, files.sha256_json([seed, task.cell.id, task.repeat])))
