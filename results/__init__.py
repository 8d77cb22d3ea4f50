# SPDX-License-Identifier: Apache-2.0
"""Read the records of runs, and turn them into statistics, comparisons, reports and exports."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from results.frames import Frames


def load(*runs: Path | str) -> Frames:
    """Return the cells, repeats and steps of run folders as pandas frames; see `results.frames`.

    Each skipped record is a `UserWarning`. Raises `UsageError` if a folder is not a run.
    """
    from results import frames  # slow to import
    from results.runs import Run

    loaded = [Run.load(run) for run in runs]
    for line in (line for run in loaded for line in run.warnings):
        warnings.warn(line, stacklevel=2)
    return frames.of_runs(loaded)
