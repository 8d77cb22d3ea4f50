# SPDX-License-Identifier: Apache-2.0
"""Expected failures: one line, a hint, the path of a log, and an exit code each.

A traceback is for bugs. Whatever a user can cause or meet is a `SentinelError`.
"""

from __future__ import annotations

from enum import IntEnum
from pathlib import Path


class ExitCode(IntEnum):
    """What the program's exit status says. docs/failures.md holds the same table."""

    doc: str

    def __new__(cls, value: int, doc: str) -> ExitCode:
        member = int.__new__(cls, value)
        member._value_ = value
        member.doc = doc
        return member

    OK = 0, "everything asked for was done"
    BUG = 1, "a defect of this program: please report the traceback"
    USAGE = 2, "wrong options, suite, machine or other input; nothing was started for it"
    BUILD = 3, "a kernel or guest image could not be built"
    BOOT = 4, "the guest did not come up"
    PANIC = 5, "the guest's kernel panicked or oopsed"
    HANG = 6, "the guest or its workload stopped making progress"
    WORKLOAD = 7, "the program in the guest failed; the guest is well"
    LOST = 8, "the connection to a running guest was lost"
    INFRASTRUCTURE = 9, "this host failed us: QEMU, libvirt, disk, memory, network, a missing program"
    INTERRUPTED = 130, "stopped by Ctrl-C; nothing is left running"
    UNREAD = 141, "the reader of the output went away before the command in the guest had ended"


class SentinelError(Exception):
    """An expected failure.

    `hint` says what mends it, `log` where the details are; both are optional.
    """

    code = ExitCode.INFRASTRUCTURE

    def __init__(self, message: str, *, hint: str | None = None, log: Path | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.log = log

    def __str__(self) -> str:
        return self.message  # which may have been added to since


class UsageError(SentinelError):
    code = ExitCode.USAGE


class BuildError(SentinelError):
    code = ExitCode.BUILD


class BootError(SentinelError):
    code = ExitCode.BOOT


class GuestPanicError(SentinelError):
    code = ExitCode.PANIC


class GuestHangError(SentinelError):
    code = ExitCode.HANG


class WorkloadError(SentinelError):
    code = ExitCode.WORKLOAD


class LostConnectionError(SentinelError):
    code = ExitCode.LOST


class InfrastructureError(SentinelError):
    code = ExitCode.INFRASTRUCTURE
