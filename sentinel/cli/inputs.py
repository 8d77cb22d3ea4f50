# SPDX-License-Identifier: Apache-2.0
"""Runs that commands read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from results.runs import Run


def read_run(folder: Path) -> Run:
    """Read a run for a command whose output has no place for warnings: print one for each skipped record."""
    from results.runs import Run

    run = Run.load(folder)
    warn(run.warnings)
    return run


def warn(lines: Iterable[str]) -> None:
    """Print warnings, a line each."""
    from results.units import printable
    from testbed.common import progress

    for line in lines:
        progress.warn(printable(line))
