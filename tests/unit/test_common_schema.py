# SPDX-License-Identifier: Apache-2.0
"""YAML validation: problem, place and allowed values."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field

from testbed.common import schema
from testbed.common.errors import UsageError
from testbed.common.schema import Document, Strict

MAPPING = "must be a mapping with the keys name, parts, place, grid"


class Part(Strict):
    size: Annotated[int, Field(gt=0)]
    colour: Literal["red", "green"] = "red"


class Place(Strict):
    part: Part | None = None
    by_name: dict[str, Part] = Field(default_factory=dict)


class Thing(Strict):
    name: str
    parts: tuple[Part, ...] = ()
    place: Place | None = None
    grid: tuple[tuple[int, ...], ...] = ()


def problem(tmp_path: Path, text: str) -> str:
    """Return the error message for a file, with its path shortened to `f`."""
    path = tmp_path / "f.yaml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        schema.load(path, Thing)
    return caught.value.message.replace(str(path), "f")


def test_valid_file_is_parsed(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_text(
        "# comment\nname: x\nparts:\n  - size: 1\n  - {size: 2, colour: green}\n"
        "place: {by_name: {a: {size: 3}}}\ngrid: [[1, 2], [3]]\n"
    )
    thing = schema.load(path, Thing)
    assert thing == Thing(
        name="x",
        parts=(Part(size=1), Part(size=2, colour="green")),
        place=Place(by_name={"a": Part(size=3)}),
        grid=((1, 2), (3,)),
    )
    with pytest.raises(ValueError, match="frozen"):
        thing.name = "y"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(
            "name: x\nsise: 3\n",
            "f:2:1: sise: unknown key; allowed: name, parts, place, grid",
            id="unknown key",
        ),
        pytest.param(
            "name: x\nparts:\n  - size: 1\n  - size: 2\n    color: red\n",
            "f:5:5: parts[1].color: unknown key; allowed: size, colour",
            id="unknown key in a list",
        ),
        pytest.param(
            "name: x\nplace:\n  by_name:\n    a: {size: 1, shape: round}\n",
            "f:4:18: place.by_name.a.shape: unknown key; allowed: size, colour",
            id="unknown key in a mapping with free keys",
        ),
        pytest.param("parts: []\n", "f:1:1: name: missing, and must be given", id="missing key"),
        pytest.param(
            "name: x\nparts:\n  - colour: red\n",
            "f:3:5: parts[0].size: missing, and must be given",
            id="missing key in a list",
        ),
        pytest.param("name: [x]\n", "f:1:7: name: must be text (got a list)", id="a list for text"),
        pytest.param(
            "name: 7.10\n",
            'f:1:7: name: must be in quotes: write "7.10", because YAML reads 7.10 as a number',
            id="a number for text",
        ),
        pytest.param(
            "name: x\nparts: [{size: big}]\n",
            "f:2:16: parts[0].size: must be a whole number (got big)",
            id="text for a number",
        ),
        pytest.param(
            "name: x\nparts: [{size: 0}]\n",
            "f:2:16: parts[0].size: must be more than 0 (got 0)",
            id="out of bounds",
        ),
        pytest.param(
            "name: x\nparts:\n- {size: 1, colour: blue}\n",
            "f:3:21: parts[0].colour: must be one of red, green (got blue)",
            id="not an allowed value",
        ),
        pytest.param(
            "name: x\ngrid:\n  - [1, 2]\n  - [3, x]\n",
            "f:4:9: grid[1][1]: must be a whole number (got x)",
            id="nested lists",
        ),
        pytest.param(
            "name: x\nplace: {part: 3}\n",
            "f:2:15: place.part: must be a mapping with the keys size, colour (got 3)",
            id="number for a mapping",
        ),
        pytest.param("name: x\nname: y\n", "f:2:1: name: duplicate key; first at line 1", id="duplicate key"),
        pytest.param(
            "name: x\nparts:\n  - size: 1\n    size: 2\n",
            "f:4:5: parts[0].size: duplicate key; first at line 3",
            id="duplicate key in a list",
        ),
        pytest.param("", f"f:1:1: the file: is empty; {MAPPING}", id="empty"),
        pytest.param(
            "# only this\n",
            f"f:1:1: the file: is empty; {MAPPING}",
            id="comment only",
        ),
        pytest.param("- a\n", f"f:1:1: the file: {MAPPING}", id="list"),
        pytest.param(
            "? [a]\n: b\n", "f:1:3: the file: a key must be text, not a list or mapping", id="list as a key"
        ),
    ],
)
def test_mistake_is_reported_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    assert problem(tmp_path, text) == message


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("name: [x\n", "f:2:1"),
        ("name: x\n\tparts: []\n", "f:2:1"),
        ("name: 'x\n", "f:2:1"),
        ("name: *none\n", "f:1:7"),
        ("name: x\n---\nname: y\n", "f:2:1"),
        ("name: !python/object x\n", "f:1:7"),
        ("a: b: c\n", "f:1:5"),
        ("name: x\nparts: \x07\n", "f:2:8"),
        ("<<: {name: x}\n", "f:1:1"),
        ('name: "\\0"\n', "f:1:7"),
    ],
)
def test_invalid_yaml_is_reported_with_its_place(tmp_path: Path, text: str, place: str) -> None:
    message = problem(tmp_path, text)
    assert message.startswith(f"{place}: "), message
    assert "\n" not in message


def test_each_mistake_has_its_own_line(tmp_path: Path) -> None:
    text = "nane: x\nparts:\n  - size: -1\n  - {}\n"
    assert sorted(problem(tmp_path, text).splitlines()) == [
        "f:1:1: name: missing, and must be given",
        "f:1:1: nane: unknown key; allowed: name, parts, place, grid",
        "f:3:11: parts[0].size: must be more than 0 (got -1)",
        "f:4:5: parts[1].size: missing, and must be given",
    ]


def test_unreadable_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.yaml: cannot be read: No such file or directory$"):
        schema.load(tmp_path / "none.yaml", Thing)
    with pytest.raises(UsageError, match=r"cannot be read: it is a folder, not a file$"):
        schema.load(tmp_path, Thing)
    (tmp_path / "binary").write_bytes(b"name: \xff\xfe\n")
    with pytest.raises(UsageError, match=r"binary:1:7: the file: byte 0xff: must be text in UTF-8$"):
        schema.load(tmp_path / "binary", Thing)


@pytest.mark.parametrize("kind", ["a FIFO", "a socket", "a device"])
def test_special_file_is_refused_without_blocking(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "f.yaml"
    monkeypatch.chdir(tmp_path)
    with contextlib.ExitStack() as stack:
        if kind == "a FIFO":
            os.mkfifo(path)
        elif kind == "a socket":
            stack.enter_context(socket.socket(socket.AF_UNIX)).bind("f.yaml")
        else:
            path = Path("/dev/zero")
        with pytest.raises(UsageError, match=rf"^{path}: cannot be read: it is {kind}, not a file$"):
            schema.load(path, Thing)


def test_further_mistakes_are_counted(tmp_path: Path) -> None:
    lines = problem(tmp_path, "name: x\n" + "".join(f"k{i}: 1\n" for i in range(300))).splitlines()
    assert len(lines) == 9
    assert lines[0] == "f:2:1: k0: unknown key; allowed: name, parts, place, grid"
    assert lines[-1] == "f: and 292 more"


def test_long_or_unprintable_value_is_shortened_to_one_line(tmp_path: Path) -> None:
    message = problem(tmp_path, f"name: x\nparts: [{{size: {'y' * 3000}}}]\n")
    assert message == f"f:2:16: parts[0].size: must be a whole number (got {'y' * 60}...)"
    assert problem(tmp_path, 'name: x\n"a\\nb": 1\n').startswith('f:2:1: "a\\nb": unknown key; allowed: ')
    message = problem(tmp_path, 'name: x\nparts: [{size: "a\\nb"}]\n')
    assert message == 'f:2:16: parts[0].size: must be a whole number (got "a\\nb")'


def test_custom_error_has_the_nearest_place(tmp_path: Path) -> None:
    document = Document(tmp_path / "f", "name: x\nparts:\n  - size: 1\n")
    assert document.error(("parts", 0, "size"), "no").message == f"{tmp_path}/f:3:11: parts[0].size: no"
    assert document.error(("parts", 0, "size"), "no", at_key=True).message.startswith(f"{tmp_path}/f:3:5: ")
    assert document.error(("parts", 0, "colour"), "no").message.startswith(
        f"{tmp_path}/f:3:5: parts[0].colour"
    )
    assert document.error(("none", 3), "no").message.startswith(f"{tmp_path}/f:1:1: none[3]: ")
    assert Document(tmp_path / "f", "").error(("a",), "no").message.startswith(f"{tmp_path}/f:1:1: a: ")


def test_path_is_formatted_with_dots_and_indices() -> None:
    assert schema.shown(("nodes", 1, "size")) == "nodes[1].size"
    assert schema.shown(("grid", 0, 2)) == "grid[0][2]"
    assert schema.shown(()) == "the file"
