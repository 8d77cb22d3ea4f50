# SPDX-License-Identifier: Apache-2.0
"""Digest of a source tree, and incremental copies of it.

Files are read again only if their size, times or inode have changed. `.git` is left out.
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
# Two changes within one tick of the file system's clock leave equal times. So the digest of a file that
# changed this shortly before it was read is not kept.
_TICK_NS = 50_000_000

Stamp = tuple[int, int, int, int]  # size, mtime in ns, ctime in ns, inode


@dataclass(frozen=True)
class FileDigest:
    """Mode (`x` executable, `l` symbolic link, `-` other) and sha256 of a file's bytes or a link's target."""

    mode: str
    sha256: str


@dataclass(frozen=True)
class TreeDigest:
    """Digests of all files of a tree by relative path."""

    root: Path
    files: Mapping[str, FileDigest]

    @property
    def digest(self) -> str:
        """One digest of the whole tree."""
        total = hashlib.sha256()
        for path in sorted(self.files):
            file = self.files[path]
            total.update(f"{file.mode} {file.sha256} ".encode() + os.fsencode(path) + b"\0")
        return total.hexdigest()


def read_tree(root: Path, *, memo: Path) -> TreeDigest:
    """Return the digest of the tree at `root`. The file `memo` keeps file digests between calls."""
    known = files.read_state(memo)
    started = time.time_ns()
    present = _walk(root)
    changed = [
        path
        for path, (stamp, mode) in present.items()
        if path not in known or known[path][0] != [*stamp, mode]
    ]
    fresh: dict[str, str] = {}
    if changed:
        with step(f"Reading {root}") as s:
            for path in changed:
                fresh[path] = _sha256(root, path, present[path][1])
                if len(fresh) % 500 == 0:
                    s.update(len(fresh) / len(changed), path)
    digests = {
        path: FileDigest(mode, fresh[path] if path in fresh else known[path][1])
        for path, (_, mode) in present.items()
    }
    if changed or len(present) != len(known):
        reusable = {
            path: [[*stamp, mode], digests[path].sha256]
            for path, (stamp, mode) in present.items()
            if max(stamp[1], stamp[2]) < started - _TICK_NS
        }
        files.write_atomic(memo, json.dumps(reusable))
    return TreeDigest(root, digests)


def mirror(
    tree: TreeDigest,
    *,
    into: Path,
    copied: Mapping[str, FileDigest] | None,
    place: Callable[[str], Path],
    progress: Step,
) -> None:
    """Copy `tree` into a folder. Only files that differ are written, so that make rebuilds only those.

    `copied` is the content of the last complete copy (None: compare every file). `place` maps a relative path
    to its copy. Raises BuildError if a file changes during the copy.
    """
    old = copied if copied is not None else dict.fromkeys(_walk(into))
    for path in old.keys() - tree.files.keys():
        _remove(place(path), below=into)
    outdated = [path for path, file in tree.files.items() if old.get(path) != file]
    for count, path in enumerate(outdated):
        if count % 200 == 0:
            progress.update(count / len(outdated), path)
        source, file = tree.root / path, tree.files[path]
        try:
            data = _read(source, file.mode)
        except OSError:
            data = b""
        if hashlib.sha256(data).hexdigest() != file.sha256:
            raise BuildError(f"{source} changed during the copy", hint="repeat the command")
        write_if_changed(place(path), data, file.mode)


def write_if_changed(path: Path, data: bytes, mode: str) -> bool:
    """Write a file unless content and mode are equal already. Returns whether it was written."""
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
    """Return the mode as in `FileDigest`; empty for anything but files and symbolic links."""
    if stat.S_ISLNK(status.st_mode):
        return "l"
    if stat.S_ISREG(status.st_mode):
        return "x" if status.st_mode & 0o100 else "-"
    return ""


def _walk(root: Path) -> dict[str, tuple[Stamp, str]]:
    present: dict[str, tuple[Stamp, str]] = {}
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
                        present[path] = (stamp, mode)
        except OSError as e:
            raise UsageError(f"{root / folder} cannot be read: {e.strerror}") from None
    return present


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
