# SPDX-License-Identifier: Apache-2.0
"""The format of a run's records.

    RUN/run.json                       `RunInfo`
    RUN/profiles/<digest>.json.gz      a profile, under the SHA-256 that plans have in `made.profile`
    RUN/cells/<cell id>/<000>/         a finished repeat
        cell.json                      the resolved cell: a free-form mapping with its `id`
        result.json                    `Result`
        steps.jsonl                    one `Step` per line, including warm-up
        provenance.json                `Provenance`
        plan-<kind>.json.gz            the plan for a kind of step; plan.json.gz before format 4
        console.log, counters.jsonl, ...           other files of the repeat
    RUN/cells/<cell id>/<000>.failed-<n>/      the n-th failed attempt at that repeat, same files

`format` in run.json is the version of that file; `format` in result.json is the version of its folder.
Readers reject newer formats and unknown keys, so a new key raises the format. Readers skip names that begin
with a dot.
"""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeGuard, get_args

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints
from pydantic import model_validator as validates_all

from testbed.common.errors import ExitCode, SentinelError

RUN_FORMAT = 1
# 2: `Step.runtime`; 3: the policies `sentinel` and `published` have new names; 4: `Step.kind`, steps without
# a loss, and a plan for each kind of step
REPEAT_FORMAT = 4
RENAMED_POLICIES = {"sentinel": "sentinel-opt", "published": "sentinel"}  # before format 3

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
LARGEST = 2**63 - 1  # whole number in frames and their files
Bytes = Annotated[int, Field(ge=0, le=LARGEST)]
Nanoseconds = Annotated[int, Field(gt=0, le=LARGEST)]
Growth = Annotated[int, Field(ge=-LARGEST, le=LARGEST)]


def _normalized(text: str) -> str:
    try:
        return float.fromhex(text).hex()
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is not a number from float.hex()") from None


Loss = Annotated[str, AfterValidator(_normalized)]


def verdict_of(error: SentinelError) -> Verdict:
    """Return the verdict that records an expected failure."""
    return _VERDICT_OF_CODE.get(error.code, "infrastructure")


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class RunInfo(_Record):
    """run.json: the suite with all defaults (`resolved`) and its cells in order."""

    format: int = RUN_FORMAT
    suite: str
    created: AwareDatetime
    resolved: dict[str, Any]
    cells: list[CellId]


class Result(_Record):
    """result.json: the outcome. `steps` counts the lines of steps.jsonl; `real_seconds` is host time."""

    format: int = REPEAT_FORMAT
    status: Literal["ok", "failed"]
    verdict: Verdict | None = None
    message: str = ""
    steps: int = Field(ge=0)
    real_seconds: float = Field(ge=0, allow_inf_nan=False)

    @validates_all(mode="after")
    def _check_verdict(self) -> Self:
        if (self.status == "failed") != (self.verdict is not None):
            raise ValueError(f"status {self.status!r} contradicts verdict {self.verdict!r}")
        return self


class Residency(_Record):
    """Resident bytes of the training process by NUMA node, at the end of a step."""

    anon: dict[Node, Bytes] = {}
    file: dict[Node, Bytes] = {}


class Step(_Record):
    """One line of steps.jsonl.

    `guest_ns` and `model_ns` are the step's duration by the guest clock and the model clock, if there is one.
    `kind` identifies steps that run the same operations; older records lack it. `loss` is `float.hex()`, for
    bit-exact comparison; None if a script does not show its loss. `vmstat` is the growth of the counters in
    /proc/vmstat. `runtime` holds the statistics of the Sentinel runtime, if it is loaded.
    """

    step: int = Field(ge=0, le=LARGEST)
    warmup: bool
    guest_ns: Nanoseconds
    model_ns: Nanoseconds | None = None
    kind: str | None = None
    loss: Loss | None = None
    residency: Residency = Residency()
    vmstat: dict[str, Growth] = {}
    runtime: dict[str, Any] = {}


class Throttle(BaseModel):
    """How node 1 was slowed down.

    `method` is "none", "timing-plugin" (the timing model), "remote-node" (memory of a remote node of the
    host) or "hardware" (slow memory of a real machine). `nodes_alike` means that both nodes are equally fast.
    Further keys hold the calibration.
    """

    model_config = ConfigDict(extra="allow", frozen=True)
    method: str
    nodes_alike: bool

    @property
    def is_slow(self) -> bool:
        """Whether node 1 is slower than node 0."""
        return self.method != "none" and not self.nodes_alike


class FastMemory(BaseModel):
    """The budget in bytes, and the model's peak if it is known; most budgets are shares of it."""

    model_config = ConfigDict(extra="allow", frozen=True)
    budget_bytes: Bytes
    peak_bytes: Bytes | None = None


class Provenance(BaseModel):
    """provenance.json: the origin of a repeat. Further keys are allowed.

    `command` is the shell command that reproduces it. `fast_memory` is set if the cell has a budget; older
    records lack it.
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


def is_count(value: object) -> TypeGuard[int]:
    """Return whether a value of free-form statistics is a count: a whole number from 0 to `LARGEST`."""
    return type(value) is int and 0 <= value <= LARGEST


def profile_path(run_dir: Path, digest: str) -> Path:
    """Return where a run keeps the profile with this SHA-256."""
    return run_dir / "profiles" / f"{digest}.json.gz"


def failed_attempt(name: str) -> tuple[int, int] | None:
    """Return repeat and attempt from the folder name of a failed attempt, or None.

    >>> failed_attempt('002.failed-1')
    (2, 1)
    """
    match = re.fullmatch(r"([0-9]{3})\.failed-([0-9]+)", name)
    return (int(match[1]), int(match[2])) if match else None


def ascending(steps: list[Step]) -> bool:
    """Return whether step numbers ascend."""
    return all(a.step < b.step for a, b in itertools.pairwise(steps))
