# SPDX-License-Identifier: Apache-2.0
"""Other processes of this host, as /proc shows them."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
from collections.abc import Iterator
from pathlib import Path


def command_lines() -> Iterator[tuple[int, list[bytes]]]:
    """Each process's id and arguments; one that ends meanwhile is left out."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            yield int(path.parent.name), path.read_bytes().split(b"\0")


def command_of(pid: int) -> str:
    """The command line of a process, as one could paste it."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]
    except OSError:
        return "ended"
    return shlex.join(word.decode(errors="replace") for word in words) or "ended"


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
