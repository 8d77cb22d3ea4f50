# SPDX-License-Identifier: Apache-2.0
"""Damage to records, and checks of what readers write in spite of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import lxml.etree

HTML = "<script>alert(1)</script>&\"'[bold]$x_1$|`\x1b[31m"
HUGE = 10**400  # more than a float holds, and than 64 bits
Record = dict[str, Any]
Change = Callable[[Record], object]


@dataclass(frozen=True)
class Damage:
    """Damage to the file `name` of a cell's second repeat, of all repeats, or of the run.

    `line` is what readers say of it, if anything, and `lost` what they leave out.
    """

    name: str
    change: Callable[[str], str]
    line: str = ""
    lost: str = ""
    everywhere: bool = False

    def apply(self, run: Path) -> None:
        """Damage the records of a run."""
        cell = sorted((run / "cells").iterdir())[0]
        paths = [run / self.name, *sorted(cell.glob(f"*/{self.name}"))]
        existing = [path for path in paths if path.exists()]
        for path in existing if self.everywhere or len(existing) == 1 else existing[1:2]:
            path.write_bytes(self.change(path.read_text()).encode(errors="surrogateescape"))


def record(name: str, change: Change, line: str = "", lost: str = "", *, everywhere: bool = False) -> Damage:
    """Damage a JSON file, or the last line of one."""

    def edit(text: str) -> str:
        head, newline, last = (
            text.rstrip("\n").rpartition("\n") if name.endswith(".jsonl") else ("", "", text)
        )
        value = json.loads(last)
        change(value)
        return head + newline + json.dumps(value) + "\n"

    return Damage(name, edit, line, lost, everywhere)


def put(*keys: Any) -> Callable[[Any], Change]:
    """Set a nested value."""

    def value_of(value: Any) -> Change:
        def change(data: Record) -> None:
            for key in keys[:-1]:
                data = data[key]
            data[keys[-1]] = value

        return change

    return value_of


def without(key: str) -> Change:
    return lambda data: data.pop(key)


def digests(folder: Path) -> dict[str, str]:
    """The content of all records."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def strict_json(text: str) -> Any:
    """Read JSON as other programs do: without NaN and infinities."""

    def refuse(constant: str) -> NoReturn:
        raise AssertionError(f"{constant} in JSON")

    return json.loads(text, parse_constant=refuse)


def well_formed(text: str) -> None:
    """Check that a page is well-formed, and has no element or handler that came with a name."""
    tree = lxml.etree.fromstring(text.encode(), lxml.etree.XMLParser(resolve_entities=False))
    scripts = [element for element in tree.iter() if str(element.tag).endswith("}script")]
    assert [len(script) for script in scripts] == [0] * len(scripts)
    assert all("alert(1)" not in (script.text or "") for script in scripts)
    assert not [name for element in tree.iter() for name in element.attrib if name.startswith("on")]
