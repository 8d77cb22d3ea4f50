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
import re
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints
from pydantic import field_validator as validates
from pydantic import model_validator as validates_all

from testbed.common.errors import ExitCode, SentinelError

RUN_FORMAT = 1
REPEAT_FORMAT = 3  # 2: a step may have `runtime`; 3: `sentinel` and `published` are renamed
RENAMED_PLACEMENTS = {"sentinel": "sentinel-opt", "published": "sentinel"}  # from formats before 3

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


def failed_try(name: str) -> tuple[int, int] | None:
    """The repeat and the try that a folder of a failed repeat is named after, or None."""
    match = re.fullmatch(r"([0-9]{3})\.failed-([0-9]+)", name)
    return (int(match[1]), int(match[2])) if match else None


def ascending(steps: list[Step]) -> bool:
    """Whether step numbers ascend, as they must."""
    return all(a.step < b.step for a, b in itertools.pairwise(steps))
