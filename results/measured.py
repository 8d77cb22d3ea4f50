# SPDX-License-Identifier: Apache-2.0
"""A run in the few figures that comparisons need: one file that can be committed, cached and compared.

Each repeat has its step time by each clock, its losses and its counters; what decides whether it can be
compared (`Origin`) is shared between repeats. Readers reject newer formats and unknown keys.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from pydantic import model_validator as validates_all

from results import counters, decoding, stats
from results.decoding import DamagedError
from results.records import CellId, Loss, Provenance
from results.runs import Repeat, Run
from testbed.common import files
from testbed.common.errors import UsageError

FORMAT = 1
_LOSSES = 100  # steps whose losses are kept

Calibrated = Literal["good", "failed", "missing", "not needed"]
_Time = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Origin(_Record):
    """What decides whether repeats can be compared. Builds are identified by their keys in the cache.

    `runtime` identifies the code in the guest; older records have the barrier snapshot's key instead.
    """

    accelerator: str
    throttle: str
    nodes_alike: bool
    calibration: Calibrated
    paced_reliably: bool = True
    cpu: str | None = None
    cpus: int | None = None
    kernel: str | None = None
    image: str | None = None
    runtime: str | None = None
    qemu: str | None = None
    commit: str | None = None


class Measurement(_Record):
    """A finished repeat. Times are in nanoseconds, the median of its measured steps; None without the clock.

    `losses` are those of the first steps, by number; `counters` are means per measured step. `origin` is an
    index of `Measured.origins`.
    """

    repeat: int = Field(ge=0)
    steps: int = Field(ge=0)
    model_ns: _Time | None = None
    guest_ns: _Time | None = None
    losses: dict[int, Loss] = {}
    counters: dict[str, Annotated[float, Field(allow_inf_nan=False)]] = {}
    origin: int = Field(ge=0)


class MeasuredCell(_Record):
    """A cell with its finished repeats, and the number of failed attempts."""

    id: CellId
    resolved: dict[str, Any]
    failures: int = Field(default=0, ge=0)
    repeats: list[Measurement] = []


class Measured(_Record):
    """The figures of a run. `source` is the folder of its records."""

    format: int = FORMAT
    suite: str
    created: AwareDatetime
    source: str
    origins: list[Origin]
    cells: list[MeasuredCell]

    @validates_all(mode="after")
    def _check_cells(self) -> Self:
        for cell in self.cells:
            if any(repeat.origin >= len(self.origins) for repeat in cell.repeats):
                raise ValueError(f"cell {cell.id}: a repeat has no origin")
            if len({repeat.repeat for repeat in cell.repeats}) < len(cell.repeats):
                raise ValueError(f"cell {cell.id}: has a repeat twice")
        if len({cell.id for cell in self.cells}) < len(self.cells):
            raise ValueError("two cells have the same id")
        return self

    @property
    def commit(self) -> str | None:
        """The commit of the run's repeats, or None if there are several or it is unknown."""
        commits = {origin.commit for origin in self.origins}
        return commits.pop() if len(commits) == 1 else None


def of_run(run: Run) -> Measured:
    """Return the figures of a run's finished repeats."""
    origins: dict[Origin, int] = {}
    cells = []
    for cell in run.cells:
        repeats = []
        for repeat in cell.repeats:
            origin = origins.setdefault(_origin(repeat.provenance), len(origins))
            repeats.append(_measure(repeat, origin))
        cells.append(
            MeasuredCell(id=cell.id, resolved=cell.resolved, failures=len(cell.failures), repeats=repeats)
        )
    return Measured(
        suite=run.info.suite,
        created=run.info.created,
        source=str(run.path),
        origins=list(origins),
        cells=cells,
    )


def read(path: Path) -> Measured:
    """Read a file of figures. Raises `UsageError` if it is missing, damaged or of a newer format."""
    try:
        return decoding.parse(path, Measured, newest=FORMAT)
    except DamagedError as e:
        hint = "update this program" if e.newer else "restore it from a copy, or remove it"
        raise UsageError(str(e), hint=hint) from None


def write(path: Path, result: Measured) -> None:
    """Write a file of figures, atomically."""
    files.write_json(path, result.model_dump(mode="json", exclude_defaults=True) | {"format": FORMAT})


def _measure(repeat: Repeat, origin: int) -> Measurement:
    losses = [(step.step, step.loss) for step in repeat.steps if step.loss is not None]
    return Measurement(
        repeat=repeat.number,
        steps=len(stats.measured(repeat)),
        model_ns=_time(repeat, "model"),
        guest_ns=_time(repeat, "guest"),
        losses=dict(losses[:_LOSSES]),
        counters={name: round(value, 3) for name, value in counters.per_step(repeat).items()},
        origin=origin,
    )


def _time(repeat: Repeat, clock: stats.Clock) -> float | None:
    figures = stats.figures(stats.samples([repeat], clock))
    return figures[0] if figures and math.isfinite(figures[0]) else None


def _origin(provenance: Provenance) -> Origin:
    throttle = provenance.throttle
    extra = throttle.model_extra or {}
    calibration = extra.get("calibration")
    host, also = provenance.host, provenance.model_extra or {}
    return Origin(
        accelerator=provenance.accelerator,
        throttle=throttle.method,
        nodes_alike=throttle.nodes_alike,
        calibration=_calibrated(throttle.method, calibration),
        paced_reliably=not isinstance(calibration, dict) or calibration.get("reliable") is not False,
        cpu=_text(host.get("cpu")),
        cpus=host["cpus"] if type(host.get("cpus")) is int else None,
        kernel=_text(provenance.kernel.get("key")),
        image=_text(provenance.image.get("key")),
        runtime=_text(also.get("runtime")) or _text(also.get("snapshot")),
        qemu=provenance.qemu,
        commit=provenance.git_commit,
    )


def _calibrated(method: str, calibration: Any) -> Calibrated:
    if method == "none":
        return "not needed"
    if not isinstance(calibration, dict):
        return "missing"
    return "good" if calibration.get("good") is True else "failed"


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
