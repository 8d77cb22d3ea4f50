# SPDX-License-Identifier: Apache-2.0
"""The spread of a cell's repeats, stored by kind of cell, so that later comparisons need fewer repeats.

A cell's *kind* is all that its spread depends on: its settings but kernel, seed, steps of the warm-up and
machine's name, its clock, its accelerator, and by the guest clock the host's processor.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from results import decoding
from results.decoding import DamagedError
from results.intervals import Spread
from results.sides import SideCell
from results.stats import Clock
from testbed.common import files
from testbed.common.errors import UsageError

FORMAT = 1
_NO_PART = ("id", "kernel", "seed", "warmup")

Spreads = Mapping[str, Spread]


class Repeatability(BaseModel):
    """The spread of a kind of cell, from `pairs` comparisons of equal sides with `false_alarms`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int = FORMAT
    kind: str
    label: str
    clock: Clock
    sd: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    freedom: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    pairs: Annotated[int, Field(ge=0)]
    false_alarms: Annotated[int, Field(ge=0)]
    created: AwareDatetime


def kind(cell: SideCell, clock: Clock) -> str:
    """Return the key of a cell's kind."""
    origins = cell.origins()
    settings = {name: value for name, value in cell.resolved.items() if name not in _NO_PART}
    accelerators = sorted({origin.accelerator for origin in origins})
    cpus = sorted({f"{origin.cpus} {origin.cpu}" for origin in origins}) if clock == "guest" else []
    return files.sha256_json([settings, clock, accelerators, cpus])[:16]


def load(folder: Path) -> dict[str, Spread]:
    """Return the stored spreads of a store by kind. Raises `UsageError` for a damaged file."""
    spreads = {}
    for path in sorted((folder / "repeatability").glob("*.json")):
        try:
            stored = decoding.parse(path, Repeatability, newest=FORMAT)
        except DamagedError as e:
            raise UsageError(str(e), hint="remove it, and run `sentinel aa` again") from None
        spreads[stored.kind] = Spread(stored.sd, stored.freedom)
    return spreads


def save(folder: Path, stored: Repeatability) -> Path:
    """Store the spread of a kind, replacing an older one, and return its file."""
    path = folder / "repeatability" / f"{stored.kind}.json"
    files.write_json(path, stored.model_dump(mode="json"))
    return path
