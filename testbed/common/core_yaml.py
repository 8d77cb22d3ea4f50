# SPDX-License-Identifier: Apache-2.0
"""Parse YAML by the core schema of YAML 1.2, within limits, into data with the place of every value.

PyYAML, which follows YAML 1.1, only parses; `yaml_scalars` resolves scalars. Also:

- a file is one document in UTF-8, of at most `MAX_BYTES` bytes, without control characters;
- collections nest at most `MAX_DEPTH` deep, and aliases expand to at most `MAX_VALUES` values;
- keys are text and unique; merge keys (`<<`) and recursive aliases are refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import yaml

from testbed.common.yaml_scalars import resolve, shown

MAX_BYTES = 64 << 10
MAX_DEPTH = 32
MAX_VALUES = 10_000

KeyPath = tuple[str | int, ...]

_FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_TAG = "tag:yaml.org,2002:"
_KINDS: dict[type, str] = {str: "str", int: "int", float: "float", bool: "bool", type(None): "null"}

# PyYAML's messages -> ours
_SYNTAX = (
    (r"found character '\\t' that cannot start any token", "a tab: YAML indents and separates with spaces"),
    (r"found character (.*) that cannot start any token", r"text that begins with \1 must be in quotes"),
    (r"mapping values are not allowed.*", "a `:` is not allowed here: text that holds one must be in quotes"),
    (r"could not find expected ':'", "a `:` after the key is missing"),
    (r"expected ',' or '(.)', but got .*", r"a `,` or the closing `\1` is missing"),
    (r"expected <block end>, but found .*", "wrong indentation, or a `-` or `:` that does not belong here"),
    (r"found unexpected end of stream", "the closing quote is missing"),
    (r"expected '<document start>', but found .*", "text after the document's end"),
    (r"did not find expected .*", "a value is missing"),
)


class Place(NamedTuple):
    """Line and column, both from 1."""

    line: int
    column: int


class YamlError(Exception):
    """Invalid YAML, or YAML beyond the limits. The message is one line, without the place."""

    def __init__(self, problem: str, place: Place, where: KeyPath = ()) -> None:
        super().__init__(problem)
        self.problem = problem
        self.place = place
        self.where = where


@dataclass
class Tree:
    """A document: its data, the place of each key and value, and each scalar as written."""

    data: Any = None
    keys: dict[KeyPath, Place] = field(default_factory=dict)
    values: dict[KeyPath, Place] = field(default_factory=dict)
    written: dict[KeyPath, str] = field(default_factory=dict)

    def take(self, other: Tree, keys: Collection[str]) -> None:
        """Take the places below some keys of another document; `data` stays as it is."""
        self.keys.update({k: v for k, v in other.keys.items() if k and k[0] in keys})
        self.values.update({k: v for k, v in other.values.items() if k and k[0] in keys})
        self.written.update({k: v for k, v in other.written.items() if k and k[0] in keys})


def parse(source: bytes) -> Tree:
    """Parse a document; the data of an empty one is None. Raises `YamlError`."""
    text = _decoded(source)
    root = _Composer(text).document()
    tree = Tree()
    if root is not None:
        tree.data = _Converter(tree).value(root, (), 0)
    return tree


def _decoded(source: bytes) -> str:
    if len(source) > MAX_BYTES:
        raise YamlError(f"larger than the {MAX_BYTES >> 10} KiB allowed", Place(1, 1))
    try:
        text = source.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        before = source[: e.start].decode("utf-8-sig", errors="replace")
        raise YamlError(f"byte 0x{source[e.start]:02x}: must be text in UTF-8", _place(before)) from None
    wrong = _FORBIDDEN.search(text)
    if wrong:
        raise YamlError(f"the character U+{ord(wrong[0]):04X} is not allowed", _place(text[: wrong.start()]))
    return text


def _place(before: str) -> Place:
    """Return the place after the text `before`."""
    lines = re.split("\r\n|\r|\n", before)
    return Place(len(lines), len(lines[-1]) + 1)


def _at(mark: yaml.Mark) -> Place:
    return Place(mark.line + 1, mark.column + 1)


class _Composer:
    """Builds the nodes of a document from its events. An alias becomes its node."""

    def __init__(self, text: str) -> None:
        self._events = self._parsed(text)
        self._where: KeyPath = ()
        self._anchors: dict[str, yaml.Node | None] = {}  # None while its node is being built

    def document(self) -> yaml.Node | None:
        next(self._events)  # the stream's start
        event = next(self._events)
        if isinstance(event, yaml.StreamEndEvent):
            return None
        version = getattr(event, "version", None)
        if version is not None and version != (1, 2):
            raise self._error("%YAML: must be 1.2", event)
        root = self._node(next(self._events), (), 1)
        next(self._events)  # the document's end
        self._where = ()
        event = next(self._events)
        if not isinstance(event, yaml.StreamEndEvent):
            raise self._error("a second document; a file must hold one", event)
        return root

    def _parsed(self, text: str) -> Iterator[Any]:
        """Yield the events of `text`. A syntax error includes its place."""
        try:
            yield from yaml.parse(text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as e:
            mark = e.problem_mark or e.context_mark
            problem = e.problem or e.context or "not YAML"
            for pattern, ours in _SYNTAX:
                if re.fullmatch(pattern, problem):
                    problem = re.sub(pattern, ours, problem)
                    break
            place = _at(mark) if mark else Place(1, 1)
            raise YamlError(f"not YAML: {problem}", place, self._where) from None

    def _error(self, problem: str, event: Any) -> YamlError:
        return YamlError(problem, _at(event.start_mark), self._where)

    def _node(self, event: Any, where: KeyPath, depth: int) -> yaml.Node:
        self._where = where
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        if depth > MAX_DEPTH and isinstance(event, yaml.CollectionStartEvent):
            raise self._error(f"nested deeper than the {MAX_DEPTH} levels allowed", event)
        if event.anchor is not None:
            if event.anchor in self._anchors:
                raise self._error(f"duplicate anchor &{shown(event.anchor)}", event)
            self._anchors[event.anchor] = None
        node: yaml.Node
        mark: Any = event.start_mark
        tag: Any = event.tag  # None if the file gives none
        if isinstance(event, yaml.ScalarEvent):
            implied: Any = None if event.implicit[0] else _TAG + "str"
            node = yaml.ScalarNode(tag or implied, event.value, mark, style=event.style)
        elif isinstance(event, yaml.SequenceStartEvent):
            self._expect_tag(event, "seq")
            node = yaml.SequenceNode(tag, [], mark)
            while not isinstance(item := next(self._events), yaml.SequenceEndEvent):
                node.value.append(self._node(item, (*where, len(node.value)), depth + 1))
        else:
            self._expect_tag(event, "map")
            node = yaml.MappingNode(tag, [], mark)
            while not isinstance(item := next(self._events), yaml.MappingEndEvent):
                key = self._node(item, where, depth + 1)
                inside = (*where, key.value) if isinstance(key, yaml.ScalarNode) else where
                node.value.append((key, self._node(next(self._events), inside, depth + 1)))
        self._where = where
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _alias(self, event: Any) -> yaml.Node:
        name = shown(event.anchor)
        if event.anchor not in self._anchors:
            raise self._error(f"there is no anchor &{name} before this alias", event)
        node = self._anchors[event.anchor]
        if node is None:
            raise self._error(f"the alias *{name} is inside its own anchor", event)
        return node

    def _expect_tag(self, event: Any, kind: str) -> None:
        if event.tag not in (None, "!", _TAG + kind):
            raise self._error(_wrong_tag(event.tag), event)


class _Converter:
    """Converts nodes to data, and records their places."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree

    def value(self, node: yaml.Node, where: KeyPath, depth: int) -> Any:
        place = _at(node.start_mark)
        self._tree.values[where] = place
        if len(self._tree.values) > MAX_VALUES:
            raise YamlError(f"more than the {MAX_VALUES} values allowed, aliases expanded", place)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, where)
        if depth >= MAX_DEPTH:
            raise YamlError(
                f"nested deeper than the {MAX_DEPTH} levels allowed, aliases expanded", place, where
            )
        if isinstance(node, yaml.SequenceNode):
            return [self.value(child, (*where, i), depth + 1) for i, child in enumerate(node.value)]
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self._key(key_node, where)
            inside = (*where, key)
            if key in mapping:
                first = self._tree.keys[inside].line
                raise YamlError(f"duplicate key; first at line {first}", _at(key_node.start_mark), inside)
            self._tree.keys[inside] = _at(key_node.start_mark)
            mapping[key] = self.value(value_node, inside, depth + 1)
        return mapping

    def _key(self, node: yaml.Node, where: KeyPath) -> str:
        place = _at(node.start_mark)
        if not isinstance(node, yaml.ScalarNode):
            raise YamlError("a key must be text, not a list or mapping", place, where)
        if node.value == "<<" and node.style is None:
            raise YamlError("merge keys (<<) are not part of YAML 1.2: write the keys out", place, where)
        key = self._scalar(node, where)
        if not isinstance(key, str):
            raise YamlError(f"a key must be text: write {json.dumps(node.value)}", place, where)
        return key

    def _scalar(self, node: yaml.ScalarNode, where: KeyPath) -> str | int | float | bool | None:
        text = str(node.value)
        place = _at(node.start_mark)
        self._tree.written[where] = _as_written(node)
        control = _UNPRINTABLE.search(text)
        if control:
            raise YamlError(f"the character U+{ord(control[0]):04X} is not allowed", place, where)
        if node.tag in ("!", _TAG + "str"):
            return text
        try:
            value = resolve(text)
        except ValueError as e:
            raise YamlError(f"{e} (got {shown(text)})", place, where) from None
        if node.tag is None:
            return value
        kind = _KINDS[type(value)]
        if node.tag == _TAG + "float" and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if node.tag != _TAG + kind:
            raise YamlError(_wrong_tag(node.tag), place, where)
        return value


def _as_written(node: yaml.ScalarNode) -> str:
    if node.style is not None:
        return json.dumps(
            node.value if len(node.value) <= 60 else node.value[:60] + "...", ensure_ascii=False
        )
    return shown(node.value) if node.value else "nothing"


def _wrong_tag(tag: str) -> str:
    ours = tag.startswith(_TAG) and tag.removeprefix(_TAG) in (*_KINDS.values(), "seq", "map")
    name = f"!!{tag.removeprefix(_TAG)}" if tag.startswith(_TAG) else shown(tag)
    if ours:
        return f"the tag {name} does not fit this value"
    return f"unknown tag {name}; allowed: " + ", ".join(
        f"!!{kind}" for kind in (*_KINDS.values(), "seq", "map")
    )
