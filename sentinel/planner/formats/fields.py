# SPDX-License-Identifier: Apache-2.0
"""Checked access to the fields of a JSON document, so that what is wrong is told with its place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import FormatError

if TYPE_CHECKING:
    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]
    Floats = npt.NDArray[np.float64]
    Bools = npt.NDArray[np.bool_]

LARGEST = 1 << 62  # sums of positions, bytes and times must not overflow 64 bits
_KINDS = {
    "int": "a whole number",
    "str": "text",
    "list": "a list",
    "dict": "an object",
    "bool": "true or false",
}


class Fields:
    """One object of a document; `where` is its path in the document, empty for the whole."""

    def __init__(self, value: Any, where: str = "") -> None:
        self.where = where
        if not isinstance(value, dict):
            raise FormatError(f"{where or 'the document'}: must be an object, not {shown(value)}")
        self._value: dict[str, Any] = value

    def has(self, name: str) -> bool:
        """Whether the field is there and is not null."""
        return self._value.get(name) is not None

    def get(self, name: str) -> Any:
        """The field, whatever it is."""
        if name not in self._value:
            raise FormatError(f"{self.at(name)}: is missing")
        return self._value[name]

    def all(self) -> dict[str, Any]:
        """Every field, for parts of a document that only people read."""
        return self._value

    def at(self, name: str) -> str:
        """The path of a field, for messages."""
        return f"{self.where}.{name}" if self.where else name

    def error(self, name: str, message: str) -> FormatError:
        return FormatError(f"{self.at(name)}: {message}")

    def integer(self, name: str, *, least: int = 0, most: int = LARGEST) -> int:
        value = self.get(name)
        if type(value) is not int or not least <= value <= most:
            limits = f"from {least} on" if most == LARGEST else f"from {least} to {most}"
            raise FormatError(f"{self.at(name)}: must be a whole number {limits}, not {shown(value)}")
        return int(value)

    def positive(self, name: str) -> float:
        """A finite number above 0."""
        value = self.get(name)
        if type(value) not in (int, float) or not 0 < value < float("inf"):
            raise FormatError(f"{self.at(name)}: must be a number above 0, not {shown(value)}")
        return float(value)

    def flag(self, name: str) -> bool:
        value = self.get(name)
        if type(value) is not bool:
            raise FormatError(f"{self.at(name)}: must be true or false, not {shown(value)}")
        return value

    def text(self, name: str) -> str:
        value = self.get(name)
        if not isinstance(value, str):
            raise FormatError(f"{self.at(name)}: must be text, not {shown(value)}")
        return value

    def one_of(self, name: str, allowed: Sequence[str]) -> str:
        value = self.get(name)
        if value not in allowed:
            raise FormatError(f"{self.at(name)}: must be one of {', '.join(allowed)}, not {shown(value)}")
        return str(value)

    def fields(self, name: str) -> Fields:
        return Fields(self.get(name), self.at(name))

    def items(self, name: str) -> list[Any]:
        value = self.get(name)
        if not isinstance(value, list):
            raise FormatError(f"{self.at(name)}: must be a list, not {shown(value)}")
        return value

    def texts(self, name: str) -> list[str]:
        values = self.items(name)
        _all_are(str, values, self.at(name))
        return values

    def integers(self, name: str, *, least: int = 0) -> Ints:
        """A list of whole numbers as an array."""
        return integers(self.items(name), lambda i: f"{self.at(name)}[{i}]", least=least)


def integers(values: Sequence[Any], at: Any, *, least: int = 0) -> Ints:
    """Values as an array of 64-bit integers; `at(i)` says where the i-th came from, for messages."""
    if set(map(type, values)) - {int}:
        i = next(i for i, value in enumerate(values) if type(value) is not int)
        raise FormatError(f"{at(i)}: must be a whole number, not {shown(values[i])}")
    if values and not least <= min(values) <= max(values) <= LARGEST:
        i = next(i for i, value in enumerate(values) if not least <= value <= LARGEST)
        raise FormatError(f"{at(i)}: must be from {least} to 2^62, not {shown(values[i])}")
    return np.array(values, dtype=np.int64)


def shown(value: Any) -> str:
    """A value in a message: short, and on one line."""
    if isinstance(value, (dict, list)):
        return _KINDS[type(value).__name__]
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def header(value: Any, kind: str, version: int) -> Fields:
    """The document's fields, once `format` and `version` are the ones expected."""
    document = Fields(value)
    if document.get("format") != kind:
        raise FormatError(f"format: must be {kind}, not {shown(document.get('format'))}")
    if document.get("version") != version or document.get("version") is True:
        raise FormatError(
            f"version: this planner knows version {version}, not {shown(document.get('version'))}"
        )
    return document


def first(wrong: Bools) -> int:
    """The index of the first that is wrong, or -1."""
    return int(np.argmax(wrong)) if wrong.any() else -1


def _all_are(kind: type, values: Sequence[Any], where: str) -> None:
    if set(map(type, values)) - {kind}:
        i = next(i for i, value in enumerate(values) if type(value) is not kind)
        raise FormatError(f"{where}[{i}]: must be {_KINDS[kind.__name__]}, not {shown(values[i])}")
