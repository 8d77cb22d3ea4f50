# SPDX-License-Identifier: Apache-2.0
"""Commands and files over SSH (fabric). Only the forwarded port on loopback, only the testbed's key."""

from __future__ import annotations

import contextlib
import io
import logging
import shlex
import socket
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import fabric
import invoke
import paramiko

from testbed import keys
from testbed.common.errors import (
    GuestHangError,
    InfrastructureError,
    LostConnectionError,
    UsageError,
    WorkloadError,
)

HOST = "127.0.0.1"
logging.getLogger("paramiko").setLevel(logging.CRITICAL)  # what goes wrong reaches us as exceptions

BROKEN = (paramiko.SSHException, EOFError, OSError)  # what a connection that is gone raises


@dataclass(frozen=True)
class Result:
    """What a command in the guest did."""

    code: int
    out: str
    err: str


class _Lines(io.StringIO):
    """A stream that hands on whole lines as they arrive."""

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
        """Hand on what came last without the end of a line."""
        if self._rest:
            self._on_line(self._rest)
            self._rest = ""


class Follower:
    """A running command in the guest. Use as a context manager; leaving it hangs up on the command."""

    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel
        self._rest = b""

    def __enter__(self) -> Follower:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(*BROKEN):
            self._channel.close()

    def lines(self, *, wait: float) -> list[str]:
        """The lines that came; waits up to `wait` seconds for some."""
        self._channel.settimeout(wait)
        try:
            new = self._channel.recv(1 << 20)
        except TimeoutError:
            return []
        *whole, self._rest = (self._rest + new).split(b"\n")
        if not new and self._rest:  # the end, without a newline
            whole.append(self._rest)
            self._rest = b""
        return [line.decode(errors="replace") for line in whole]

    @property
    def over(self) -> bool:
        """Whether nothing more will come: the command or the connection ended, and all it said was read."""
        ended = self._channel.closed or self._channel.eof_received
        return bool(ended and not self._channel.recv_ready() and not self._rest)


class Shell:
    """A connection to a guest's root account. Use as a context manager."""

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
        with contextlib.suppress(*BROKEN):
            self._connection.close()

    @property
    def connected(self) -> bool:
        """Whether the connection still stands, as far as this side knows."""
        return bool(self._connection.is_connected)

    def connect(self, *, within: float, alive: Callable[[], None] = lambda: None) -> None:
        """Retry until the guest's sshd lets us in; `alive` is called between tries and may raise.

        Raises `GuestHangError` after `within` seconds.
        """
        deadline = time.monotonic() + within
        pause = 0.05
        while True:
            alive()
            try:
                # QEMU accepts for a guest that has no server yet: only a greeting shows that there is one.
                peer = _greeted(self.port, timeout=max(1.0, deadline - time.monotonic()))
                self._connection.connect_kwargs["sock"] = peer
                self._connection.open()
                self._connection.transport.set_keepalive(5)
                return
            except paramiko.AuthenticationException:
                raise InfrastructureError("the guest refuses the testbed's key") from None
            except BROKEN:
                self.close()
            if time.monotonic() >= deadline:
                raise GuestHangError(
                    f"the guest runs, but its SSH server did not answer within {within:.0f} s",
                    hint="sentinel vm console shows what the guest says",
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
        """Run a shell command in the guest; `on_line` and `on_error` get what it prints as it comes.

        Raises `WorkloadError` if it fails (unless `check` is false), `GuestHangError` after `timeout`
        seconds, `LostConnectionError` if the connection breaks.
        """
        out, err = (_Lines(on) if on else io.StringIO() for on in (on_line, on_error))
        try:
            with _broken_is_lost():
                result = self._connection.run(
                    command,
                    hide=False,
                    warn=True,
                    timeout=timeout,
                    out_stream=out,
                    err_stream=err,
                    in_stream=io.StringIO(stdin) if stdin is not None else False,
                )
        except invoke.exceptions.CommandTimedOut:
            raise GuestHangError(f"no end within {timeout:g} s: {command}") from None
        for stream in (out, err):
            if isinstance(stream, _Lines):
                stream.finish()
        if result.exited == -1:  # paramiko's way to say that the channel closed without an exit status
            raise LostConnectionError("the connection to the guest broke")
        if check and result.exited != 0:
            last = (result.stderr.strip() or result.stdout.strip()).splitlines()[-1:] or ["no output"]
            raise WorkloadError(f"in the guest: {last[0]} (exit {result.exited} from: {command})")
        return Result(result.exited, result.stdout, result.stderr)

    def follow(self, command: str) -> Follower:
        """Start a command whose output is read as it comes, without waiting for it."""
        with _broken_is_lost():
            channel = self._connection.transport.open_session()
            channel.exec_command(command)
        return Follower(channel)

    def put(self, source: Path, target: str) -> None:
        """Copy a file or folder into the guest, keeping modes; `target` is its full new path."""
        if not source.exists():
            raise UsageError(f"{source} does not exist")
        place = PurePosixPath(target)
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            tar.add(source, arcname=place.name, filter=_rooted)
        folder = shlex.quote(str(place.parent))
        self._pipe_in(f"mkdir -p {folder} && tar -xf - -C {folder}", packed.getvalue())

    def get(self, source: str, target: Path) -> None:
        """Copy one file out of the guest."""
        with _broken_is_lost():
            try:
                self._connection.sftp().get(source, str(target))  # one session, closed with the connection
            except FileNotFoundError:
                raise UsageError(f"there is no {source} in the guest") from None

    def _pipe_in(self, command: str, data: bytes) -> None:
        with _broken_is_lost(), contextlib.closing(self._connection.transport.open_session()) as channel:
            channel.exec_command(command)
            channel.sendall(data)
            channel.shutdown_write()
            code = channel.recv_exit_status()
        if code != 0:
            raise WorkloadError(f"in the guest: exit {code} from: {command}")


@contextlib.contextmanager
def _broken_is_lost() -> Iterator[None]:
    """Whatever a broken connection raises is a `LostConnectionError`."""
    try:
        yield
    except BROKEN as e:
        raise LostConnectionError(f"the connection to the guest broke: {e}") from None


def command_line(port: int, arguments: Sequence[str] = ()) -> list[str]:
    """The OpenSSH command line for the same connection, for an interactive session."""
    options = [
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
        "LogLevel=ERROR",
        "IdentitiesOnly=yes",
    ]
    flags = [word for option in options for word in ("-o", option)]
    return [
        "ssh",
        "-F",
        "none",
        "-i",
        str(keys.private_key()),
        "-p",
        str(port),
        *flags,
        f"root@{HOST}",
        *arguments,
    ]


def answers(port: int, *, within: float) -> bool:
    """Whether the guest's SSH server greets within so many seconds."""
    try:
        _greeted(port, timeout=within).close()
    except OSError:
        return False
    return True


def _greeted(port: int, *, timeout: float) -> socket.socket:
    """A connection on which an SSH server has begun to speak (nothing is read off it). Raises `OSError`."""
    peer = socket.create_connection((HOST, port), timeout=5)
    peer.settimeout(timeout)
    try:
        if peer.recv(4, socket.MSG_PEEK) != b"SSH-":
            raise ConnectionResetError("no greeting")
    except BaseException:
        peer.close()
        raise
    return peer


def _rooted(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
    if "__pycache__" in info.name:
        return None
    info.uid = info.gid = 0
    info.uname = info.gname = "root"
    return info


@contextlib.contextmanager
def shell(port: int, *, within: float, alive: Callable[[], None] = lambda: None) -> Iterator[Shell]:
    """A connected `Shell` for the block."""
    with Shell(port) as s:
        s.connect(within=within, alive=alive)
        yield s
