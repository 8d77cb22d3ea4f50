# SPDX-License-Identifier: Apache-2.0
"""Commands in the guest over SSH (fabric): the forwarded loopback port, the testbed's key."""

from __future__ import annotations

import contextlib
import io
import logging
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import fabric
import invoke
import paramiko

from testbed.common.errors import GuestHangError, InfrastructureError, LostConnectionError, WorkloadError
from testbed.guestlink import keys, transfer
from testbed.guestlink.lost import BROKEN, lost_if_broken

HOST = "127.0.0.1"
logging.getLogger("paramiko").setLevel(logging.CRITICAL)  # its errors arrive as exceptions


@dataclass(frozen=True)
class Result:
    """Exit status and output of a command in the guest."""

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


class Shell:
    """A connection to a guest's root account. A context manager."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._connection = fabric.Connection(
            HOST,
            user="root",
            port=port,
            config=fabric.Config(overrides={"load_ssh_configs": False}),
            connect_kwargs={
                "key_filename": str(keys.private_key()),
                "look_for_keys": False,
                "allow_agent": False,
                "banner_timeout": 60,
                "auth_timeout": 120,
                "timeout": 10,
            },
        )

    def __enter__(self) -> Shell:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; a broken one is no error."""
        with contextlib.suppress(*BROKEN):
            self._connection.close()

    @property
    def connected(self) -> bool:
        """Whether the connection is open, as far as this side knows."""
        return bool(self._connection.is_connected)

    def connect(self, *, within: float, alive: Callable[[], None] = lambda: None) -> None:
        """Connect, retrying for `within` seconds. `alive` is called before each try and may raise.

        Raises `GuestHangError` if the SSH server does not answer in time.
        """
        deadline = time.monotonic() + within
        pause = 0.05
        while True:
            alive()
            try:
                # QEMU accepts connections before the guest has a server: only a greeting shows that there is
                # one.
                peer = _connect_greeted(self.port, timeout=max(1.0, deadline - time.monotonic()))
                self._connection.connect_kwargs["sock"] = peer
                self._connection.open()
                self._connection.transport.set_keepalive(5)
                return
            except paramiko.AuthenticationException:
                raise InfrastructureError("the guest rejects the testbed's SSH key") from None
            except BROKEN:
                self.close()
            if time.monotonic() >= deadline:
                raise GuestHangError(
                    f"the guest runs, but its SSH server did not answer within {within:.0f} s",
                    hint="sentinel vm console shows the guest's console",
                )
            time.sleep(pause)
            pause = min(0.5, pause * 1.5)

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
        """Run a shell command in the guest. `on_line` and `on_error` get its lines as they come.

        Raises `WorkloadError` if it fails (unless `check` is false), `GuestHangError` after `timeout`
        seconds, `LostConnectionError` if the connection breaks.
        """
        out, err = (_LineStream(on) if on else io.StringIO() for on in (on_line, on_error))
        started = time.monotonic()
        try:
            with lost_if_broken():
                result = self._connection.run(
                    command,
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
            raise LostConnectionError("the connection to the guest broke")
        if check and result.exited != 0:
            last = (result.stderr.strip() or result.stdout.strip()).splitlines()[-1:] or ["no output"]
            raise WorkloadError(
                f"in the guest: {last[0]} (command exited with status {result.exited}: {command})"
            )
        return Result(result.exited, result.stdout, result.stderr)

    def follow(self, command: str) -> Follower:
        """Start a command in the guest and return at once."""
        with lost_if_broken():
            channel = self._connection.transport.open_session()
            channel.exec_command(command)
        return Follower(channel)

    def put(self, source: Path, target: str) -> None:
        """Copy a file or folder into the guest, with its mode.

        `target` is the new path. If it ends in a slash, it is the folder to copy into. A file also goes into
        an existing folder `target`, and a folder is merged into one. Raises `UsageError` if `source` cannot
        be read, `WorkloadError` with the guest's message if `target` cannot be written.
        """
        transfer.put(self._connection.transport, source, target)

    def get(self, source: str, target: Path) -> None:
        """Copy a file or folder out of the guest. `target` is the new path; a folder must not exist yet.

        Raises `UsageError` if `source` does not exist or is a special file, or if `target` cannot be written.
        """
        transfer.get(self._connection.transport, source, target)


@contextlib.contextmanager
def shell(port: int, *, within: float, alive: Callable[[], None] = lambda: None) -> Iterator[Shell]:
    """Yield a connected `Shell`."""
    with Shell(port) as s:
        s.connect(within=within, alive=alive)
        yield s


def answers(port: int, *, within: float) -> bool:
    """Return whether the guest's SSH server greets within that many seconds."""
    try:
        _connect_greeted(port, timeout=within).close()
    except OSError:
        return False
    return True


def command_line(port: int, arguments: Sequence[str] = ()) -> list[str]:
    """Return the OpenSSH command line for an interactive session."""
    options = (
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
        "LogLevel=ERROR",
        "IdentitiesOnly=yes",
    )
    return [
        *["ssh", "-F", "none", "-i", str(keys.private_key()), "-p", str(port)],
        *[word for option in options for word in ("-o", option)],
        f"root@{HOST}",
        *arguments,
    ]


def _timed_out(command: str, timeout: float | None) -> GuestHangError:
    return GuestHangError(f"command timed out after {timeout:g} s: {command}")


def _connect_greeted(port: int, *, timeout: float) -> socket.socket:
    """Connect and wait for the SSH greeting, without reading it. Raises `OSError`."""
    peer = socket.create_connection((HOST, port), timeout=5)
    peer.settimeout(timeout)
    try:
        if peer.recv(4, socket.MSG_PEEK) != b"SSH-":
            raise ConnectionResetError("no greeting")
    except BaseException:
        peer.close()
        raise
    return peer
