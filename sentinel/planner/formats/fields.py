# SPDX-License-Identifier: Apache-2.0
"""Checked access to the fields of a JSON document. Errors name the invalid field by its path."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Callable

import numpy as np

from ..errors import FormatError

if TYPE_CHECKING:
    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]
    Floats = npt.NDArray[np.float64]
    Bools = npt.NDArray[np.bool_]

LARGEST = 1 << 62  # sums of positions, bytes and times must not overflow 64 bits
_TYPE_NAMES = {
    "int": "a whole number",
    "str": "text",
    "list": "a list",
    "dict": "an object",
    "bool": "true or false",
}


class Fields:
    """One object of a document. `path` is its place in the document, empty for the whole document."""

    def __init__(self, value: Any, path: str = "") -> None:
        self.path = path
        if not isinstance(value, dict):
            raise FormatError(f"{path or 'the document'}: must be an object, not {show(value)}")
        self._value: dict[str, Any] = value

    def has(self, name: str) -> bool:
        """Return whether the field is present and not null."""
        return self._value.get(name) is not None

    def get(self, name: str) -> Any:
        """Return the field without a check of its type."""
        if name not in self._value:
            raise FormatError(f"{self.at(name)}: is missing")
        return self._value[name]

    def all(self) -> dict[str, Any]:
        """Return all fields, for parts of a document that programs do not read."""
        return self._value

    def at(self, name: str) -> str:
        """Return the path of a field, for messages."""
        return f"{self.path}.{name}" if self.path else name

    def error(self, name: str, message: str) -> FormatError:
        return FormatError(f"{self.at(name)}: {message}")

    def integer(self, name: str, *, minimum: int = 0, maximum: int = LARGEST) -> int:
        value = self.get(name)
        if type(value) is not int or not minimum <= value <= maximum:
            limits = f"of at least {minimum}" if maximum == LARGEST else f"from {minimum} to {maximum}"
            raise self.error(name, f"must be a whole number {limits}, not {show(value)}")
        return int(value)

    def positive(self, name: str) -> float:
        """Return a finite number above 0."""
        value = self.get(name)
        if type(value) not in (int, float) or not 0 < value < float("inf"):
            raise self.error(name, f"must be a number above 0, not {show(value)}")
        return float(value)

    def flag(self, name: str) -> bool:
        value = self.get(name)
        if type(value) is not bool:
            raise self.error(name, f"must be true or false, not {show(value)}")
        return value

    def text(self, name: str) -> str:
        value = self.get(name)
        if not isinstance(value, str):
            raise self.error(name, f"must be text, not {show(value)}")
        return value

    def one_of(self, name: str, allowed: Sequence[str]) -> str:
        value = self.get(name)
        if value not in allowed:
            raise self.error(name, f"must be one of {', '.join(allowed)}, not {show(value)}")
        return str(value)

    def fields(self, name: str) -> Fields:
        return Fields(self.get(name), self.at(name))

    def items(self, name: str) -> list[Any]:
        value = self.get(name)
        if not isinstance(value, list):
            raise self.error(name, f"must be a list, not {show(value)}")
        return value

    def texts(self, name: str) -> list[str]:
        values = self.items(name)
        _check_type(values, str, lambda i: f"{self.at(name)}[{i}]")
        return values

    def integers(self, name: str, *, minimum: int = 0) -> Ints:
        """Return a list of whole numbers as an array."""
        return integers(self.items(name), lambda i: f"{self.at(name)}[{i}]", minimum=minimum)

    def numbers(self, name: str) -> Floats:
        """Return a list of numbers as an array, at most 2^62 from 0."""
        values = self.items(name)
        for i, value in enumerate(values):
            if type(value) not in (int, float) or not abs(value) <= LARGEST:  # NaN is not, either
                raise self.error(f"{name}[{i}]", f"must be a number from -2^62 to 2^62, not {show(value)}")
        return np.array(values, dtype=np.float64)


def integers(values: Sequence[Any], path_of: Callable[[int], str], *, minimum: int = 0) -> Ints:
    """Return values as an array of 64-bit integers. `path_of(i)` is the path of value i, for messages."""
    _check_type(values, int, path_of)
    if values and not minimum <= min(values) <= max(values) <= LARGEST:
        i = next(i for i, value in enumerate(values) if not minimum <= value <= LARGEST)
        raise FormatError(f"{path_of(i)}: must be from {minimum} to 2^62, not {show(values[i])}")
    return np.array(values, dtype=np.int64)


def show(value: Any) -> str:
    """Return a value for a message: short, and on one line."""
    if isinstance(value, (dict, list)):
        return _TYPE_NAMES[type(value).__name__]
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def header(value: Any, kind: str, *versions: int) -> Fields:
    """Return the fields of a document. Raises FormatError unless `format` and `version` are known."""
    document = Fields(value)
    if document.get("format") != kind:
        raise document.error("format", f"must be {kind}, not {show(document.get('format'))}")
    if document.get("version") not in versions or document.get("version") is True:
        known = " and ".join(map(str, versions))
        raise document.error(
            "version", f"this planner reads version {known}, not {show(document.get('version'))}"
        )
    return document


def first_true(flags: Bools) -> int:
    """Return the index of the first true element, or -1."""
    return int(np.argmax(flags)) if flags.any() else -1


def _check_type(values: Sequence[Any], kind: type, path_of: Callable[[int], str]) -> None:
    if set(map(type, values)) - {kind}:
        i = next(i for i, value in enumerate(values) if type(value) is not kind)
        raise FormatError(f"{path_of(i)}: must be {_TYPE_NAMES[kind.__name__]}, not {show(values[i])}")
