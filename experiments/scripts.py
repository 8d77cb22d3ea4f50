# SPDX-License-Identifier: Apache-2.0
"""Training scripts of users: the script, its arguments, and the files that it needs beside it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments import guest_code, host_files
from experiments.host_files import Collector, HostFiles
from testbed.common.errors import UsageError


class ScriptError(UsageError):
    """A script or one of its files cannot be used. `field` is its place in the model of a suite."""

    def __init__(self, field: tuple[str | int, ...], message: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True)
class Script:
    """A training script with its arguments.

    `files` holds the script and its files, by their path beside the script. `step_ops` are operations whose
    runs are the training steps; without any, the guest finds the steps.
    """

    name: str
    args: tuple[str, ...]
    files: HostFiles
    step_ops: tuple[str, ...] = ()

    def resolve(self) -> dict[str, Any]:
        """The script as a cell records it, in place of a model."""
        named = {"step_ops": list(self.step_ops)} if self.step_ops else {}
        return {"name": self.name, "args": list(self.args), "content": self.files.content, **named}


def load(
    script: Path, args: Sequence[str] = (), files: Sequence[Path] = (), *, step_ops: Sequence[str] = ()
) -> Script:
    """Read a script and the files and folders that it needs.

    The files keep their path relative to the script's folder, in which they must be; links are followed.
    Raises `ScriptError`.
    """
    collector = Collector("a script with its files", _check_module)
    place: tuple[str | int, ...] = ("script",)
    try:
        collector.add(script.name, script)
        for i, path in enumerate(files):
            place = ("files", i)
            _add_tree(collector, script, path)
        collected = collector.files()
    except FileNotFoundError as e:
        raise ScriptError(place, f"{e.filename}: no such file") from None
    except OSError as e:
        raise ScriptError(place, f"{e.filename}: cannot be read: {e.strerror}") from None
    except UsageError as e:
        raise ScriptError(place, e.message) from None
    return Script(script.name, tuple(args), collected, tuple(step_ops))


def _add_tree(collector: Collector, script: Path, path: Path) -> None:
    """Add a file, or a folder with all files in it, under the path relative to the script."""
    root, place = _absolute(script).parent, _absolute(path)
    if not place.is_relative_to(root):
        raise UsageError(
            f"{path}: must be in the script's folder, since it keeps its path relative to the script; "
            "a link there is enough"
        )
    if not path.is_dir():
        collector.add(str(place.relative_to(root)), path)
        return
    for file in host_files.walk(path):
        name = str((place / file.relative_to(path)).relative_to(root))
        if name != script.name:  # a folder may hold the script
            collector.add(name, file)


def _check_module(name: str) -> None:
    """Refuse a file that would hide a module in the guest."""
    module = name.removesuffix("/__init__.py").removesuffix(".py")
    if name.endswith(".py") and module in guest_code.modules():
        raise UsageError(f"the name {module} is taken by a module in the guest")


def _absolute(path: Path) -> Path:
    """The absolute path without `.` and `..`; links are kept."""
    return Path(os.path.abspath(path))  # noqa: PTH100 -- `resolve` would follow links
