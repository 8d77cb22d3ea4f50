# SPDX-License-Identifier: Apache-2.0
"""Read the records of a run. Damaged records are reported and skipped; the others are kept."""

from __future__ import annotations

import contextlib
import gc
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from results import decoding
from results.decoding import DamagedError
from results.records import (
    RENAMED_POLICIES,
    REPEAT_FORMAT,
    RUN_FORMAT,
    Provenance,
    Result,
    RunInfo,
    Step,
    ascending,
    failed_attempt,
)
from testbed.common.errors import UsageError

_REPEAT_NAME = re.compile("[0-9]{3}")


@dataclass(frozen=True)
class Repeat:
    """A stored repeat. `attempt` numbers failed attempts from 1 and is None for a finished repeat."""

    number: int
    attempt: int | None
    path: Path
    cell: dict[str, Any]
    result: Result
    steps: list[Step]
    provenance: Provenance

    @property
    def plans(self) -> dict[str, Path]:
        """The files of the repeat's plans by kind of step; the kind is empty before format 4."""
        paths = sorted(self.path.glob("plan*.json.gz"))
        return {path.name[len("plan") : -len(".json.gz")].removeprefix("-"): path for path in paths}


@dataclass(frozen=True)
class Cell:
    """A cell with its repeats. Before the first repeat, `resolved` contains only the id."""

    id: str
    resolved: dict[str, Any]
    repeats: list[Repeat] = field(default_factory=list)
    failures: list[Repeat] = field(default_factory=list)


@dataclass(frozen=True, eq=False)  # by identity: a run is a key of caches
class Run:
    """A run with its cells in the order of the suite, and a warning for each skipped record."""

    path: Path
    info: RunInfo
    cells: list[Cell]
    warnings: list[str]

    @classmethod
    def load(cls, path: Path | str) -> Run:
        """Read a run, which may still be in progress. Raises `UsageError` if the folder is not a run."""
        root = Path(path)
        info = read_info(root)
        warnings: list[str] = []
        ids = list(dict.fromkeys(info.cells))
        for name in _folder_names(root / "cells"):
            if name not in ids:
                warnings.append(f"{root / 'cells' / name}: not a cell of this run; skipped")
        with _collector_paused():
            cells = [_read_cell(root / "cells" / cell_id, warnings) for cell_id in ids]
        return cls(root, info, cells, warnings)


def read_info(run_dir: Path) -> RunInfo:
    """Read run.json. Raises `UsageError` if the folder is not a run."""
    path = run_dir / "run.json"
    hint = "a run is a folder with a run.json"
    if not run_dir.is_dir():
        raise UsageError(f"{run_dir}: no such folder", hint=hint)
    try:
        if not path.exists():
            raise UsageError(f"{run_dir}: not a run: no run.json", hint=hint)
        return decoding.parse(path, RunInfo, newest=RUN_FORMAT)
    except PermissionError:
        raise UsageError(f"{run_dir}: cannot be read: permission denied") from None
    except DamagedError as e:
        hint = "update this program" if e.newer else "restore run.json from a copy; cells/ may be intact"
        raise UsageError(str(e), hint=hint) from None


def finished(run_dir: Path, cell_id: str) -> set[int]:
    """Return the numbers of a cell's finished repeats, which a resumed run skips."""
    results = (run_dir / "cells" / cell_id).glob("*/result.json")
    return {int(path.parent.name) for path in results if _REPEAT_NAME.fullmatch(path.parent.name)}


def failed(run_dir: Path, cell_id: str) -> set[int]:
    """Return the numbers of a cell's repeats that have a failed attempt."""
    names = (path.name for path in (run_dir / "cells" / cell_id).glob("*.failed-*"))
    return {attempt[0] for attempt in map(failed_attempt, names) if attempt is not None}


@contextlib.contextmanager
def _collector_paused() -> Iterator[None]:
    """Pause Python's garbage collector, which would traverse all steps read so far again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.unfreeze()  # moves all objects to the oldest generation, without a traversal
        if enabled:
            gc.enable()


def _read_cell(folder: Path, warnings: list[str]) -> Cell:
    cell = Cell(folder.name, {"id": folder.name})
    for name in _folder_names(folder):
        failed = failed_attempt(name)
        if failed is None and not _REPEAT_NAME.fullmatch(name):
            warnings.append(f"{folder / name}: not a repeat; skipped")
            continue
        number, attempt = failed or (int(name), None)
        try:
            repeat = _read_repeat(folder / name, number, attempt)
        except DamagedError as e:
            warnings.append(f"{e}; repeat skipped")
            continue
        if len(cell.resolved) == 1:
            cell.resolved.update(repeat.cell)
        elif repeat.cell != cell.resolved:
            warnings.append(f"{repeat.path}/cell.json: differs from the cell's other repeats")
        (cell.repeats if attempt is None else cell.failures).append(repeat)
    return cell


def _read_repeat(folder: Path, number: int, attempt: int | None) -> Repeat:
    result = decoding.parse(folder / "result.json", Result, newest=REPEAT_FORMAT)
    if (result.status == "ok") != (attempt is None):
        raise DamagedError(f"{folder}/result.json: status {result.status!r} contradicts the folder's name")
    cell = decoding.decode(folder / "cell.json", decoding.read_text(folder / "cell.json"))
    if cell.get("id") != folder.parent.name:
        raise DamagedError(f"{folder}/cell.json: belongs to cell {cell.get('id')!r}")
    if result.format < 3 and isinstance(cell.get("placement"), str):
        cell["placement"] = RENAMED_POLICIES.get(cell["placement"], cell["placement"])
    steps_path = folder / "steps.jsonl"
    text = decoding.read_text(steps_path).removesuffix("\n")
    lines = text.split("\n") if text else []
    steps = [decoding.validate(f"{steps_path}:{n}", line, Step) for n, line in enumerate(lines, 1)]
    if len(steps) != result.steps:
        raise DamagedError(f"{steps_path}: {len(steps)} steps, but result.json says {result.steps}")
    if not ascending(steps):
        raise DamagedError(f"{steps_path}: step numbers do not ascend")
    provenance = decoding.parse(folder / "provenance.json", Provenance)
    return Repeat(number, attempt, folder, cell, result, steps, provenance)


def _folder_names(folder: Path) -> list[str]:
    try:
        names = [p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):  # the run has no repeats yet
        return []
    except PermissionError:
        raise UsageError(f"{folder}: cannot be read: permission denied") from None
    return sorted(names, key=lambda name: (failed_attempt(name) or (0, 0), name))
