# SPDX-License-Identifier: Apache-2.0
"""How long repeats took on this host, kept in the state folder for estimates of other runs.

The seconds of a cell are those of its own last repeat, or else those of another cell of the same model, mode
and number of steps.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from experiments.matrix import Cell
from testbed.common import files, settings

_MAX_ENTRIES = 20_000


@dataclass
class Durations:
    """Seconds of a repeat, by cell id and by kind of cell."""

    seconds: dict[str, float] = field(default_factory=dict)

    def of(self, cell: Cell) -> float | None:
        """The seconds that a repeat of the cell takes, or None if nothing like it has run."""
        return self.seconds.get(cell.id, self.seconds.get(_kind(cell)))

    def add(self, cell: Cell, seconds: float) -> None:
        """Note the duration of a repeat."""
        for key in (cell.id, _kind(cell)):
            self.seconds.pop(key, None)  # the newest come last
            self.seconds[key] = round(seconds, 3)


def _kind(cell: Cell) -> str:
    names = ("model", "mode", "steps", "warmup", "preset")
    kind = {name: cell.resolved.get(name) for name in names}
    if "target" in cell.resolved:
        kind["target"] = cell.resolved["target"]
    return files.sha256_json(kind)[:16]


def _path() -> Path:
    return settings.state_root() / "durations.json"


def read() -> Durations:
    """Read what is known; nothing if the file is absent or damaged."""
    values = files.read_state(_path())
    numbers = {k: float(v) for k, v in values.items() if isinstance(v, int | float)}
    return Durations(numbers)


def keep(new: Mapping[str, float]) -> None:
    """Add durations to those that are known."""
    path = _path()
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.locked(path.with_suffix(".lock")):
        known = read().seconds
        newest = list({**{k: v for k, v in known.items() if k not in new}, **new}.items())
        files.write_atomic(path, json.dumps(dict(newest[-_MAX_ENTRIES:])))
