# SPDX-License-Identifier: Apache-2.0
"""YAML documents of one kind that are known by their file names, such as machines and presets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from testbed.common.schema import Document, MissingFileError, Strict

_Model = TypeVar("_Model", bound=Strict)


@dataclass(frozen=True)
class Library(Generic[_Model]):
    """The documents in `folder`. `kind` names one in messages; `check` checks several fields together."""

    kind: str
    folder: Path
    model: type[_Model]
    check: Callable[[_Model, Document], None]

    def names(self) -> list[str]:
        """Return the names of all documents in the folder."""
        return sorted(path.stem for path in self.folder.glob("*.yaml"))

    def load(self, name_or_path: str, *, relative_to: Path | None = None) -> _Model:
        """Load a document by name, or from a YAML file. Relative paths start at `relative_to`.

        Raises `MissingFileError` with the known names, or `UsageError` with file, line and column.
        """
        if "/" in name_or_path or name_or_path.endswith((".yaml", ".yml")):
            path = (relative_to or Path()) / name_or_path
        elif name_or_path in self.names():
            path = self.folder / f"{name_or_path}.yaml"
        else:
            raise MissingFileError(
                f"unknown {self.kind} {name_or_path!r}; there are: {', '.join(self.names())}, "
                "or a path to a YAML file"
            )
        document = Document(path)
        value = document.parse(self.model)
        self.check(value, document)
        return value
