# SPDX-License-Identifier: Apache-2.0
"""Commands and files over SSH (fabric). Only the forwarded port on loopback, only the testbed's key."""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import os
import shlex
import shutil
import socket
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import fabric
import invoke
import paramiko

from testbed.common import files
from testbed.common.errors import (
    GuestHangError,
    InfrastructureError,
    LostConnectionError,
    UsageError,
    WorkloadError,
)
from testbed.common.run import spawn
from testbed.guestlink import keys

HOST = "127.0.0.1"
logging.getLogger("paramiko").setLevel(logging.CRITICAL)  # what goes wrong reaches us as exceptions

_CHUNK = 1 << 18  # bytes copied at once
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
        except invoke.exceptions.ThreadException as e:  # raised by `on_line` or `on_error`
            raise e.exceptions[0].value from None
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
        """Copy a file or folder into the guest, keeping modes.

        `target` is its full new path. If it ends in a slash it is a folder to put the source into; so is, for
        a file, a folder that is there, while a folder joins one that is there. Raises `UsageError` for a
        source that cannot be read, `WorkloadError` with the guest's words if it cannot be written there.
        """
        if not target:
            raise UsageError("an empty path: name a file or folder in the guest")
        try:
            origin = source.resolve(strict=True)
            is_folder = origin.is_dir()
            if not is_folder:
                files.check_input(origin)
        except (OSError, RuntimeError) as e:  # a loop of links is a RuntimeError
            reason = "does not exist" if isinstance(e, FileNotFoundError) else f"cannot be read: {e}"
            raise UsageError(f"{source} {reason}") from None
        if not origin.name:
            raise UsageError(f"{source} is the whole file system: name a file or folder below it")
        if is_folder:
            script, chunks = _PUT_FOLDER, _packed(origin)
        else:
            script, chunks = _PUT_FILE, _read(origin)
        mode = f"{origin.stat().st_mode & 0o7777:o}"
        self._pipe_in(_command(script, target, source.name or origin.name, mode), chunks)

    def get(self, source: str, target: Path) -> None:
        """Copy a file or folder out of the guest; `target` is its full new path, and a folder must be new.

        Raises `UsageError` if there is none, if it is neither, or if it cannot be written here.
        """
        if not source:
            raise UsageError("an empty path: name a file or folder in the guest")
        with _broken_is_lost(), contextlib.closing(self._connection.transport.open_session()) as channel:
            channel.exec_command(_command(_GET, source))
            output = channel.makefile("rb")
            kind = output.readline().decode(errors="replace").strip()
            if kind in _REFUSED:
                raise UsageError(_REFUSED[kind].format(source))
            if kind == "odd":
                inside = output.readline().decode(errors="replace").strip()
                raise UsageError(f"{inside} in the guest is no file, folder or link, and cannot be copied")
            if kind in ("file", "folder"):
                with _made(target, folder=kind == "folder") as new:
                    try:
                        (_unpack if kind == "folder" else _write)(output, new)
                    except OSError:
                        if channel.eof_received or channel.closed:  # what came was not whole
                            _check_exit(channel, f"reading {source}")
                        raise
                    _check_exit(channel, f"reading {source}")
                return
            _check_exit(channel, f"reading {source}")
            raise LostConnectionError("the connection to the guest broke")

    def _pipe_in(self, command: bytes, chunks: Iterator[bytes]) -> None:
        with _broken_is_lost(), contextlib.closing(self._connection.transport.open_session()) as channel:
            channel.exec_command(command)
            try:
                for chunk in chunks:
                    channel.sendall(chunk)
                channel.shutdown_write()
            except OSError:
                if not self.connected:
                    raise  # otherwise the command ended before it had read everything, and says why
            _check_exit(channel, "writing")


# What the guest's shell does; $1 is a path in the guest.
_PUT_FILE = """
case $1 in */) mkdir -p -- "$1" ;; esac
target=$1
if [ -d "$target" ]; then target=${target%/}/$2; fi
mkdir -p -- "$(dirname -- "$target")"
part=$target.part-$$
trap 'rm -f -- "$part"' EXIT
cat >"$part"
chmod "$3" -- "$part"
mv -fT -- "$part" "$target"
"""
_PUT_FOLDER = """
case $1 in */) target=$1$2 ;; *) target=$1 ;; esac
mkdir -p -- "$target"
tar --no-overwrite-dir -xf - -C "$target"
"""
_GET = """
if [ -d "$1" ]; then
  case $(stat -f -c %T -- "$1") in proc|sysfs|debugfs|tracefs|cgroup*|securityfs|configfs)
    echo kernel; exit ;;
  esac
  odd=$(find "$1" -xdev ! -type f ! -type d ! -type l -print -quit)
  if [ -n "$odd" ]; then echo odd; echo "$odd"; exit; fi
  echo folder
  tar --one-file-system -cf - -C "$1" . || [ $? -eq 1 ]  # 1: a file changed meanwhile
elif [ -f "$1" ]; then
  echo file
  cat -- "$1"
elif [ -e "$1" ]; then
  echo other
else
  echo none
fi
"""
_REFUSED = {
    "none": "there is no {} in the guest",
    "other": "{} in the guest is neither a file nor a folder",
    "kernel": "{} in the guest is a folder of its kernel: get single files of it",
}


def _command(script: str, *arguments: str) -> bytes:
    """The command line that runs `script` with its arguments."""
    return shlex.join(["sh", "-ec", script, "sh", *arguments]).encode()


def _read(path: Path) -> Iterator[bytes]:
    """A file's content. Raises `UsageError`, so that its errors are not taken for the connection's."""
    try:
        with path.open("rb") as f:
            while chunk := f.read(_CHUNK):
                yield chunk
    except OSError as e:
        raise UsageError(f"{path}: cannot be read: {e.strerror}") from None


def _packed(folder: Path) -> Iterator[bytes]:
    """What is in a folder, as a tar."""
    with tempfile.TemporaryFile() as packed:
        try:
            with tarfile.open(fileobj=packed, mode="w") as tar:
                tar.add(folder, arcname=".", filter=_rooted)
        except OSError as e:
            raise UsageError(f"{e.filename or folder}: cannot be read: {e.strerror}") from None
        packed.seek(0)
        while chunk := packed.read(_CHUNK):
            yield chunk


def _check_exit(channel: paramiko.Channel, what: str) -> None:
    """Wait for a command's end. Raises `WorkloadError` with its last words if it failed."""
    code = channel.recv_exit_status()
    if code == -1:
        raise LostConnectionError("the connection to the guest broke")
    if code != 0:
        words = channel.makefile_stderr("rb").read().decode(errors="replace").strip().splitlines()
        raise WorkloadError(f"in the guest: {words[-1] if words else f'{what} failed'} (exit {code})")


@contextlib.contextmanager
def _made(target: Path, *, folder: bool) -> Iterator[Path]:
    """A new file or folder beside `target`, which becomes it if the block ends well."""
    part = target.with_name(f".{target.name[:200]}.part-{os.getpid()}")
    try:
        if folder:
            part.mkdir()
            if os.path.lexists(target):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        yield part
        part.replace(target)
    except OSError as e:
        message = f"{target}: cannot be written: {e.strerror}"
        raise (InfrastructureError if e.errno == errno.ENOSPC else UsageError)(message) from None
    finally:
        if folder:
            shutil.rmtree(part, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                part.unlink()


def _write(source: IO[bytes], target: Path) -> None:
    with target.open("xb") as f:
        shutil.copyfileobj(source, f, _CHUNK)


def _unpack(source: IO[bytes], target: Path) -> None:
    """Unpack a tar; the program, unlike the module, is safe from links in every version of Python."""
    argv = ["tar", "--no-same-owner", "-xf", "-", "-C", str(target)]
    with (
        tempfile.TemporaryFile() as errors,
        spawn(argv, stdin=subprocess.PIPE, stdout=errors.fileno(), stderr=errors.fileno()) as tar,
    ):
        assert tar.stdin is not None  # noqa: S101 -- spawn() made the pipe
        with contextlib.suppress(BrokenPipeError), tar.stdin:
            shutil.copyfileobj(source, tar.stdin, _CHUNK)
        if tar.wait() != 0:
            errors.seek(0)
            said = errors.read().decode(errors="replace")
            full = os.strerror(errno.ENOSPC)
            last = said.strip().splitlines()[-1] if said.strip() else "tar failed"
            raise OSError(errno.ENOSPC if full in said else errno.EIO, full if full in said else last)


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
