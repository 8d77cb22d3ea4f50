# SPDX-License-Identifier: Apache-2.0
"""Write the records of a run: a repeat is visible as a whole or not at all."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from results.records import Provenance, Result, RunInfo, Step, ascending, failed_try
from testbed.common import files
from testbed.common.cache import explained_disk_errors
from testbed.common.errors import UsageError


def write_run(run_dir: Path, info: RunInfo) -> None:
    """Begin a run: write its run.json. A folder that holds one already is a `UsageError`."""
    path = run_dir / "run.json"
    if path.exists():
        raise UsageError(f"{run_dir} already holds a run", hint="resume it, or name another folder")
    with explained_disk_errors(path):
        files.write_json(path, info.model_dump(mode="json"))


def write_repeat(
    run_dir: Path,
    cell_id: str,
    repeat: int,
    *,
    cell: Mapping[str, Any],
    result: Result,
    steps: Iterable[Step],
    provenance: Provenance,
    extra: Mapping[str, str | bytes | Path] | None = None,
) -> Path:
    """Store one repeat, finished or failed, and return its folder.

    `extra` maps file names (console.log, ...) to their content, or to a file to copy. The folder appears only
    when all is on disk. A finished repeat that is there already is never replaced (`UsageError`); a failed
    one gets a name of its own, so that a retry can fill the place.
    """
    lines = list(steps)
    _check(cell_id, repeat, cell=cell, result=result, steps=lines, extra=extra or {})
    folder = run_dir / "cells" / cell_id
    name = f"{repeat:03}"
    content: dict[str, str | bytes | Path] = {
        **(extra or {}),
        "cell.json": _json(dict(cell)),
        "steps.jsonl": "".join(step.model_dump_json() + "\n" for step in lines),
        "provenance.json": _json(provenance.model_dump(mode="json")),
        "result.json": _json(result.model_dump(mode="json")),
    }
    with files.locked(folder / f".{name}.lock"):
        for leftover in folder.glob(f".{name}.tmp-*"):  # we hold the lock: whoever made it is dead
            shutil.rmtree(leftover, ignore_errors=True)
        final = folder / name
        if result.status == "ok" and final.exists():
            raise UsageError(
                f"{final} is already there", hint="a finished repeat is kept; remove it by hand to redo it"
            )
        if result.status == "failed":
            tries = [failed_try(path.name) for path in folder.glob(f"{name}.failed-*")]
            final = folder / f"{name}.failed-{1 + max((n for _, n in filter(None, tries)), default=0)}"
        tmp = files.new_folder(folder, f".{name}.tmp-")
        try:
            with explained_disk_errors(final):
                for file_name, value in content.items():
                    _put(tmp / file_name, value)
                _sync(tmp)
                tmp.rename(final)
                for parent in (folder, folder.parent, run_dir):
                    _sync(parent)
        except BaseException:
            shutil.rmtree(tmp, ignore_errors=True)
            raise
    return final


def _check(
    cell_id: str,
    repeat: int,
    *,
    cell: Mapping[str, Any],
    result: Result,
    steps: list[Step],
    extra: Mapping[str, str | bytes | Path],
) -> None:
    """A writer that breaks the contract is a defect: stop it before anything is on disk."""
    own = {"cell.json", "result.json", "steps.jsonl", "provenance.json"}
    for wrong, what in (
        (not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", cell_id), f"{cell_id!r} is no cell id"),
        (not 0 <= repeat <= 999, f"repeat {repeat} is not within 0..999"),
        (cell.get("id") != cell_id, f"the cell's id {cell.get('id')!r} is not {cell_id!r}"),
        (result.steps != len(steps), f"{result.steps} steps are said and {len(steps)} given"),
        (not ascending(steps), "step numbers do not ascend"),
        (own & extra.keys(), f"{', '.join(sorted(own & extra.keys()))}: not an extra file"),
        (any(Path(n).name != n or n.startswith(".") for n in extra), "an extra file needs a plain name"),
    ):
        if wrong:
            raise ValueError(what)


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n"


def _put(path: Path, value: str | bytes | Path) -> None:
    if isinstance(value, Path):
        shutil.copyfile(value, path)
        _sync(path)
    else:
        files.write_atomic(path, value)


def _sync(path: Path) -> None:
    """Force a file, or the names in a folder, to disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
