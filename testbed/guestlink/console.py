# SPDX-License-Identifier: Apache-2.0
"""The guest's console: a file that holds everything from the first byte, read as it grows."""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator

from testbed.common import schema
from testbed.common.schema import Strict

Meaning = Literal["panic", "hang", "workload"]
READY = "sentinel: guest ready"
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


def _pattern(text: str) -> str:
    try:
        if "what" in re.compile(text).groupindex:
            return text
    except re.error as e:
        raise ValueError(f"must be a regular expression: {e}") from None
    raise ValueError("must have a group (?P<what>...): what is quoted of the line")


class Rule(Strict):
    """One family of bad news; see console_rules.yaml."""

    name: str
    means: Meaning
    pattern: Annotated[str, AfterValidator(_pattern)]


class _Rules(Strict):
    rules: tuple[Rule, ...]


@dataclass(frozen=True)
class Finding:
    """A line of the console that a rule recognised. `line` counts from 1."""

    rule: str
    means: Meaning
    what: str
    line: int


@functools.cache
def rules() -> tuple[tuple[Rule, re.Pattern[str]], ...]:
    """All rules with their compiled patterns, in order of precedence."""
    loaded = schema.load(Path(__file__).parent / "console_rules.yaml", _Rules)
    return tuple((rule, re.compile(rule.pattern)) for rule in loaded.rules)


def recognise(text: str, line: int = 0) -> Finding | None:
    """What one console line tells, if anything."""
    for rule, pattern in rules():
        match = pattern.search(text)
        if match:
            return Finding(rule.name, rule.means, match["what"].strip(), line)
    return None


class Console:
    """Follows a console file. `findings` grows with `poll`; the file may not exist yet."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.findings: list[Finding] = []
        self.ready = False
        self.last_output = time.monotonic()
        self.lines = 0
        self._position = 0
        self._rest = b""

    def poll(self) -> list[str]:
        """Read what is new; returns the new whole lines."""
        try:
            with self.path.open("rb") as f:
                f.seek(self._position)
                new = f.read()
        except FileNotFoundError:
            return []
        if not new:
            return []
        self._position += len(new)
        self.last_output = time.monotonic()
        *whole, self._rest = (self._rest + new).split(b"\n")
        lines = [_ESCAPES.sub("", raw.decode(errors="replace")) for raw in whole]
        for text in lines:
            self.lines += 1
            self.ready = self.ready or READY in text
            finding = recognise(text, self.lines)
            if finding is not None:
                self.findings.append(finding)
        return lines

    def first(self, *means: Meaning) -> Finding | None:
        """The first finding of one of these meanings."""
        return next((f for f in self.findings if f.means in means), None)


def follow(path: Path, *, going_on: Callable[[], bool], pause: float = 0.1) -> Iterator[str]:
    """Lines of the console from the first, and as they come while `going_on` says so."""
    console = Console(path)
    while True:
        last = not going_on()  # asked before reading, so that the very last lines are not missed
        yield from console.poll()
        if last:
            return
        time.sleep(pause)
