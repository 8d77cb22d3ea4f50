# SPDX-License-Identifier: Apache-2.0
"""Read the records of runs, and turn them into statistics, comparisons, reports and exports."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from results.frames import Frames


def load(*runs: Path | str) -> Frames:
    """Return the cells, repeats and steps of run folders as pandas frames; see `results.frames`.

    Raises `UsageError` if a folder is not a run.
    """
    from results import frames  # slow to import
    from results.runs import Run

    return frames.of_runs([Run.load(run) for run in runs])
