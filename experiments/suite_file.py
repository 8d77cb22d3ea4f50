# SPDX-License-Identifier: Apache-2.0
"""Suite files: one may extend another, and give default parameters to its models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from experiments import models
from testbed.common.core_yaml import KeyPath
from testbed.common.schema import Document, MissingFileError

_OWN = ("name", "description", "extends")  # not inherited


class SuiteDocument(Document):
    """A suite file with the keys of the files that it extends."""

    def folder_of(self, key: str) -> Path:
        """The folder that paths in a key of the suite are relative to: that of the file which gives it."""
        return self.origin(key).parent


def read(path: Path) -> SuiteDocument:
    """Read a suite file and those it extends. Raises `UsageError`."""
    document = _read(path, ())
    if isinstance(document.data, dict):
        _apply_defaults(document)
    return document


def _read(path: Path, chain: tuple[Path, ...]) -> SuiteDocument:
    document = SuiteDocument(path)
    data = document.data
    if not isinstance(data, dict) or not isinstance(data.get("extends"), str):
        return document  # a value of another type is a mistake for the schema
    base_path = path.parent / data["extends"]
    chain = (*chain, path.resolve())
    if base_path.resolve() in chain:
        raise document.error(("extends",), f"a cycle: {base_path} extends this file, or is it")
    try:
        base = _read(base_path, chain)
    except MissingFileError as e:
        if e.message.startswith(f"{base_path}:"):
            raise document.error(("extends",), e.message) from None
        raise
    if not isinstance(base.data, dict):
        raise document.error(("extends",), f"{base_path} is not a mapping")
    document.inherit(base, without=_OWN)
    return document


def _apply_defaults(document: SuiteDocument) -> None:
    """Give models the default parameters that they have and that the file does not give."""
    defaults = document.data.get("defaults")
    if not isinstance(defaults, dict):
        return
    includes = document.data.get("include")
    places: list[tuple[KeyPath, Any]] = [(("models",), document.data.get("models"))]
    for n, entry in enumerate(includes if isinstance(includes, list) else ()):
        if isinstance(entry, dict):
            places.append((("include", n, "models"), entry.get("models")))
    for place, listed in places:
        for i, model in enumerate(listed if isinstance(listed, list) else ()):
            _complete(document, (*place, i), model, defaults)


def _complete(document: SuiteDocument, place: KeyPath, model: Any, defaults: dict[str, Any]) -> None:
    if not isinstance(model, dict) or model.get("name") not in models.names():
        return
    parameters = models.registry()[model["name"]].parameters
    for key, value in defaults.items():
        if key in parameters and key not in model:
            model[key] = value
            document.place_as((*place, key), ("defaults", key))
