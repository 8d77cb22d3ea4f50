# SPDX-License-Identifier: Apache-2.0
"""Other processes of this host."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator

import psutil


def command_lines() -> Iterator[tuple[int, list[str]]]:
    """Yield process id and arguments of every process; those that exit meanwhile are left out."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            yield process.pid, process.cmdline()


def command_line(pid: int) -> str:
    """Return the command line of a process, quoted for a shell, or `exited`."""
    try:
        return shlex.join(psutil.Process(pid).cmdline()) or "exited"
    except psutil.Error:
        return "exited"


def find_qemu(disk: str) -> list[int]:
    """Return the QEMU processes that use the overlay `disk`, which belongs to one machine."""
    return [
        pid for pid, words in command_lines() if "-blockdev" in words and any(disk in word for word in words)
    ]


def kill_qemu(disk: str) -> None:
    """Kill the QEMU processes that use the overlay `disk`."""
    for pid in find_qemu(disk):
        with contextlib.suppress(psutil.Error):
            psutil.Process(pid).kill()
