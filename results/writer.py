# SPDX-License-Identifier: Apache-2.0
"""Write the records of a run. A repeat's folder appears complete, by a rename."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from results.records import Provenance, Result, RunInfo, Step, ascending, failed_attempt, profile_path
from testbed.common import files
from testbed.common.disk import explained_disk_errors
from testbed.common.errors import UsageError


def write_run(run_dir: Path, info: RunInfo) -> None:
    """Write run.json. Raises `UsageError` if the folder already has one."""
    path = run_dir / "run.json"
    if path.exists():
        raise UsageError(f"{run_dir} already contains a run", hint="resume it, or use another folder")
    with explained_disk_errors(path):
        files.write_json(path, info.model_dump(mode="json"))


def write_profile(run_dir: Path, source: Path) -> Path:
    """Store a profile under the digest that plans refer to it by, once for all plans of the run."""
    path = profile_path(run_dir, files.sha256_file(source))
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with explained_disk_errors(path):
            files.write_atomic(path, source.read_bytes())
    return path


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
    replace: bool = False,
) -> Path:
    """Store a finished or failed repeat and return its folder.

    `extra` maps names of further files, such as console.log, to their content or to a file to copy. A failed
    attempt gets its own folder, so that a retry can still finish the repeat. With `replace` the repeat takes
    the place of a finished one; otherwise `UsageError` is raised if there is one. Raises `ValueError` if the
    arguments contradict each other.
    """
    lines = list(steps)
    _check(cell_id, repeat, cell=cell, result=result, steps=lines, extra=extra or {})
    content: dict[str, str | bytes | Path] = {
        **(extra or {}),
        "cell.json": _json(dict(cell)),
        "steps.jsonl": "".join(step.model_dump_json() + "\n" for step in lines),
        "provenance.json": _json(provenance.model_dump(mode="json")),
        "result.json": _json(result.model_dump(mode="json")),
    }
    return _place(run_dir, cell_id, repeat, content, failed=result.status == "failed", replace=replace)


def adopt_repeat(run_dir: Path, cell_id: str, repeat: int, source: Path, *, replace: bool = False) -> Path:
    """Store a repeat that `write_repeat` has written elsewhere, in the folder `source`."""
    failed = failed_attempt(source.name) is not None
    content = {path.name: path for path in sorted(source.iterdir())}
    return _place(run_dir, cell_id, repeat, content, failed=failed, replace=replace)


def _place(
    run_dir: Path,
    cell_id: str,
    repeat: int,
    content: Mapping[str, str | bytes | Path],
    *,
    failed: bool,
    replace: bool,
) -> Path:
    """Write the files of a repeat into its folder, which appears complete or not at all."""
    folder = run_dir / "cells" / cell_id
    name = f"{repeat:03}"
    with files.locked(folder / f".{name}.lock"):
        for leftover in folder.glob(f".{name}.tmp-*"):  # we hold the lock, so its writer has died
            shutil.rmtree(leftover, ignore_errors=True)
        final = folder / name
        if not failed and final.exists() and not replace:
            raise UsageError(
                f"{final} already exists", hint="finished repeats are kept; to repeat it, remove the folder"
            )
        if failed:
            attempts = [failed_attempt(path.name) for path in folder.glob(f"{name}.failed-*")]
            last = max((attempt for _, attempt in filter(None, attempts)), default=0)
            final = folder / f"{name}.failed-{last + 1}"
        tmp = files.new_folder(folder, f".{name}.tmp-")
        try:
            with explained_disk_errors(final):
                for file_name, value in content.items():
                    _put(tmp / file_name, value)
                _sync(tmp)
                if final.exists():
                    final.rename(files.new_folder(folder, f".{name}.tmp-") / "replaced")
                tmp.rename(final)
                for parent in (folder, folder.parent, run_dir):
                    _sync(parent)
        finally:
            for leftover in folder.glob(f".{name}.tmp-*"):
                shutil.rmtree(leftover, ignore_errors=True)
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
    """Raise `ValueError` for arguments that no caller may pass, before anything is written."""
    own_files = {"cell.json", "result.json", "steps.jsonl", "provenance.json"} & extra.keys()
    for invalid, message in (
        (not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", cell_id), f"{cell_id!r} is not a valid cell id"),
        (not 0 <= repeat <= 999, f"repeat {repeat} is not within 0..999"),
        (cell.get("id") != cell_id, f"the cell's id {cell.get('id')!r} is not {cell_id!r}"),
        (result.steps != len(steps), f"the result has {result.steps} steps, but {len(steps)} are given"),
        (not ascending(steps), "step numbers do not ascend"),
        (own_files, f"{', '.join(sorted(own_files))}: reserved file name"),
        (any(Path(n).name != n or n.startswith(".") for n in extra), "extra files need a plain file name"),
    ):
        if invalid:
            raise ValueError(message)


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n"


def _put(path: Path, value: str | bytes | Path) -> None:
    if isinstance(value, Path):
        shutil.copyfile(value, path)
        _sync(path)
    else:
        files.write_atomic(path, value)


def _sync(path: Path) -> None:
    """Flush a file or a folder's entries to disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
