# SPDX-License-Identifier: Apache-2.0
"""Standard streams that are closed, full, or without a reader."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import stat
import sys
from collections.abc import Iterator
from typing import Any

from testbed.common.errors import InfrastructureError
from testbed.common.streams import discard

_DEV_FULL = os.makedev(1, 7)


class UnreadError(Exception):
    """The reader of standard output has exited. Not an `OSError`, because libraries exit on those."""


class _Output(io.FileIO):
    """Standard output whose errors name it."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            raise UnreadError from None
        except OSError as e:
            raise OSError(e.errno, e.strerror, "standard output") from None


def prepare() -> None:
    """Open descriptors 0 to 2 if they are closed, so that no later file gets one of these numbers.

    Writing to a standard output that was closed still fails.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            discard(fd, os.O_WRONLY if fd == 2 else os.O_RDONLY)
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(_Output(1, "wb", closefd=False)),
        encoding=encoding,
        errors="backslashreplace",  # a locale without a character must not end a table
        line_buffering=os.isatty(1),
    )
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def check() -> None:
    """Check standard output before long work that prints at its end. Raises `InfrastructureError`."""
    status = os.fstat(1)
    if fcntl.fcntl(1, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        raise InfrastructureError("standard output is closed", hint="redirect it: >/dev/null")
    full = stat.S_ISREG(status.st_mode) and os.fstatvfs(1).f_bavail == 0
    if full or (stat.S_ISCHR(status.st_mode) and status.st_rdev == _DEV_FULL):
        raise InfrastructureError("standard output: the disk is full")


def settle() -> None:
    """Discard what cannot be written, so that the interpreter does not fail at exit."""
    for fd, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            stream.flush()
        except (OSError, ValueError, UnreadError):
            discard(fd)


def discard_output() -> None:
    """Discard standard output from now on, including its buffer."""
    discard(1)


@contextlib.contextmanager
def unread() -> Iterator[None]:
    """Ignore a reader that exits early, for the last output of a command."""
    try:
        yield
        sys.stdout.flush()
    except UnreadError:
        discard_output()
