# SPDX-License-Identifier: Apache-2.0
"""Standard streams that are closed, full, or read by nobody."""

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

_DEV_FULL = os.makedev(1, 7)


class UnreadError(Exception):
    """Whoever read standard output has gone. No `OSError`: libraries would end the program at one."""


class _Output(io.FileIO):
    """Standard output, whose errors say that they are its own."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            raise UnreadError from None
        except OSError as e:
            raise OSError(e.errno, e.strerror, "standard output") from None


def prepare() -> None:
    """Make sure that descriptors 0 to 2 are open: a file opened later must not get the number of one of them.

    Where standard output was closed, writing to it fails, as it should.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            _redirect(fd, os.O_WRONLY if fd == 2 else os.O_RDONLY)
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(_Output(1, "wb", closefd=False)),
        encoding=encoding,
        errors="backslashreplace",  # an odd locale must not end a table
        line_buffering=os.isatty(1),
    )
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def check() -> None:
    """For a verb that prints at its end only: is there anything to print to? Raises `InfrastructureError`."""
    status = os.fstat(1)
    if fcntl.fcntl(1, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        raise InfrastructureError("standard output is closed", hint="redirect it: >/dev/null")
    full = stat.S_ISREG(status.st_mode) and os.fstatvfs(1).f_bavail == 0
    if full or (stat.S_ISCHR(status.st_mode) and status.st_rdev == _DEV_FULL):
        raise InfrastructureError("standard output: the disk is full")


def settle() -> None:
    """Forget what cannot be written, so that the interpreter does not complain of it on its way out."""
    for fd, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            stream.flush()
        except (OSError, ValueError, UnreadError):
            _redirect(fd, os.O_WRONLY)


def discard_output() -> None:
    """From here on nothing is written to standard output, not even what is still in its buffer."""
    _redirect(1, os.O_WRONLY)


@contextlib.contextmanager
def unread() -> Iterator[None]:
    """For the last output of a verb: it makes no difference whether somebody reads it to its end."""
    try:
        yield
        sys.stdout.flush()
    except UnreadError:
        discard_output()


def _redirect(fd: int, flags: int) -> None:
    null = os.open(os.devnull, flags)
    if null == fd:
        os.set_inheritable(fd, True)
    else:
        os.dup2(null, fd)
        os.close(null)
