# SPDX-License-Identifier: Apache-2.0
"""Discard a standard stream that can no longer be written."""

from __future__ import annotations

import os


def discard(fd: int, flags: int = os.O_WRONLY) -> None:
    """Redirect the descriptor `fd` to /dev/null, which is opened with `flags`.

    Python flushes standard output and standard error at exit, and exits with 120 if that fails.
    """
    null = os.open(os.devnull, flags)
    if null == fd:
        os.set_inheritable(fd, True)
    else:
        os.dup2(null, fd)
        os.close(null)
