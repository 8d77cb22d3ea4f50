# SPDX-License-Identifier: Apache-2.0
"""YAML validation. Every error reads `file:line:column: path: problem, allowed values`."""

from __future__ import annotations

import json
import types
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from testbed.common import core_yaml, files, yaml_scalars
from testbed.common.core_yaml import KeyPath, Place
from testbed.common.errors import UsageError

_Model = TypeVar("_Model", bound="Strict")
_IN_QUOTES = "must be in quotes"
_MAX_PROBLEMS = 8  # reported for one file
_READ_AS = {bool: "true or false", int: "a number", float: "a number", type(None): "nothing"}


class Strict(BaseModel):
    """Base of all models read from YAML: frozen, without unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def json_schema(model: type[Strict]) -> dict[str, Any]:
    """Return the JSON Schema of the model's files, for editors."""
    schema = model.model_json_schema()
    for part in (schema, *schema.get("$defs", {}).values()):
        for field in part["properties"].values():
            field.pop("examples", None)  # YAML, for messages
            field.pop("title", None)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


class MissingFileError(UsageError):
    """The YAML file does not exist."""


class Document:
    """A parsed YAML file with the place of each key and value (line and column, from 1)."""

    def __init__(self, path: Path, text: str | None = None) -> None:
        self.path = path
        self._origins: dict[str, Path] = {}
        if text is None:
            try:
                source = files.read_input(path, limit=core_yaml.MAX_BYTES + 1)
            except FileNotFoundError:
                raise MissingFileError(f"{path}: cannot be read: No such file or directory") from None
        else:
            source = text.encode()
        try:
            self._tree = core_yaml.parse(source)
        except core_yaml.YamlError as e:
            raise self._error(e.place, e.where, e.problem) from None
        self.data: Any = self._tree.data

    def origin(self, key: str) -> Path:
        """The file that gives a key of the document."""
        return self._origins.get(key, self.path)

    def inherit(self, base: Document, *, without: Collection[str] = ()) -> None:
        """Take the keys that this file does not give from `base`, except those in `without`.

        Both must be mappings. Errors name the file that gives the value.
        """
        taken = {key for key in base.data if key not in self.data and key not in without}
        self.data.update({key: base.data[key] for key in taken})
        self._origins.update({key: base.origin(key) for key in taken})
        self._tree.take(base._tree, taken)

    def place_as(self, where: KeyPath, source: KeyPath) -> None:
        """Let errors at `where` have the place of `source`, which the value comes from."""
        self._tree.values[where] = self._tree.values[source]
        if source in self._tree.written:
            self._tree.written[where] = self._tree.written[source]

    def error(self, where: KeyPath, problem: str, *, at_key: bool = False) -> UsageError:
        """Return the error for a problem at `where`, placed at the value or its key."""
        place = self._tree.keys.get(where) if at_key else None
        probe = where
        while place is None:
            place = self._tree.values.get(probe)
            if not probe:
                break
            probe = probe[:-1]
        return self._error(place or Place(1, 1), where, problem)

    def parse(self, model: type[_Model]) -> _Model:
        """Validate against `model`. Raises UsageError with one line for each problem."""
        if not isinstance(self.data, dict):
            empty = "is empty; " if self.data is None else ""
            raise self.error((), f"{empty}{_mapping(model)}")
        try:
            # Through JSON, whose arrays may be tuples and whose strings may be paths in strict mode
            return model.model_validate_json(json.dumps(self.data), strict=True)
        except ValidationError as e:
            details = e.errors(include_url=False)
            problems = [self._explain(d, model).message for d in details[:_MAX_PROBLEMS]]
            if len(details) > len(problems):
                problems.append(f"{self.path}: and {len(details) - len(problems)} more")
            raise UsageError("\n".join(problems)) from None

    def _error(self, place: Place, where: KeyPath, problem: str) -> UsageError:
        path = self.origin(str(where[0])) if where else self.path
        return UsageError(f"{path}:{place.line}:{place.column}: {shown(where)}: {problem}")

    def _explain(self, problem: ErrorDetails, model: type[BaseModel]) -> UsageError:
        where: KeyPath = tuple(problem["loc"])
        if problem["type"] == "extra_forbidden":
            expected, _ = _expected_at(model, where[:-1])
            allowed = ", ".join(expected.model_fields) if _is_model(expected) else "none"
            return self.error(where, f"unknown key; allowed: {allowed}", at_key=True)
        if problem["type"] == "missing":
            return self.error(where, "missing, and must be given")
        rule = self._rule(problem, where, model)
        complete = problem["type"] in ("too_short", "too_long") or rule.startswith(_IN_QUOTES)
        return self.error(where, rule if complete else rule + self._actual(problem, where))

    def _rule(self, problem: ErrorDetails, where: KeyPath, model: type[BaseModel]) -> str:
        """Describe the valid values, in the terms of YAML."""
        kind, limits = problem["type"], problem.get("ctx", {})
        expected, info = _expected_at(model, where)
        value, written = problem["input"], self._tree.written.get(where, "")
        match kind:
            case "tuple_type" | "list_type":
                return f"must be a list{_example(expected, info, value, written)}"
            case "dict_type" | "model_type" | "model_attributes_type":
                return _mapping(expected)
            case "string_type" | "path_type":
                return _quoting(value, written) or "must be text"
            case "int_type" | "int_from_float" | "int_parsing":
                return "must be a whole number"
            case "float_type" | "float_parsing":
                return "must be a number"
            case "bool_type" | "bool_parsing":
                return "must be true or false"
            case "literal_error":
                allowed = (
                    [str(word) for word in get_args(expected)] if get_origin(expected) is Literal else []
                )
                if written in allowed:
                    return _quoting(value, written)
                return f"must be one of {', '.join(map(yaml_scalars.plain, allowed)) or limits['expected']}"
            case "greater_than_equal":
                return f"must be at least {limits['ge']}"
            case "greater_than":
                return f"must be more than {limits['gt']}"
            case "less_than_equal":
                return f"must be at most {limits['le']}"
            case "less_than":
                return f"must be less than {limits['lt']}"
            case "too_short":
                return _too_short(limits["min_length"], info)
            case "too_long":
                return f"must have at most {limits['max_length']} items"
            case _:
                text = problem["msg"].removeprefix("Value error, ")
                return text[0].lower() + text[1:]

    def _actual(self, problem: ErrorDetails, where: KeyPath) -> str:
        """Describe the actual value."""
        value = problem["input"]
        if isinstance(value, dict | list):
            return f" (got a {'mapping' if isinstance(value, dict) else 'list'})"
        return f" (got {self._tree.written.get(where) or yaml_scalars.shown(str(value))})"


def shown(where: KeyPath) -> str:
    """Format a path.

    >>> shown(('nodes', 1, 'size'))
    'nodes[1].size'
    """
    text = ""
    for part in where:
        name = part if isinstance(part, int) else yaml_scalars.shown(part)
        text += f"[{name}]" if isinstance(part, int) else f".{name}" if text else str(name)
    return text or "the file"


def load(path: Path, model: type[_Model]) -> _Model:
    """Read and validate one YAML file."""
    return Document(path).parse(model)


def _expected_at(model: type[BaseModel], where: KeyPath) -> tuple[Any, FieldInfo | None]:
    """Return the type of the value at `where` (None if unknown), and its field, if any."""
    expected: Any = model
    info: FieldInfo | None = None
    for part in where:
        arguments = get_args(expected)
        info = None
        if _is_model(expected):
            info = expected.model_fields.get(part)
            expected = info.annotation if info is not None else None
        elif get_origin(expected) is dict:
            expected = arguments[1]
        elif isinstance(part, int) and arguments:
            expected = arguments[min(part, len(arguments) - 1)] if arguments[-1] is not ... else arguments[0]
        else:
            expected = None
        expected = _bare(expected)
    return expected, info


def _bare(expected: Any) -> Any:
    """Strip constraints and `None` from a type."""
    if get_origin(expected) is Annotated:
        return _bare(get_args(expected)[0])
    if get_origin(expected) in (types.UnionType, Union):
        return _bare(next(t for t in get_args(expected) if t is not type(None)))
    return expected


def _is_model(expected: Any) -> bool:
    return isinstance(expected, type) and issubclass(expected, BaseModel)


def _mapping(expected: Any) -> str:
    keys = f" with the keys {', '.join(expected.model_fields)}" if _is_model(expected) else ""
    return f"must be a mapping{keys}"


def _example(expected: Any, info: FieldInfo | None, value: Any, written: str) -> str:
    """Return `, such as [40%]`: the field's example, or the written value as a list."""
    if info is not None and info.examples:
        return f", such as {info.examples[0]}"
    item = _bare(get_args(expected)[0]) if get_args(expected) else None
    if value is None or isinstance(value, dict | list) or _is_model(item):
        return ""
    return f", such as [{written}]"


def _too_short(least: int, info: FieldInfo | None) -> str:
    if least > 1:
        return f"must have at least {least} items"
    if info is None or not info.examples:
        return "must not be empty"
    return f"must be a list, such as {info.examples[0]} (got an empty list)"


def _quoting(value: Any, written: str) -> str:
    """Return `must be in quotes: ...` if quotes make the value valid, else nothing."""
    if type(value) not in _READ_AS or written in ("", "nothing"):
        return ""
    return f'{_IN_QUOTES}: write "{written}", because YAML reads {written} as {_READ_AS[type(value)]}'
