# SPDX-License-Identifier: Apache-2.0
"""Training scripts of users: the script, its arguments, and the files that it needs beside it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments import guest_code
from testbed.common import files as common
from testbed.common.errors import UsageError

MAX_BYTES = 256 << 20  # of a script with its files: they take space on the guest's disk
MAX_FILES = 10_000
_NOT_COPIED = "__pycache__"


class ScriptError(UsageError):
    """A script or one of its files cannot be used. `field` is its place in the model of a suite."""

    def __init__(self, field: tuple[str | int, ...], message: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True)
class Script:
    """A training script with its arguments.

    `step_ops` are operations whose runs are the training steps; without any, the guest finds the steps.
    `files` holds the script and its files on the host, by their path beside the script; `digests` those of
    their content when they were read. Scripts are equal wherever they are on the host.
    """

    name: str
    args: tuple[str, ...]
    digests: Mapping[str, str]
    files: Mapping[str, Path] = field(compare=False, repr=False)
    step_ops: tuple[str, ...] = ()

    def resolve(self) -> dict[str, Any]:
        """The script as a cell records it, in place of a model."""
        content = common.sha256_json(dict(self.digests))[:16]
        named = {"step_ops": list(self.step_ops)} if self.step_ops else {}
        return {"name": self.name, "args": list(self.args), "content": content, **named}

    def stage(self, folder: Path) -> None:
        """Copy the script and its files into `folder`. Raises `UsageError` if one has changed since."""
        for name, source in self.files.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                shutil.copy(source, target)
            except OSError as e:
                raise UsageError(f"{source}: cannot be read: {e.strerror}") from None
            if _digest(target) != self.digests[name]:
                raise UsageError(f"{source}: has changed since the start", hint="run the command again")


def load(
    script: Path, args: Sequence[str] = (), files: Sequence[Path] = (), *, step_ops: Sequence[str] = ()
) -> Script:
    """Read a script and the files and folders that it needs.

    The files keep their path relative to the script's folder, in which they must be; links are followed.
    Raises `ScriptError`.
    """
    copies = _Copies(script)
    place: tuple[str | int, ...] = ("script",)
    try:
        copies.add(script.name, script)
        for i, path in enumerate(files):
            place = ("files", i)
            copies.add_tree(path)
        digests = {name: _digest(path) for name, path in sorted(copies.paths.items())}
    except FileNotFoundError as e:
        raise ScriptError(place, f"{e.filename}: no such file") from None
    except OSError as e:
        raise ScriptError(place, f"{e.filename}: cannot be read: {e.strerror}") from None
    except UsageError as e:
        raise ScriptError(place, e.message) from None
    return Script(script.name, tuple(args), digests, copies.paths, tuple(step_ops))


class _Copies:
    """The files to copy, by their path beside the script."""

    def __init__(self, script: Path) -> None:
        self._script, self._root = script.name, _absolute(script).parent
        self._taken = guest_code.modules()
        self._bytes = 0
        self.paths: dict[str, Path] = {}

    def add_tree(self, path: Path) -> None:
        """Add a file, or a folder with all files in it, under the path relative to the script."""
        place = _absolute(path)
        if not place.is_relative_to(self._root):
            raise UsageError(
                f"{path}: must be in the script's folder, since it keeps its path relative to the script; "
                "a link there is enough"
            )
        if not path.is_dir():
            self.add(str(place.relative_to(self._root)), path)
            return
        for file in _walk(path):
            name = str((place / file.relative_to(path)).relative_to(self._root))
            if name != self._script:  # a folder may hold the script
                self.add(name, file)

    def add(self, name: str, path: Path) -> None:
        """Add a file. Raises `UsageError` if it cannot be used, `OSError` if it cannot be read."""
        path.stat()  # a missing file is a `FileNotFoundError`
        common.check_input(path)
        if name in self.paths:
            raise UsageError(f"{path}: {name} is copied already")
        module = name.removesuffix("/__init__.py").removesuffix(".py")
        if name.endswith(".py") and module in self._taken:
            raise UsageError(f"{path}: the name {module} is taken by a module in the guest")
        self._bytes += path.stat().st_size
        self.paths[name] = path
        if self._bytes > MAX_BYTES or len(self.paths) > MAX_FILES:
            raise UsageError(
                f"{path}: a script with its files may have at most {MAX_FILES:,} files of "
                f"{MAX_BYTES >> 20} MiB together"
            )


def _walk(folder: Path) -> Iterator[Path]:
    """Yield the files in a folder. Raises `OSError`, for a loop of links too."""

    def fail(e: OSError) -> None:
        raise e

    for path, folders, names in os.walk(folder, onerror=fail, followlinks=True):
        folders[:] = sorted(name for name in folders if name != _NOT_COPIED)
        yield from (Path(path) / name for name in sorted(names))


def _absolute(path: Path) -> Path:
    """The absolute path without `.` and `..`; links are kept."""
    return Path(os.path.abspath(path))  # noqa: PTH100 -- `resolve` would follow links


def _digest(path: Path) -> str:
    """A digest of a file's content and of whether it can be executed."""
    executable = path.stat().st_mode & 0o111 != 0
    return common.sha256_file(path) + (" executable" if executable else "")
