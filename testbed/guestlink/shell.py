# SPDX-License-Identifier: Apache-2.0
"""Commands and files of another root file system: a guest's, a real machine's, or this host's own."""

from __future__ import annotations

import contextlib
import copy
import io
import shlex
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import invoke
import paramiko

from testbed.common.errors import GuestHangError, LostConnectionError, WorkloadError
from testbed.guestlink import transfer
from testbed.guestlink.lost import BROKEN, lost_if_broken


@dataclass(frozen=True)
class Result:
    """Exit status and output of a command."""

    code: int
    out: str
    err: str


class _LineStream(io.StringIO):
    """A stream that passes on whole lines as they arrive."""

    def __init__(self, on_line: Callable[[str], None]) -> None:
        super().__init__()
        self._on_line = on_line
        self._rest = ""

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._on_line(line)
        return len(text)

    def finish(self) -> None:
        """Pass on a last line without newline."""
        if self._rest:
            self._on_line(self._rest)
            self._rest = ""


class Follower:
    """A running command whose output is read as it comes. A context manager; its exit hangs up."""

    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel
        self._rest = b""

    def __enter__(self) -> Follower:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(*BROKEN):
            self._channel.close()

    def read(self, *, wait: float) -> bytes | None:
        """Return new output, empty at its end; None if there is none within `wait` seconds."""
        self._channel.settimeout(wait)
        try:
            return bytes(self._channel.recv(1 << 20))
        except TimeoutError:
            return None

    def lines(self, *, wait: float) -> list[str]:
        """Return new lines; wait up to `wait` seconds for some."""
        data = self.read(wait=wait)
        if data is None:
            return []
        *lines, self._rest = (self._rest + data).split(b"\n")
        if not data and self._rest:  # the end, without a newline
            lines.append(self._rest)
            self._rest = b""
        return [line.decode(errors="replace") for line in lines]

    @property
    def over(self) -> bool:
        """Whether the command or the connection has ended and all output has been read."""
        ended = self._channel.closed or self._channel.eof_received
        return bool(ended and not self._channel.recv_ready() and not self._rest)


class Shell(ABC):
    """Runs commands as a user of a machine, and copies files. A context manager.

    `place` names the machine in messages, with its `preposition`: "in the guest".
    """

    place = "the guest"
    preposition = "in"

    def __init__(self, runner: Any) -> None:
        self._runner = runner  # runs commands as invoke.Context does
        self._entrance: tuple[str, ...] = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Close the connection; a broken one is no error."""

    @property
    @abstractmethod
    def connected(self) -> bool:
        """Whether the connection is open, as far as this side knows."""

    @abstractmethod
    def _open(self) -> paramiko.Channel:
        """Open a channel for one command."""

    @property
    def where(self) -> str:
        """The machine in messages, such as `in the guest`."""
        return f"{self.preposition} {self.place}"

    def inside(self, entrance: Sequence[str]) -> Self:
        """Return a shell on the same connection whose commands run behind `entrance`, such as `chroot /x`."""
        other = copy.copy(self)
        other._entrance = (*self._entrance, *entrance)
        return other

    def start(self, command: str) -> paramiko.Channel:
        """Start a command, and return the channel of its input and output."""
        with lost_if_broken(self.place):
            channel = self._open()
            channel.exec_command(self._entering(command))
        return channel

    def run(
        self,
        command: str,
        *,
        timeout: float | None = None,
        check: bool = True,
        on_line: Callable[[str], None] | None = None,
        on_error: Callable[[str], None] | None = None,
        stdin: str | None = None,
    ) -> Result:
        """Run a shell command. `on_line` and `on_error` get its lines as they come.

        Raises `WorkloadError` if it fails (unless `check` is false), `GuestHangError` after `timeout`
        seconds, `LostConnectionError` if the connection breaks.
        """
        out, err = (_LineStream(on) if on else io.StringIO() for on in (on_line, on_error))
        started = time.monotonic()
        try:
            with lost_if_broken(self.place):
                result = self._runner.run(
                    self._entering(command),
                    hide=False,
                    warn=True,
                    timeout=timeout,
                    out_stream=out,
                    err_stream=err,
                    in_stream=io.StringIO(stdin) if stdin is not None else False,
                )
        except invoke.exceptions.ThreadException as e:  # raised by `on_line` or `on_error`
            raise e.exceptions[0].value from None
        except invoke.exceptions.CommandTimedOut:
            raise _timed_out(command, timeout) from None
        for stream in (out, err):
            if isinstance(stream, _LineStream):
                stream.finish()
        if result.exited == -1:  # paramiko: the channel closed without an exit status
            # invoke misses its own time limit if the timer's thread has not quite ended after the kill.
            if timeout is not None and time.monotonic() - started >= timeout:
                raise _timed_out(command, timeout)
            raise LostConnectionError(f"the connection to {self.place} broke")
        if check and result.exited != 0:
            last = (result.stderr.strip() or result.stdout.strip()).splitlines()[-1:] or ["no output"]
            raise WorkloadError(
                f"{self.where}: {last[0]} (command exited with status {result.exited}: {command})"
            )
        return Result(result.exited, result.stdout, result.stderr)

    def follow(self, command: str) -> Follower:
        """Start a command and return at once."""
        return Follower(self.start(command))

    def put(self, source: Path, target: str) -> None:
        """Copy a file or folder to the other side, with its mode.

        `target` is the new path. If it ends in a slash, it is the folder to copy into. A file also goes into
        an existing folder `target`, and a folder is merged into one. Raises `UsageError` if `source` cannot
        be read, `WorkloadError` with the other side's message if `target` cannot be written.
        """
        transfer.put(self, source, target)

    def get(self, source: str, target: Path) -> None:
        """Copy a file or folder from the other side. `target` is the new path; a folder must not exist yet.

        Raises `UsageError` if `source` does not exist or is a special file, or if `target` cannot be written.
        """
        transfer.get(self, source, target)

    def _entering(self, command: str) -> str:
        return shlex.join([*self._entrance, "sh", "-c", command]) if self._entrance else command


def _timed_out(command: str, timeout: float | None) -> GuestHangError:
    return GuestHangError(f"command timed out after {timeout:g} s: {command}")
