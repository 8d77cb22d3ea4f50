# SPDX-License-Identifier: Apache-2.0
"""Follow the guest's console file and recognise kernel failures in it."""

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
        if "quote" in re.compile(text).groupindex:
            return text
    except re.error as e:
        raise ValueError(f"must be a regular expression: {e}") from None
    raise ValueError("must have a group (?P<quote>...), the part of the line to quote")


class Rule(Strict):
    """A kind of kernel failure; see console_rules.yaml."""

    name: str
    means: Meaning
    pattern: Annotated[str, AfterValidator(_pattern)]


class _Rules(Strict):
    rules: tuple[Rule, ...]


@dataclass(frozen=True)
class Finding:
    """A console line that matched a rule. `line` counts from 1."""

    rule: str
    means: Meaning
    quote: str
    line: int


@functools.cache
def rules() -> tuple[tuple[Rule, re.Pattern[str]], ...]:
    """Return all rules with their compiled patterns, in order of precedence."""
    document = schema.load(Path(__file__).parent / "console_rules.yaml", _Rules)
    return tuple((rule, re.compile(rule.pattern)) for rule in document.rules)


def recognise(text: str, line: int = 0) -> Finding | None:
    """Return the finding of the first rule that matches a console line, or None."""
    for rule, pattern in rules():
        match = pattern.search(text)
        if match:
            return Finding(rule.name, rule.means, match["quote"].strip(), line)
    return None


class Console:
    """Reads a console file as it grows. `poll` adds to `findings`. The file need not exist yet."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.findings: list[Finding] = []
        self.ready = False
        self.last_output = time.monotonic()
        self.lines = 0
        self._position = 0
        self._rest = b""

    def poll(self) -> list[str]:
        """Read new output. Returns the new complete lines."""
        try:
            with self.path.open("rb") as f:
                f.seek(self._position)
                data = f.read()
        except FileNotFoundError:
            return []
        if not data:
            return []
        self._position += len(data)
        self.last_output = time.monotonic()
        *complete, self._rest = (self._rest + data).split(b"\n")
        lines = [_ESCAPES.sub("", raw.decode(errors="replace")) for raw in complete]
        for text in lines:
            self.lines += 1
            self.ready = self.ready or READY in text
            finding = recognise(text, self.lines)
            if finding is not None:
                self.findings.append(finding)
        return lines

    def first(self, *means: Meaning) -> Finding | None:
        """Return the first finding with one of these meanings, or None."""
        return next((f for f in self.findings if f.means in means), None)


def follow(path: Path, *, until_ended: Callable[[], bool], pause: float = 0.1) -> Iterator[str]:
    """Yield the console's lines from the first one, until `until_ended` returns true."""
    console = Console(path)
    while True:
        last = until_ended()  # before reading, so that no last line is missed
        yield from console.poll()
        if last:
            return
        time.sleep(pause)
