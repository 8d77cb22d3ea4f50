# SPDX-License-Identifier: Apache-2.0
"""Copy files and folders between host and guest, by commands of the guest's shell."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shlex
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

import paramiko

from testbed.common import files
from testbed.common.errors import (
    InfrastructureError,
    LostConnectionError,
    UsageError,
    WorkloadError,
)
from testbed.common.run import spawn
from testbed.guestlink.lost import lost_if_broken

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    from testbed.guestlink.shell import Shell

_CHUNK = 1 << 18  # bytes

# Shell scripts in the guest; $1 is a path in the guest.
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
  special=$(find "$1" -xdev ! -type f ! -type d ! -type l -print -quit)
  if [ -n "$special" ]; then echo special; echo "$special"; exit; fi
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
_REFUSALS = {
    "none": "no such file or folder in the guest: {}",
    "other": "{} in the guest is neither a file nor a folder",
    "kernel": "{} in the guest is a folder of its kernel: copy single files of it",
}


def put(shell: Shell, source: Path, target: str) -> None:
    """Copy `source` into the guest, with its mode. See `Shell.put`."""
    if not target:
        raise UsageError("the path in the guest is empty")
    try:
        origin = source.resolve(strict=True)
        is_folder = origin.is_dir()
        if not is_folder:
            files.check_input(origin)
    except (OSError, RuntimeError) as e:  # a loop of links is a RuntimeError
        reason = "does not exist" if isinstance(e, FileNotFoundError) else f"cannot be read: {e}"
        raise UsageError(f"{source} {reason}") from None
    if not origin.name:
        raise UsageError(f"{source} is the root of the file system: name a file or folder in it")
    if is_folder:
        script, chunks = _PUT_FOLDER, _read_folder(origin)
    else:
        script, chunks = _PUT_FILE, _read_file(origin)
    mode = f"{origin.stat().st_mode & 0o7777:o}"
    command = _command(script, target, source.name or origin.name, mode)
    with lost_if_broken(shell.place), contextlib.closing(shell.start(command)) as channel:
        try:
            for chunk in chunks:
                channel.sendall(chunk)
            channel.shutdown_write()
        except OSError:
            if not shell.connected:
                raise
            # otherwise the command exited before it had read everything: its message follows
        _check_exit(shell, channel, "writing")


def get(shell: Shell, source: str, target: Path) -> None:
    """Copy `source` out of the guest. See `Shell.get`."""
    if not source:
        raise UsageError("the path in the guest is empty")
    with lost_if_broken(shell.place), contextlib.closing(shell.start(_command(_GET, source))) as channel:
        output = io.BufferedReader(_Output(channel), _CHUNK)
        kind = output.readline().decode(errors="replace").strip()
        if kind in _REFUSALS:
            raise UsageError(_REFUSALS[kind].format(source))
        if kind == "special":
            path = output.readline().decode(errors="replace").strip()
            raise UsageError(f"{path} in the guest is a special file, which cannot be copied")
        if kind in ("file", "folder"):
            with _replacing(target, folder=kind == "folder") as new:
                try:
                    (_unpack if kind == "folder" else _write)(output, new)
                except OSError:
                    if channel.eof_received or channel.closed:  # the content broke off
                        _check_exit(shell, channel, f"reading {source}")
                    raise
                _check_exit(shell, channel, f"reading {source}")
            return
        _check_exit(shell, channel, f"reading {source}")
        raise LostConnectionError(f"the connection to {shell.place} broke")


class _Output(io.RawIOBase):
    """A command's output. paramiko's own file takes a broken connection for the output's end."""

    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill `buffer` as far as the output is there; 0 is its end. Raises `EOFError`."""
        view = memoryview(buffer)
        received = self._channel.recv(len(view))
        view[: len(received)] = received
        return len(received)


def _command(script: str, *arguments: str) -> str:
    """Return the command line that runs `script` with `arguments`."""
    return shlex.join(["sh", "-ec", script, "sh", *arguments])


def _read_file(path: Path) -> Iterator[bytes]:
    """Yield a file's content. Raises `UsageError`: an `OSError` would count as a broken connection."""
    try:
        with path.open("rb") as f:
            while chunk := f.read(_CHUNK):
                yield chunk
    except OSError as e:
        raise UsageError(f"{path}: cannot be read: {e.strerror}") from None


def _read_folder(folder: Path) -> Iterator[bytes]:
    """Yield the content of a folder as a tar archive. Raises `UsageError`."""
    with tempfile.TemporaryFile() as packed:
        try:
            with tarfile.open(fileobj=packed, mode="w") as tar:
                tar.add(folder, arcname=".", filter=_owned_by_root)
        except OSError as e:
            raise UsageError(f"{e.filename or folder}: cannot be read: {e.strerror}") from None
        packed.seek(0)
        while chunk := packed.read(_CHUNK):
            yield chunk


def _owned_by_root(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
    if "__pycache__" in info.name:
        return None
    info.uid = info.gid = 0
    info.uname = info.gname = "root"
    return info


def _check_exit(shell: Shell, channel: paramiko.Channel, operation: str) -> None:
    """Wait for the command's exit. Raises `WorkloadError` with its last line of errors if it failed."""
    code = channel.recv_exit_status()
    if code == -1:
        raise LostConnectionError(f"the connection to {shell.place} broke")
    if code != 0:
        errors = channel.makefile_stderr("rb").read().decode(errors="replace").strip().splitlines()
        raise WorkloadError(
            f"{shell.where}: {errors[-1] if errors else f'{operation} failed'} (status {code})"
        )


@contextlib.contextmanager
def _replacing(target: Path, *, folder: bool) -> Iterator[Path]:
    """Yield a temporary file or folder that replaces `target` when the block succeeds."""
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
    """Unpack a tar archive with tar(1), which unlike every `tarfile` we support is safe against links."""
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
            output = errors.read().decode(errors="replace")
            full = os.strerror(errno.ENOSPC)
            last = output.strip().splitlines()[-1] if output.strip() else "tar failed"
            raise OSError(errno.ENOSPC if full in output else errno.EIO, full if full in output else last)
