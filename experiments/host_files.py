# SPDX-License-Identifier: Apache-2.0
"""Files of the host that a training process needs in the guest: a script with its files, a model's data."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from testbed.common import files as common
from testbed.common.errors import UsageError

MAX_BYTES = 256 << 20  # together: they take space on the guest's disk
MAX_FILES = 10_000
_NOT_COPIED = "__pycache__"


@dataclass(frozen=True)
class HostFiles:
    """Files by their path in the guest's folder: where they are on the host, and digests of their content.

    Equal files are equal wherever they are on the host.
    """

    digests: Mapping[str, str]
    paths: Mapping[str, Path] = field(compare=False, repr=False)

    @property
    def content(self) -> str:
        """A short digest of all paths and contents."""
        return common.sha256_json(dict(self.digests))[:16]

    def stage(self, folder: Path) -> None:
        """Copy the files into `folder`. Raises `UsageError` if one has changed since it was read."""
        for name, source in self.paths.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                shutil.copy(source, target)
            except OSError as e:
                raise UsageError(f"{source}: cannot be read: {e.strerror}") from None
            if _digest(target) != self.digests[name]:
                raise UsageError(f"{source}: has changed since the start", hint="run the command again")


class Collector:
    """Collects files by their path in the guest's folder.

    `check` raises `UsageError` for a path that the guest cannot have. `owner` names them in messages.
    """

    def __init__(self, owner: str, check: Callable[[str], None] = lambda _name: None) -> None:
        self._owner, self._check = owner, check
        self._bytes = 0
        self._paths: dict[str, Path] = {}

    def add(self, name: str, path: Path) -> None:
        """Add a file. Raises `UsageError` if it cannot be used, `OSError` if it cannot be read."""
        path.stat()  # a missing file is a `FileNotFoundError`
        common.check_input(path)
        if name in self._paths:
            raise UsageError(f"{path}: {name} is copied already")
        try:
            self._check(name)
        except UsageError as e:
            raise UsageError(f"{path}: {e.message}") from None
        self._bytes += path.stat().st_size
        self._paths[name] = path
        if self._bytes > MAX_BYTES or len(self._paths) > MAX_FILES:
            raise UsageError(
                f"{path}: {self._owner} may have at most {MAX_FILES:,} files, {MAX_BYTES >> 20} MiB in all"
            )

    def files(self) -> HostFiles:
        """Return the files. Raises `OSError` if one cannot be read."""
        return HostFiles({name: _digest(path) for name, path in sorted(self._paths.items())}, self._paths)


def load_data(folder: Path) -> HostFiles:
    """Read the folder of a model's data set. Raises `UsageError`."""
    collector = Collector("a data set")
    try:
        if not folder.is_dir():
            raise UsageError(f"{folder}: {'not a folder' if folder.exists() else 'no such folder'}")
        for path in walk(folder):
            collector.add(str(path.relative_to(folder)), path)
        return collector.files()
    except OSError as e:
        raise UsageError(f"{e.filename}: cannot be read: {e.strerror}") from None


def walk(folder: Path) -> Iterator[Path]:
    """Yield the files in a folder. Links are followed. Raises `OSError`, for a loop of links too."""

    def fail(e: OSError) -> None:
        raise e

    for path, folders, names in os.walk(folder, onerror=fail, followlinks=True):
        folders[:] = sorted(name for name in folders if name != _NOT_COPIED)
        yield from (Path(path) / name for name in sorted(names))


def _digest(path: Path) -> str:
    """A digest of a file's content and of whether it can be executed."""
    executable = path.stat().st_mode & 0o111 != 0
    return common.sha256_file(path) + (" executable" if executable else "")
