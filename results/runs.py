# SPDX-License-Identifier: Apache-2.0
"""A run read back: what is damaged is told and left out, what is whole is kept."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from results.records import (
    RENAMED_PLACEMENTS,
    REPEAT_FORMAT,
    RUN_FORMAT,
    Provenance,
    Result,
    RunInfo,
    Step,
    ascending,
    failed_try,
)
from testbed.common import files
from testbed.common.errors import UsageError

_NUMBER = re.compile("[0-9]{3}")


@dataclass(frozen=True)
class Repeat:
    """One stored repeat. `attempt` is None for a finished one, else which failed try it is (from 1)."""

    number: int
    attempt: int | None
    path: Path
    cell: dict[str, Any]
    result: Result
    steps: list[Step]
    provenance: Provenance


@dataclass(frozen=True)
class Cell:
    """A cell and what is stored of it; `resolved` is only its id while nothing is."""

    id: str
    resolved: dict[str, Any]
    repeats: list[Repeat] = field(default_factory=list)
    failures: list[Repeat] = field(default_factory=list)


@dataclass(frozen=True)
class Run:
    """A run as read: cells in the suite's order, and a warning for each record that had to be left out."""

    path: Path
    info: RunInfo
    cells: list[Cell]
    warnings: list[str]

    @classmethod
    def load(cls, path: Path | str) -> Run:
        """Read a run, also one that is still going on. What is no run is a `UsageError`."""
        root = Path(path)
        info = read_info(root)
        warnings: list[str] = []
        ids = list(dict.fromkeys(info.cells))
        stored = _names(root / "cells")
        for stray in [name for name in stored if name not in ids]:
            warnings.append(f"{root / 'cells' / stray}: not a cell of run.json; left out")
        cells = [_read_cell(root / "cells" / cell_id, warnings) for cell_id in ids]
        return cls(root, info, cells, warnings)


def read_info(run_dir: Path) -> RunInfo:
    """Read run.json, or raise a `UsageError` that says why this is not a run."""
    path = run_dir / "run.json"
    hint = "a run is a folder that holds run.json"
    if not run_dir.is_dir():
        raise UsageError(f"{run_dir}: no such folder", hint=hint)
    try:
        if not path.exists():
            raise UsageError(f"{run_dir}: not a run: it holds no run.json", hint=hint)
        return _parse(path, RunInfo, newest=RUN_FORMAT)
    except PermissionError:
        raise UsageError(f"{run_dir}: cannot be read: permission denied") from None
    except _DamagedError as e:
        newer = "update this program" if e.newer else "restore it from a copy; its cells/ may be whole"
        raise UsageError(str(e), hint=newer) from None


def finished(run_dir: Path, cell_id: str) -> set[int]:
    """The numbers of the finished repeats of a cell: what a resumed run need not do again."""
    found = (run_dir / "cells" / cell_id).glob("*/result.json")
    return {int(path.parent.name) for path in found if _NUMBER.fullmatch(path.parent.name)}


class _DamagedError(Exception):
    """A record that cannot be used; the text is one line that begins with the file."""

    def __init__(self, text: str, *, newer: bool = False) -> None:
        super().__init__(" ".join(text.split()))
        self.newer = newer


_Model = TypeVar("_Model", bound=BaseModel)


def _read_cell(folder: Path, warnings: list[str]) -> Cell:
    cell = Cell(folder.name, {"id": folder.name})
    for name in _names(folder):
        attempt = failed_try(name)
        if attempt is None and not _NUMBER.fullmatch(name):
            warnings.append(f"{folder / name}: not a repeat; left out")
            continue
        number, tried = attempt or (int(name), None)
        try:
            repeat = _read_repeat(folder / name, number, tried)
        except _DamagedError as e:
            warnings.append(f"{e}; repeat left out")
            continue
        if len(cell.resolved) == 1:
            cell.resolved.update(repeat.cell)
        elif repeat.cell != cell.resolved:
            warnings.append(f"{repeat.path}/cell.json: differs from the cell's other repeats")
        (cell.repeats if tried is None else cell.failures).append(repeat)
    return cell


def _read_repeat(folder: Path, number: int, attempt: int | None) -> Repeat:
    result = _parse(folder / "result.json", Result, newest=REPEAT_FORMAT)
    if (result.status == "ok") != (attempt is None):
        raise _DamagedError(f"{folder}/result.json: status {result.status!r} in a folder of that name")
    cell = _decode(folder / "cell.json", _text(folder / "cell.json"))
    if cell.get("id") != folder.parent.name:
        raise _DamagedError(f"{folder}/cell.json: is of cell {cell.get('id')!r}")
    if result.format < 3 and isinstance(cell.get("placement"), str):
        cell["placement"] = RENAMED_PLACEMENTS.get(cell["placement"], cell["placement"])
    steps_path = folder / "steps.jsonl"
    text = _text(steps_path).removesuffix("\n")
    lines = text.split("\n") if text else []
    steps = [_validate(f"{steps_path}:{n}", line, Step) for n, line in enumerate(lines, 1)]
    if len(steps) != result.steps:
        raise _DamagedError(f"{steps_path}: {len(steps)} steps where result.json says {result.steps}")
    if not ascending(steps):
        raise _DamagedError(f"{steps_path}: step numbers do not ascend")
    provenance = _parse(folder / "provenance.json", Provenance)
    return Repeat(number, attempt, folder, cell, result, steps, provenance)


def _parse(path: Path, model: type[_Model], *, newest: int | None = None) -> _Model:
    text = _text(path)
    if newest is not None:
        found = _decode(path, text).get("format")
        if not isinstance(found, int):
            raise _DamagedError(f"{path}: damaged: it says no format")
        if found > newest:
            why = f"format {found} is newer than this program reads ({newest})"
            raise _DamagedError(f"{path}: {why}", newer=True)
    return _validate(path, text, model)


def _validate(place: Path | str, text: str, model: type[_Model]) -> _Model:
    try:
        return model.model_validate_json(text)
    except ValidationError as e:
        first = e.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise _DamagedError(f"{place}: damaged: {where}{': ' if where else ''}{first['msg']}") from None


def _decode(path: Path, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as e:
        raise _DamagedError(f"{path}: damaged: not JSON: {e}") from None
    if not isinstance(value, dict):
        raise _DamagedError(f"{path}: damaged: not a mapping")
    return value


def _text(path: Path) -> str:
    try:
        return files.read_input(path).decode()
    except FileNotFoundError:
        raise _DamagedError(f"{path}: missing") from None
    except UnicodeDecodeError:
        raise _DamagedError(f"{path}: damaged: not text") from None
    except UsageError as e:
        raise _DamagedError(e.message) from None


def _names(folder: Path) -> list[str]:
    try:
        names = [p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):  # a run just begun has none yet
        return []
    except PermissionError:
        raise UsageError(f"{folder}: cannot be read: permission denied") from None
    return sorted(names, key=lambda name: (failed_try(name) or (0, 0), name))
