# SPDX-License-Identifier: Apache-2.0
"""One side of a comparison: the repeats of one or more runs, cell by cell."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from results import measured
from results.losses import Sequence as Losses
from results.measured import Measured, Measurement, Origin
from results.runs import Run
from results.stats import Clock
from results.units import printable
from testbed.common.errors import UsageError


@dataclass(frozen=True)
class Sample:
    """A finished repeat; `name` identifies it within its side."""

    name: str
    figures: Measurement
    origin: Origin

    def time(self, clock: Clock) -> float | None:
        """Return the step time in nanoseconds by a clock, or None if the repeat lacks it."""
        return self.figures.model_ns if clock == "model" else self.figures.guest_ns


@dataclass(frozen=True)
class SideCell:
    """A cell with the repeats of all runs of its side."""

    id: str
    resolved: dict[str, Any]
    samples: list[Sample] = field(default_factory=list)

    @property
    def clock(self) -> Clock:
        """The model clock if any repeat has it, else the guest clock."""
        return "model" if any(sample.time("model") for sample in self.samples) else "guest"

    def times(self, clock: Clock) -> list[float]:
        """Return the step time of each repeat that has the clock."""
        return [time for sample in self.samples if (time := sample.time(clock)) is not None]

    def origins(self) -> list[Origin]:
        """Return the origin of each repeat with measured steps."""
        return [sample.origin for sample in self.samples if sample.figures.steps]

    def losses(self, side: str) -> list[Losses]:
        """Return the losses of each repeat."""
        return [Losses(f"{side}: {sample.name}", sample.figures.losses) for sample in self.samples]


@dataclass(frozen=True)
class Side:
    """The cells of one or more runs in order, with a warning for each skipped record."""

    title: str
    cells: list[SideCell]
    warnings: list[str]

    @classmethod
    def of_results(cls, title: str, results: Sequence[Measured], warnings: Iterable[str] = ()) -> Side:
        """Return the side of several results, which may have different cells."""
        cells: dict[str, SideCell] = {}
        for result in results:
            run = f"{Path(result.source).name}, " if len(results) > 1 else ""
            for cell in result.cells:
                merged = cells.get(cell.id)
                # Before its first repeat, only the id of a cell is known
                if merged is None or len(merged.resolved) < 2:
                    merged = SideCell(cell.id, cell.resolved, merged.samples if merged else [])
                    cells[cell.id] = merged
                merged.samples.extend(
                    Sample(f"{run}repeat {repeat.repeat}", repeat, result.origins[repeat.origin])
                    for repeat in cell.repeats
                )
        return cls(title, list(cells.values()), [printable(warning) for warning in warnings])

    @classmethod
    def of_runs(cls, *runs: Run) -> Side:
        """Return the side of several runs. Raises `UsageError` if one is given twice."""
        paths = [run.path.resolve() for run in runs]
        for path in paths:
            if paths.count(path) > 1:
                raise UsageError(f"{path}: given twice on one side", hint="its repeats would count twice")
        return cls.of_results(
            " + ".join(str(run.path) for run in runs),
            [measured.of_run(run) for run in runs],
            [warning for run in runs for warning in run.warnings],
        )
