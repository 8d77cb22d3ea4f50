# SPDX-License-Identifier: Apache-2.0
"""Finding and ending QEMU processes without anybody's help."""

from __future__ import annotations

import contextlib
import os
import signal

from testbed.common.processes import command_lines


def of_disk(disk: str) -> list[int]:
    """QEMU processes whose command line names `disk`: an overlay belongs to one machine alone."""
    wanted = os.fsencode(disk)
    return [
        pid for pid, words in command_lines() if b"-blockdev" in words and any(wanted in w for w in words)
    ]


def kill_of_disk(disk: str) -> None:
    """Kill them."""
    for pid in of_disk(disk):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
