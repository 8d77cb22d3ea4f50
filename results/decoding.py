# SPDX-License-Identifier: Apache-2.0
"""Decode files of records. Whatever is wrong with one is a `DamagedError` of one line.

JSON is read strictly: NaN and infinities, which Python would accept, are refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from testbed.common import files
from testbed.common.errors import UsageError

_Model = TypeVar("_Model", bound=BaseModel)


class DamagedError(Exception):
    """An unusable record; the text is one line that begins with its path. `newer` if its format is."""

    def __init__(self, text: str, *, newer: bool = False) -> None:
        super().__init__(" ".join(text.split()))
        self.newer = newer


def parse(path: Path, model: type[_Model], *, newest: int | None = None) -> _Model:
    """Read a file. With `newest`, its `format` must be a version up to that one."""
    text = read_text(path)
    if newest is not None:
        version = decode(path, text).get("format")
        if type(version) is not int or version < 1:
            raise DamagedError(f"{path}: damaged: no format version")
        if version > newest:
            reason = f"format {version} is newer than this program supports ({newest})"
            raise DamagedError(f"{path}: {reason}", newer=True)
    return validate(path, text, model)


def validate(place: Path | str, text: str, model: type[_Model]) -> _Model:
    """Return the model of a JSON text from a file, or from a line of one."""
    if "NaN" in text or "Infinity" in text:  # pydantic accepts them in free-form fields
        decode(place, text)
    try:
        return model.model_validate_json(text)
    except ValidationError as e:
        error = e.errors(include_url=False)[0]
        where = ".".join(str(part) for part in error["loc"])
        raise DamagedError(f"{place}: damaged: {where}{': ' if where else ''}{error['msg']}") from None


def decode(place: Path | str, text: str) -> dict[str, Any]:
    """Return the mapping in a JSON text."""
    try:
        value = from_json(text, allow_inf_nan=False)
    except ValueError as e:
        raise DamagedError(f"{place}: damaged: not JSON: {e}") from None
    if not isinstance(value, dict):
        raise DamagedError(f"{place}: damaged: not a mapping")
    return value


def read_text(path: Path) -> str:
    """Return the text of an ordinary file."""
    try:
        return files.read_input(path).decode()
    except FileNotFoundError:
        raise DamagedError(f"{path}: missing") from None
    except UnicodeDecodeError:
        raise DamagedError(f"{path}: damaged: not text") from None
    except UsageError as e:
        raise DamagedError(e.message) from None
