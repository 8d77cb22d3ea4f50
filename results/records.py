# SPDX-License-Identifier: Apache-2.0
"""The records of a run: their format, and writing them so that nothing is ever half there.

    RUN/run.json                       `RunInfo`
    RUN/cells/<cell id>/<000>/         a finished repeat; the folder appears whole, by a rename
        cell.json                      the resolved cell: a free-form mapping with its `id`
        result.json                    `Result`
        steps.jsonl                    a `Step` per line, warm-up steps included
        provenance.json                `Provenance`
        console.log, counters.jsonl, vmstat.jsonl, ...     whatever else was kept
    RUN/cells/<cell id>/<000>.failed-<n>/      the n-th failed try of that repeat, same content

`format` in run.json versions that file, `format` in result.json versions its folder. A reader refuses a
newer format and unknown keys; adding a key raises the format. Names beginning with a dot are not records.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints
from pydantic import field_validator as validates
from pydantic import model_validator as validates_all

from testbed.common import files
from testbed.common.cache import explained_disk_errors
from testbed.common.errors import ExitCode, SentinelError, UsageError

RUN_FORMAT = 1
REPEAT_FORMAT = 2  # 2: a step may have `runtime`

Verdict = Literal[
    "usage",
    "build",
    "boot",
    "guest panic",
    "guest hang",
    "workload failed",
    "lost connection",
    "infrastructure",
]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
_VERDICT_OF_CODE: dict[ExitCode, Verdict] = {
    ExitCode.USAGE: "usage",
    ExitCode.BUILD: "build",
    ExitCode.BOOT: "boot",
    ExitCode.PANIC: "guest panic",
    ExitCode.HANG: "guest hang",
    ExitCode.WORKLOAD: "workload failed",
    ExitCode.LOST: "lost connection",
    ExitCode.INFRASTRUCTURE: "infrastructure",
}

CellId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Node = Annotated[str, StringConstraints(pattern=r"^[0-9]+$")]  # JSON has no integer keys
Bytes = Annotated[int, Field(ge=0)]
Nanoseconds = Annotated[int, Field(gt=0)]


def verdict_of(error: SentinelError) -> Verdict:
    """The verdict under which an expected failure is recorded."""
    return _VERDICT_OF_CODE.get(error.code, "infrastructure")


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class RunInfo(_Record):
    """run.json: what was asked for. `resolved` is the suite with every default filled in."""

    format: int = RUN_FORMAT
    suite: str
    created: AwareDatetime
    resolved: dict[str, Any]
    cells: list[CellId]


class Result(_Record):
    """result.json: how it ended. `steps` counts the lines of steps.jsonl; `real_seconds` is host time."""

    format: int = REPEAT_FORMAT
    status: Literal["ok", "failed"]
    verdict: Verdict | None = None
    message: str = ""
    steps: int = Field(ge=0)
    real_seconds: float = Field(ge=0)

    @validates_all(mode="after")
    def _a_failure_has_a_verdict(self) -> Self:
        if (self.status == "failed") != (self.verdict is not None):
            raise ValueError(f"status {self.status!r} does not go with verdict {self.verdict!r}")
        return self


class Residency(_Record):
    """Resident bytes of the training process by NUMA node, at the end of a step."""

    anon: dict[Node, Bytes] = {}
    file: dict[Node, Bytes] = {}


class Step(_Record):
    """One line of steps.jsonl.

    `guest_ns` and `model_ns` are the step's duration by the guest's clock and by the model clock (None where
    there is none); `loss` is `float.hex()`, so that equal means equal bit for bit; `vmstat` holds what the
    counters of /proc/vmstat grew by; `runtime` is what the Sentinel runtime says of it, if it was there.
    """

    step: int = Field(ge=0)
    warmup: bool
    guest_ns: Nanoseconds
    model_ns: Nanoseconds | None = None
    loss: str
    residency: Residency = Residency()
    vmstat: dict[str, int] = {}
    runtime: dict[str, Any] = {}

    @validates("loss")
    @classmethod
    def _hexadecimal(cls, text: str) -> str:
        try:
            return float.fromhex(text).hex()
        except (ValueError, OverflowError):
            raise ValueError(f"{text!r} is not a float.hex() number") from None


class Throttle(BaseModel):
    """How slow memory was made slow, and whether it was.

    `method` is "none" if nothing makes node 1 slower, "timing-plugin" if the timing model does, "remote-node"
    if its memory is on a far node of the host; the calibration (whatever was measured) stands beside it as
    further keys. `nodes_alike`: both nodes measured the same.
    """

    model_config = ConfigDict(extra="allow", frozen=True)
    method: str
    nodes_alike: bool

    @property
    def is_slow(self) -> bool:
        """Whether times on this machine tell fast memory from slow."""
        return self.method != "none" and not self.nodes_alike


class FastMemory(BaseModel):
    """The budget of fast memory for tensors, and the peak of the model's tensors that it is a share of."""

    model_config = ConfigDict(extra="allow", frozen=True)
    budget_bytes: Bytes
    peak_bytes: Bytes


class Provenance(BaseModel):
    """provenance.json: how the repeat was made. More keys may stand beside these.

    `command` is a line to paste that makes it again; `fast_memory` is there if the cell has a budget (records
    of former versions do not say it in bytes).
    """

    model_config = ConfigDict(extra="allow", frozen=True)
    accelerator: str
    throttle: Throttle
    command: str
    git_commit: str | None = None
    kernel: dict[str, Any] = {}
    image: dict[str, Any] = {}
    qemu: str | None = None
    host: dict[str, Any] = {}
    fast_memory: FastMemory | None = None


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


def failed_try(name: str) -> tuple[int, int] | None:
    """The repeat and the try that a folder of a failed repeat is named after, or None."""
    match = re.fullmatch(r"([0-9]{3})\.failed-([0-9]+)", name)
    return (int(match[1]), int(match[2])) if match else None


def ascending(steps: list[Step]) -> bool:
    """Whether step numbers ascend, as they must."""
    return all(a.step < b.step for a, b in itertools.pairwise(steps))
