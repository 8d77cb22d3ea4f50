# SPDX-License-Identifier: Apache-2.0
"""What a folder of a run has already, and whether the missing repeats may go beside it."""

from __future__ import annotations

import datetime
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from experiments.matrix import Cell, Matrix
from results import records, runs, writer
from results.records import Provenance
from testbed.common.errors import UsageError

Which = Literal["missing", "failed", "all"]
_HINT = "use another folder with --out, or measure the cells again with --force"


def choose(cells: Iterable[Cell], out: Path, which: Which = "missing") -> dict[str, list[int]]:
    """Return the repeats to do by the id of each cell.

    `missing` are those without a finished repeat, `failed` those of them that have been tried.
    """
    return {cell.id: _chosen(cell, out, which) for cell in cells}


def _chosen(cell: Cell, out: Path, which: Which) -> list[int]:
    numbers = set(range(cell.repeats))
    if which != "all":
        numbers -= runs.finished(out, cell.id)
    if which == "failed":
        numbers &= runs.failed(out, cell.id)
    return sorted(numbers)


def kept(cells: Iterable[Cell], out: Path, todo: Mapping[str, Collection[int]]) -> dict[str, list[int]]:
    """Return the finished repeats of cells that are not in `todo`, by the cells' ids."""
    return {
        cell.id: sorted((runs.finished(out, cell.id) & set(range(cell.repeats))) - set(todo.get(cell.id, ())))
        for cell in cells
    }


def check_suite(matrix: Matrix, out: Path) -> None:
    """Refuse a folder with a run of another suite, whichever kernel `auto` resolved to there."""
    if not (out / "run.json").exists():
        return
    info = runs.read_info(out)
    kernel = info.resolved.get("kernel")
    if isinstance(kernel, str):
        matrix = matrix.with_kernel(kernel)
    if set(info.cells) != {cell.id for cell in matrix.cells}:
        raise _different(out, info)


def open_run(matrix: Matrix, out: Path) -> None:
    """Write run.json, or check that the one in `out` is of the same cells."""
    info = records.RunInfo(
        suite=matrix.suite.name,
        created=datetime.datetime.now(datetime.UTC),
        resolved=matrix.suite.model_dump(mode="json"),
        cells=[cell.id for cell in matrix.cells],
    )
    if not (out / "run.json").exists():
        writer.write_run(out, info)
        return
    existing = runs.read_info(out)
    if set(existing.cells) != set(info.cells):
        raise _different(out, existing)


def _different(out: Path, info: records.RunInfo) -> UsageError:
    return UsageError(
        f"{out} holds a run of a different suite ({info.suite}, {info.created:%Y-%m-%d %H:%M})",
        hint="use another folder with --out, or restore the suite",
    )


def check_origin(
    cells: Sequence[Cell], out: Path, todo: Mapping[str, Collection[int]], origin: Provenance
) -> str | None:
    """Refuse to add repeats to others that were made by another commit, kernel, image, QEMU or accelerator.

    Returns the digest of the runtime of the repeats that are kept, if they agree on one: theirs is known
    only when a snapshot exists. Raises `UsageError` that says what differs.
    """
    now = made_by(origin.model_dump(mode="json"))
    runtimes = set()
    for path, stored in _stored(out, kept(cells, out, todo)):
        for name, value in made_by(stored).items():
            if value != now[name]:
                raise UsageError(
                    f"{out} has repeats of another {name}: {path.name} of cell {path.parent.name} has "
                    f"{value}, and now it is {now[name]}",
                    hint=_HINT,
                )
        runtimes.add(stored.get("runtime"))
    return runtimes.pop() if len(runtimes) == 1 else None


def check_runtime(kept: str | None, now: str | None) -> None:
    """Refuse a runtime or guest code other than that of the repeats that are kept. Raises `UsageError`."""
    if kept is not None and now is not None and kept != now:
        raise UsageError(
            f"the folder has repeats of another runtime: {kept[:12]}, and now it is {now[:12]}", hint=_HINT
        )


def check_worker(expected: Mapping[str, Any], origin: Provenance, *, host: str) -> None:
    """Refuse a worker with another commit, kernel, image, QEMU or accelerator than that of its run."""
    here = made_by(origin.model_dump(mode="json"))
    for name, value in expected.items():
        if here[name] != value:
            raise UsageError(
                f"the worker on {host} has another {name}: {here[name]}, and the run has {value}",
                hint="give all hosts of the cluster the same installation",
            )


def made_by(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """What must not differ between the repeats of a run."""
    kernel, image = provenance.get("kernel") or {}, provenance.get("image") or {}
    return {
        "commit": provenance.get("git_commit"),
        "kernel": kernel.get("key") or kernel.get("release"),
        "image": image.get("key"),
        "QEMU": provenance.get("qemu"),
        "accelerator": provenance.get("accelerator"),
    }


def _stored(out: Path, repeats: Mapping[str, Sequence[int]]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The folders and provenances of repeats, by their cells' ids."""
    for cell_id, numbers in repeats.items():
        for number in numbers:
            folder = out / "cells" / cell_id / f"{number:03}"
            try:
                value = json.loads((folder / "provenance.json").read_text())
            except (OSError, ValueError):
                continue  # the report tells about damaged records
            if isinstance(value, dict):
                yield folder, value
