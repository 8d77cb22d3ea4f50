# SPDX-License-Identifier: Apache-2.0
"""Atomic writes, digests, and locks between processes."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from testbed.common.errors import UsageError

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def write_atomic(path: Path, data: str | bytes) -> None:
    """Write `path` atomically: after a crash it has the old content or the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as f:  # `tempfile` would ignore the umask
            f.write(data.encode() if isinstance(data, str) else data)
            f.flush()
            os.fsync(f.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def new_folder(parent: Path, prefix: str) -> Path:
    """Create a folder with a new name in `parent`, with the permissions of the umask."""
    folder = parent / f"{prefix}{secrets.token_hex(4)}"
    folder.mkdir(parents=True)
    return folder


def write_json(path: Path, value: Any) -> None:
    """Write `value` as readable JSON, atomically."""
    write_atomic(path, json.dumps(value, indent=2, sort_keys=True) + "\n")


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())


def read_state(path: Path) -> dict[str, Any]:
    """Return a JSON object that a program left for its next run; an empty one if it is absent or damaged."""
    try:
        state: dict[str, Any] = read_json(path)
    except (OSError, ValueError):
        return {}
    return state


def read_input(path: Path, *, limit: int | None = None) -> bytes:
    """Return the content, or the first `limit` bytes, of a file that the user named.

    Raises `FileNotFoundError`, or `UsageError` if it is a special file or unreadable.
    """
    try:
        with _open_input(path) as f:
            return f.read(-1 if limit is None else limit)
    except FileNotFoundError:
        raise
    except OSError as e:
        raise UsageError(f"{path}: cannot be read: {e.strerror}") from None


def check_input(path: Path) -> None:
    """Check that a file that the user named is readable. Raises `UsageError`."""
    try:
        _open_input(path).close()
    except OSError as e:
        raise UsageError(f"{path}: cannot be read: {e.strerror}") from None


def _open_input(path: Path) -> BinaryIO:
    """Open an ordinary file. Anything else might block, or never end."""
    kind = stat.S_IFMT(path.stat().st_mode)
    if kind != stat.S_IFREG:
        raise UsageError(f"{path}: cannot be read: it is {_KINDS[kind]}, not a file")
    return path.open("rb")


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's content."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def sha256_json(value: Any) -> str:
    """Hex SHA-256 of a JSON value, independent of key order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def disk_usage(path: Path) -> int:
    """Return the bytes allocated on disk below `path`; holes of sparse files do not count."""
    if not path.is_dir():
        return path.lstat().st_blocks * 512 if path.exists() else 0
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += (Path(folder) / name).lstat().st_blocks * 512
    return total


@contextlib.contextmanager
def locked(
    path: Path, *, shared: bool = False, block: bool = True, on_wait: Callable[[], None] | None = None
) -> Iterator[None]:
    """Hold an advisory lock on `path`, which the kernel releases if this process exits.

    `on_wait` is called once before waiting for another holder; without `block`, another holder is a
    `BlockingIOError`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    with path.open("a") as f:
        try:
            fcntl.flock(f, mode | fcntl.LOCK_NB)
        except BlockingIOError:
            if not block:
                raise
            if on_wait:
                on_wait()
            fcntl.flock(f, mode)
        yield


def is_locked(path: Path) -> bool:
    """Return whether a process holds the exclusive lock on `path`."""
    try:
        with locked(path, shared=True, block=False):
            return False
    except BlockingIOError:
        return True
