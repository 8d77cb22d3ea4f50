# SPDX-License-Identifier: Apache-2.0
"""Processes on a target that end with the process here, however that ends, or the connection to it.

The command reads signs of life from its input. It ends when the input ends or none has come for a while: an
SSH server may notice a lost connection hours later.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Self

from testbed.common.errors import InfrastructureError, LostConnectionError
from testbed.guestlink.lost import BROKEN
from testbed.guestlink.shell import Follower, Shell

SILENCE = 60  # seconds without a sign of life after which the command ends
_EVERY = 10.0  # seconds between two signs
_END_WITHIN = 20.0  # seconds for the command to clean up

# The loop of such a command: true as long as signs of life come. It needs coreutils only.
ALIVE = f"timeout {SILENCE} sh -c 'read -r _'"


class Held:
    """A command on a target, which runs until it is closed. A context manager."""

    def __init__(self, shell: Shell, command: str) -> None:
        self._shell = shell
        self._channel = shell.start(command)
        self._output = Follower(self._channel)
        self._closing = threading.Event()
        threading.Thread(target=self._beat, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _beat(self) -> None:
        with contextlib.suppress(*BROKEN, ValueError):  # ValueError: this host's pipe is closed
            while not self._closing.wait(_EVERY):
                self._channel.sendall(b"\n")

    def wait(self, sign: str, *, within: float) -> tuple[str | None, list[str]]:
        """Wait for a line of output that begins with `sign`; return the rest of it and the lines before.

        It is None if the command ends without it. Raises `LostConnectionError` if the connection breaks, and
        `InfrastructureError` after `within` seconds.
        """
        deadline = time.monotonic() + within
        lines: list[str] = []
        while time.monotonic() < deadline:
            for line in self._output.lines(wait=0.5):
                if line.startswith(sign):
                    return line.removeprefix(sign).strip(), lines
                lines.append(line)
            if self._output.over:
                if not self._shell.connected:
                    raise LostConnectionError(f"the connection to {self._shell.place} broke")
                return None, lines
        raise InfrastructureError(f"{self._shell.place} did not answer within {within:.0f} s")

    @property
    def running(self) -> bool:
        """Whether the command runs, as far as this side knows."""
        ended = self._channel.closed or self._channel.exit_status_ready()
        return self._shell.connected and not ended

    def close(self) -> None:
        """End the command, and wait until it has cleaned up."""
        self._closing.set()
        with contextlib.suppress(*BROKEN, ValueError):
            self._channel.shutdown_write()
            deadline = time.monotonic() + _END_WITHIN
            while not self._channel.exit_status_ready() and time.monotonic() < deadline:
                if not self._shell.connected:
                    break
                time.sleep(0.05)
        with contextlib.suppress(*BROKEN):
            self._channel.close()
