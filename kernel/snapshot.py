# SPDX-License-Identifier: Apache-2.0
"""What a folder contains: a digest of every file, quick the second time, and copies that follow it.

A file whose size, times and inode are as they were is not read again. Version control's own files are left
out: they do not change what is built.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from testbed.common import files
from testbed.common.errors import BuildError, UsageError
from testbed.common.progress import Step, step

_SKIPPED = frozenset({".git"})
# A file changed twice within one tick of the file system's clock can look the same both times: what changed
# this shortly before it was read is not remembered.
_TICK_NS = 50_000_000

Stamp = tuple[int, int, int, int]  # size, mtime in ns, ctime in ns, inode


@dataclass(frozen=True)
class Content:
    """What a file is: `x` (executable), `l` (symbolic link) or `-`, and the sha256 of its bytes or target."""

    mode: str
    sha256: str


@dataclass(frozen=True)
class Snapshot:
    """The contents of a folder by relative path, and one digest of it all."""

    root: Path
    contents: Mapping[str, Content]

    @property
    def digest(self) -> str:
        whole = hashlib.sha256()
        for path in sorted(self.contents):
            content = self.contents[path]
            whole.update(f"{content.mode} {content.sha256} ".encode() + os.fsencode(path) + b"\0")
        return whole.hexdigest()


def snapshot(root: Path, *, memo: Path) -> Snapshot:
    """Read the folder `root`; `memo` is the file that remembers digests between calls."""
    known = _recall(memo)
    started = time.time_ns()
    found = _walk(root)
    changed = [
        path for path, (stamp, mode) in found.items() if path not in known or known[path][0] != [*stamp, mode]
    ]
    fresh: dict[str, str] = {}
    if changed:
        with step(f"Reading {root}") as s:
            for path in changed:
                fresh[path] = _sha256(root, path, found[path][1])
                if len(fresh) % 500 == 0:
                    s.update(len(fresh) / len(changed), path)
    contents = {
        path: Content(mode, fresh[path] if path in fresh else known[path][1])
        for path, (_, mode) in found.items()
    }
    if changed or len(found) != len(known):
        lasting = {
            path: [[*stamp, mode], contents[path].sha256]
            for path, (stamp, mode) in found.items()
            if max(stamp[1], stamp[2]) < started - _TICK_NS
        }
        files.write_atomic(memo, json.dumps(lasting))
    return Snapshot(root, contents)


def mirror(
    wanted: Snapshot,
    *,
    into: Path,
    known: Mapping[str, Content] | None,
    place: Callable[[str], Path],
    progress: Step,
) -> None:
    """Make `into` hold what `wanted` does, writing only files that differ, so that make rebuilds only those.

    `known` is what the last complete mirror left there (None: look at every file). `place` says where a
    path's copy is. Raises BuildError if a file changes meanwhile.
    """
    old = known if known is not None else dict.fromkeys(_walk(into))
    for path in old.keys() - wanted.contents.keys():
        _remove(place(path), below=into)
    todo = [path for path, content in wanted.contents.items() if old.get(path) != content]
    for done, path in enumerate(todo):
        if done % 200 == 0:
            progress.update(done / len(todo), path)
        source, content = wanted.root / path, wanted.contents[path]
        try:
            data = _read(source, content.mode)
        except OSError:
            data = b""
        if hashlib.sha256(data).hexdigest() != content.sha256:
            raise BuildError(f"{source} changed while it was copied", hint="run it again")
        put(place(path), data, content.mode)


def put(path: Path, data: bytes, mode: str) -> bool:
    """Write a file unless it is that already; whether it was written."""
    with contextlib.suppress(OSError):
        if mode_of(path.lstat()) == mode and _read(path, mode) == data:
            return False
    if path.is_symlink() or path.exists():
        path.unlink()
    path.parent.mkdir(parents=True, exist_ok=True)
    if mode == "l":
        path.symlink_to(os.fsdecode(data))
    else:
        path.touch(0o777 if mode == "x" else 0o666, exist_ok=False)
        path.write_bytes(data)
    return True


def mode_of(status: os.stat_result) -> str:
    """How `Content.mode` writes a file's mode; empty if it is neither a file nor a link."""
    if stat.S_ISLNK(status.st_mode):
        return "l"
    if stat.S_ISREG(status.st_mode):
        return "x" if status.st_mode & 0o100 else "-"
    return ""


def _walk(root: Path) -> dict[str, tuple[Stamp, str]]:
    found: dict[str, tuple[Stamp, str]] = {}
    pending = [""]
    while pending:
        folder = pending.pop()
        try:
            with os.scandir(root / folder) as entries:
                for entry in entries:
                    path = folder + entry.name
                    if entry.is_dir(follow_symlinks=False):
                        if entry.name not in _SKIPPED:
                            pending.append(path + "/")
                        continue
                    status = entry.stat(follow_symlinks=False)
                    mode = mode_of(status)
                    if mode and entry.name not in _SKIPPED:
                        stamp = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
                        found[path] = (stamp, mode)
        except OSError as e:
            raise UsageError(f"{root / folder} cannot be read: {e.strerror}") from None
    return found


def _read(path: Path, mode: str) -> bytes:
    return os.fsencode(path.readlink()) if mode == "l" else path.read_bytes()


def _sha256(root: Path, path: str, mode: str) -> str:
    try:
        return hashlib.sha256(_read(root / path, mode)).hexdigest()
    except OSError as e:
        raise UsageError(f"{root / path} cannot be read: {e.strerror}") from None


def _remove(path: Path, *, below: Path) -> None:
    path.unlink(missing_ok=True)
    parent = path.parent
    while parent != below and below in parent.parents:
        try:
            parent.rmdir()
        except OSError:
            return
        parent = parent.parent


def _recall(memo: Path) -> dict[str, tuple[list[int | str], str]]:
    try:
        known: dict[str, tuple[list[int | str], str]] = files.read_json(memo)
    except (OSError, ValueError):
        return {}
    return known
