# SPDX-License-Identifier: Apache-2.0
"""Expected failures: one line, a hint, the path of a log, and an exit code.

What a user or the host can cause is a `SentinelError`; any other exception is a bug.
"""

from __future__ import annotations

from enum import IntEnum
from pathlib import Path


class ExitCode(IntEnum):
    """Exit status of the program; docs/failures.md has the same table."""

    doc: str

    def __new__(cls, value: int, doc: str) -> ExitCode:
        member = int.__new__(cls, value)
        member._value_ = value
        member.doc = doc
        return member

    OK = 0, "success"
    BUG = 1, "a bug in this program: please report the traceback"
    USAGE = 2, "invalid option, suite, machine or other input; nothing was started"
    BUILD = 3, "a kernel or guest image could not be built"
    BOOT = 4, "the guest did not boot"
    PANIC = 5, "the guest's kernel panicked or oopsed"
    HANG = 6, "the guest or its workload stopped making progress"
    WORKLOAD = 7, "the program in the guest failed; the guest is fine"
    LOST = 8, "the connection to a running guest was lost"
    INFRASTRUCTURE = 9, "a failure of this host: QEMU, libvirt, disk, memory, network, a missing program"
    REGRESSION = 10, "`gate`: something became slower, or a counter grew"
    IMPROVEMENT = 11, "`gate`: something became faster, or a counter shrank, and nothing got worse"
    INCONCLUSIVE = 12, "`gate`: more repeats are needed to tell"
    NOT_COMPARABLE = 13, "`gate`: something else differs, or a cell is missing"
    INTERRUPTED = 130, "interrupted by Ctrl-C; nothing is left running"
    UNREAD = 141, "the reader of the output exited before the command in the guest did"


class SentinelError(Exception):
    """An expected failure.

    `hint` says how to fix it, `log` is the path of the details; both are optional.
    """

    code = ExitCode.INFRASTRUCTURE

    def __init__(self, message: str, *, hint: str | None = None, log: Path | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.log = log

    def __str__(self) -> str:
        return self.message  # handlers may extend it


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
