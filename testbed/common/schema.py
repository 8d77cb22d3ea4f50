# SPDX-License-Identifier: Apache-2.0
"""YAML with places: every error says `file:line:column: path: what is wrong, what is allowed`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from testbed.common.errors import UsageError

KeyPath = tuple[str | int, ...]
_Model = TypeVar("_Model", bound="Strict")


class Strict(BaseModel):
    """Base of everything read from YAML: frozen, and unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Document:
    """A parsed YAML file that knows where each key and value stands (1-based line and column)."""

    def __init__(self, path: Path, text: str | None = None) -> None:
        self.path = path
        self._keys: dict[KeyPath, yaml.Mark] = {}
        self._values: dict[KeyPath, yaml.Mark] = {}
        try:
            source = path.read_text() if text is None else text
        except (OSError, UnicodeDecodeError) as e:
            raise UsageError(f"{path}: cannot be read: {getattr(e, 'strerror', None) or e}") from None
        try:
            node = yaml.compose(source, Loader=yaml.SafeLoader)
            self.data: Any = None if node is None else self._convert(node, ())
        except yaml.MarkedYAMLError as e:
            mark = e.problem_mark or e.context_mark
            place = f"{mark.line + 1}:{mark.column + 1}" if mark else "1:1"
            raise UsageError(f"{path}:{place}: not YAML: {e.problem or e.context}") from None
        except yaml.reader.ReaderError as e:
            before = source[: e.position]
            line, column = before.count("\n") + 1, e.position - before.rfind("\n")
            raise UsageError(f"{path}:{line}:{column}: not YAML: {e.reason}") from None

    def error(self, where: KeyPath, what: str, *, at_key: bool = False) -> UsageError:
        """The error to raise for something wrong at `where`."""
        place = self._keys.get(where) if at_key else None
        probe = where
        while place is None:
            place = self._values.get(probe)
            if not probe:
                break
            probe = probe[:-1]
        line, column = (place.line + 1, place.column + 1) if place else (1, 1)
        return UsageError(f"{self.path}:{line}:{column}: {shown(where)}: {what}")

    def parse(self, model: type[_Model]) -> _Model:
        """Validate against `model`; all that is wrong is told, a line each, the first as the message."""
        if not isinstance(self.data, dict):
            raise self.error((), f"must be a mapping with the keys {', '.join(model.model_fields)}")
        try:
            return model.model_validate(self.data)
        except ValidationError as e:
            problems = [self._explain(d, model) for d in e.errors(include_url=False)]
            raise UsageError("\n".join(p.message for p in problems)) from None

    def _explain(self, problem: ErrorDetails, model: type[BaseModel]) -> UsageError:
        where: KeyPath = tuple(problem["loc"])
        kind = problem["type"]
        if kind == "extra_forbidden":
            allowed = ", ".join(_fields_at(model, where[:-1]))
            return self.error(where, f"unknown key; allowed: {allowed}", at_key=True)
        if kind == "missing":
            return self.error(where, "missing, and must be given")
        got = problem["input"]
        text = problem["msg"].removeprefix("Value error, ")
        shown_input = "" if isinstance(got, dict | list) else f" (got {got!r})"
        return self.error(where, text[0].lower() + text[1:] + shown_input)

    def _convert(self, node: yaml.Node, path: KeyPath) -> Any:
        self._values[path] = node.start_mark
        if isinstance(node, yaml.MappingNode):
            result: dict[Any, Any] = {}
            for key_node, value_node in node.value:
                key = self._scalar(key_node)
                if key in result:
                    raise yaml.MarkedYAMLError(
                        problem=f"the key {key!r} stands twice", problem_mark=key_node.start_mark
                    )
                self._keys[(*path, key)] = key_node.start_mark
                result[key] = self._convert(value_node, (*path, key))
            return result
        if isinstance(node, yaml.SequenceNode):
            return [self._convert(child, (*path, i)) for i, child in enumerate(node.value)]
        return self._scalar(node)

    @staticmethod
    def _scalar(node: yaml.Node) -> Any:
        if not isinstance(node, yaml.ScalarNode):
            raise yaml.MarkedYAMLError(
                problem="a key must be a word or a number", problem_mark=node.start_mark
            )
        try:
            return yaml.SafeLoader("").construct_object(node)
        except ValueError as e:
            raise yaml.MarkedYAMLError(problem=str(e), problem_mark=node.start_mark) from None


def shown(where: KeyPath) -> str:
    """A path as a person writes it: `nodes[1].size`."""
    text = ""
    for part in where:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text or "the file"


def load(path: Path, model: type[_Model]) -> _Model:
    """Read and validate one YAML file."""
    return Document(path).parse(model)


def _fields_at(model: type[BaseModel], where: KeyPath) -> list[str]:
    """The keys allowed in the mapping at `where`, following nested models through lists and dicts."""
    current: Any = model
    for part in where:
        if isinstance(part, int):
            continue
        field = current.model_fields.get(part) if _is_model(current) else None
        if field is None:
            continue  # a key of a free-form dict: its value type is already `current`
        current = _inner_model(field.annotation)
    return list(current.model_fields) if _is_model(current) else []


def _is_model(t: Any) -> bool:
    return isinstance(t, type) and issubclass(t, BaseModel)


def _inner_model(annotation: Any) -> Any:
    if _is_model(annotation):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _inner_model(argument)
        if found is not None:
            return found
    return None


def named(what: str, name_or_path: str, *, folder: Path, relative_to: Path | None = None) -> Document:
    """The YAML file of that name in `folder`, or a path of the user's (relative to the file that names it).

    Raises `UsageError` with the names there are; `what` is said of them.
    """
    path = folder / f"{name_or_path}.yaml"
    if "/" in name_or_path or name_or_path.endswith((".yaml", ".yml")):
        path = (relative_to or Path()) / name_or_path
    elif not path.exists():
        there = ", ".join(sorted(file.stem for file in folder.glob("*.yaml")))
        raise UsageError(f"unknown {what} {name_or_path!r}; there are: {there}, or a path to a YAML file")
    return Document(path)
