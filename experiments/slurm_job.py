# SPDX-License-Identifier: Apache-2.0
"""The file of `sentinel run --slurm`: what a SLURM job of a cluster asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from testbed.common import schema
from testbed.common.errors import UsageError
from testbed.common.schema import Strict
from testbed.common.sizes import Size, shown_size
from testbed.machine import Machine


class Job(Strict):
    """A SLURM job, which has one worker. `memory` is in bytes.

    `walltime` is a time in one of SLURM's forms, and `interface` the network interface that connects the
    nodes. `directives` are further options of sbatch, and `setup` has lines of shell that run first.
    """

    walltime: str
    cores: Annotated[int, Field(ge=1)] = 2
    memory: Size = Field(8 << 30, json_schema_extra={"default": shown_size(8 << 30)})
    partition: str | None = None
    account: str | None = None
    interface: str | None = None
    directives: tuple[str, ...] = Field((), examples=["[--exclusive]"])
    setup: tuple[str, ...] = Field((), examples=["[module load qemu]"])

    @property
    def memory_mib(self) -> int:
        """The memory in MiB, rounded up."""
        return -(-self.memory // (1 << 20))

    def check_capacity(self, machine: Machine) -> None:
        """Raise `UsageError` if a machine needs more memory than a job has."""
        if machine.memory > self.memory:
            raise UsageError(
                f"the machine needs {shown_size(machine.memory)} of memory, and a job has "
                f"{shown_size(self.memory)}",
                hint="give more `memory` in the file of --slurm",
            )


def load(path: Path) -> Job:
    """Read the file. Raises `UsageError` with file, line and column."""
    return schema.load(path, Job)
