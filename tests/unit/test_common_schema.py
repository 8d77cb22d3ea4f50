# SPDX-License-Identifier: Apache-2.0
"""YAML with places: what is wrong, where it stands, and what would be right."""

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
    """The message about that file, with its path shortened to `f`."""
    path = tmp_path / "f.yaml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        schema.load(path, Thing)
    return caught.value.message.replace(str(path), "f")


def test_a_right_file_is_read(tmp_path: Path) -> None:
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
        pytest.param(
            "name: [x]\n", "f:1:7: name: must be text (got a list)", id="a list where a word belongs"
        ),
        pytest.param(
            "name: 7.10\n",
            'f:1:7: name: must be in quotes: write "7.10", because YAML reads 7.10 as a number',
            id="a number for a word",
        ),
        pytest.param(
            "name: x\nparts: [{size: big}]\n",
            "f:2:16: parts[0].size: must be a whole number (got big)",
            id="a word for a number",
        ),
        pytest.param(
            "name: x\nparts: [{size: 0}]\n",
            "f:2:16: parts[0].size: must be more than 0 (got 0)",
            id="out of bounds",
        ),
        pytest.param(
            "name: x\nparts:\n- {size: 1, colour: blue}\n",
            "f:3:21: parts[0].colour: must be one of red, green (got blue)",
            id="not one of the allowed words",
        ),
        pytest.param(
            "name: x\ngrid:\n  - [1, 2]\n  - [3, x]\n",
            "f:4:9: grid[1][1]: must be a whole number (got x)",
            id="nested lists",
        ),
        pytest.param(
            "name: x\nplace: {part: 3}\n",
            "f:2:15: place.part: must be a mapping with the keys size, colour (got 3)",
            id="a number for a mapping",
        ),
        pytest.param("name: x\nname: y\n", "f:2:1: name: duplicate key; first at line 1", id="double key"),
        pytest.param(
            "name: x\nparts:\n  - size: 1\n    size: 2\n",
            "f:4:5: parts[0].size: duplicate key; first at line 3",
            id="double key in a list",
        ),
        pytest.param("", f"f:1:1: the file: is empty; {MAPPING}", id="empty"),
        pytest.param(
            "# only this\n",
            f"f:1:1: the file: is empty; {MAPPING}",
            id="only a comment",
        ),
        pytest.param("- a\n", f"f:1:1: the file: {MAPPING}", id="a list"),
        pytest.param(
            "? [a]\n: b\n", "f:1:3: the file: a key must be text, not a list or mapping", id="a list as a key"
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, text: str, message: str) -> None:
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
def test_what_is_not_yaml_for_us_is_told_with_its_place(tmp_path: Path, text: str, place: str) -> None:
    said = problem(tmp_path, text)
    assert said.startswith(f"{place}: "), said
    assert "\n" not in said


def test_everything_that_is_wrong_is_told_a_line_each(tmp_path: Path) -> None:
    text = "nane: x\nparts:\n  - size: -1\n  - {}\n"
    assert sorted(problem(tmp_path, text).splitlines()) == [
        "f:1:1: name: missing, and must be given",
        "f:1:1: nane: unknown key; allowed: name, parts, place, grid",
        "f:3:11: parts[0].size: must be more than 0 (got -1)",
        "f:4:5: parts[1].size: missing, and must be given",
    ]


def test_a_file_that_cannot_be_read_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.yaml: cannot be read: No such file or directory$"):
        schema.load(tmp_path / "none.yaml", Thing)
    with pytest.raises(UsageError, match=r"cannot be read: it is a folder, not a file$"):
        schema.load(tmp_path, Thing)
    (tmp_path / "binary").write_bytes(b"name: \xff\xfe\n")
    with pytest.raises(UsageError, match=r"binary:1:7: the file: byte 0xff: must be text in UTF-8$"):
        schema.load(tmp_path / "binary", Thing)


@pytest.mark.parametrize("kind", ["a FIFO", "a socket", "a device"])
def test_what_is_no_file_is_refused_without_waiting_for_it(
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


def test_many_mistakes_are_counted_not_listed(tmp_path: Path) -> None:
    lines = problem(tmp_path, "name: x\n" + "".join(f"k{i}: 1\n" for i in range(300))).splitlines()
    assert len(lines) == 9
    assert lines[0] == "f:2:1: k0: unknown key; allowed: name, parts, place, grid"
    assert lines[-1] == "f: and 292 more"


def test_what_is_told_of_a_long_or_odd_value_is_short_and_one_line(tmp_path: Path) -> None:
    said = problem(tmp_path, f"name: x\nparts: [{{size: {'y' * 3000}}}]\n")
    assert said == f"f:2:16: parts[0].size: must be a whole number (got {'y' * 60}...)"
    assert problem(tmp_path, 'name: x\n"a\\nb": 1\n').startswith('f:2:1: "a\\nb": unknown key; allowed: ')
    said = problem(tmp_path, 'name: x\nparts: [{size: "a\\nb"}]\n')
    assert said == 'f:2:16: parts[0].size: must be a whole number (got "a\\nb")'


def test_an_error_of_ones_own_has_the_place_of_the_nearest_thing_there(tmp_path: Path) -> None:
    document = Document(tmp_path / "f", "name: x\nparts:\n  - size: 1\n")
    assert document.error(("parts", 0, "size"), "no").message == f"{tmp_path}/f:3:11: parts[0].size: no"
    assert document.error(("parts", 0, "size"), "no", at_key=True).message.startswith(f"{tmp_path}/f:3:5: ")
    assert document.error(("parts", 0, "colour"), "no").message.startswith(
        f"{tmp_path}/f:3:5: parts[0].colour"
    )
    assert document.error(("none", 3), "no").message.startswith(f"{tmp_path}/f:1:1: none[3]: ")
    assert Document(tmp_path / "f", "").error(("a",), "no").message.startswith(f"{tmp_path}/f:1:1: a: ")


def test_a_path_is_shown_as_a_person_writes_it() -> None:
    assert schema.shown(("nodes", 1, "size")) == "nodes[1].size"
    assert schema.shown(("grid", 0, 2)) == "grid[0][2]"
    assert schema.shown(()) == "the file"
