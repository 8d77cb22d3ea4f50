# SPDX-License-Identifier: Apache-2.0
"""Kernel configuration: merge fragments into requests, and verify that kconfig granted them.

Kconfig silently drops a symbol whose dependencies are not met. So the requests are compared with the
resulting .config, and an unexpected difference is an error.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kernel import versions
from kernel.versions import Version
from testbed.common import files, schema
from testbed.common.errors import BuildError, UsageError
from testbed.common.progress import warn

FOLDER = Path(__file__).parent / "config"
DEFAULT = ("base", "numa", "guest", "profile", "timing")

_LINE = re.compile(r"(CONFIG_\w+)=(\"[^\"]*\"|\S+)(?:\s+#\s+(.*\S))?\s*")
_RANGE = re.compile(r"(?:since (?P<since>\S+))?\s*(?:until (?P<until>\S+))?")


@dataclass(frozen=True)
class Request:
    """A symbol, its requested value (`n`: not set), and the place of the request."""

    symbol: str
    value: str
    path: Path
    line: int

    def __str__(self) -> str:
        return f"{self.symbol}={self.value}"

    @property
    def place(self) -> str:
        return f"{self.path}:{self.line}"


class Expectation(versions.Ranged):
    """A known refusal that does not matter."""

    symbol: str
    reason: str


class Expected(schema.Strict):
    """The content of expected.yaml."""

    expected: tuple[Expectation, ...]


def fragments(*, folder: Path | None = None) -> tuple[str, ...]:
    """Return the names of all fragments."""
    return tuple(sorted(path.stem for path in (folder or FOLDER).glob("*.config")))


def path_of(fragment: str, *, folder: Path | None = None) -> Path:
    """Return the file of a fragment. Raises UsageError with the known names for an unknown one."""
    folder = folder or FOLDER
    if fragment not in fragments(folder=folder):
        raise UsageError(
            f"unknown config fragment {fragment!r}",
            hint=f"in {folder}: {', '.join(fragments(folder=folder))}",
        )
    return folder / f"{fragment}.config"


def hashes(flavour: Sequence[str], *, folder: Path | None = None) -> dict[str, str]:
    """Return the sha256 of each fragment's file."""
    return {name: files.sha256_file(path_of(name, folder=folder)) for name in flavour}


def merged(flavour: Sequence[str], *, version: Version, folder: Path | None = None) -> dict[str, Request]:
    """Return the fragments' requests for `version`, by symbol. Later fragments override earlier ones."""
    requests: dict[str, Request] = {}
    for fragment in flavour:
        for request in _read(path_of(fragment, folder=folder), version):
            requests[request.symbol] = request
    return requests


def text(requests: Mapping[str, Request]) -> str:
    """Return the requests in kconfig's format (KCONFIG_ALLCONFIG)."""
    return "".join(
        f"# {r.symbol} is not set\n" if r.value == "n" else f"{r}\n" for _, r in sorted(requests.items())
    )


def parse(dot_config: str) -> dict[str, str]:
    """Return the values in a .config. Symbols that are not set have the value `n`."""
    values: dict[str, str] = {}
    for line in dot_config.splitlines():
        if m := re.fullmatch(r"# (CONFIG_\w+) is not set", line):
            values[m[1]] = "n"
        elif m := re.fullmatch(r"(CONFIG_\w+)=(.*)", line):
            values[m[1]] = m[2]
    return values


def without(dot_config: str, symbols: Container[str]) -> str:
    """Return a .config without the lines of some symbols.

    Overriding them with later lines would not do: in a choice, kconfig keeps a value that was set before.
    """

    def keeps(line: str) -> bool:
        match = re.match(r"(?:# )?(CONFIG_\w+)(?:=| is not set)", line)
        return match is None or match[1] not in symbols

    return "".join(f"{line}\n" for line in dot_config.splitlines() if keeps(line))


def check(
    requests: Mapping[str, Request], dot_config: str, *, version: Version, folder: Path | None = None
) -> None:
    """Raise BuildError if kconfig did not grant a request and expected.yaml does not excuse it."""
    granted = parse(dot_config)
    refused = [r for r in requests.values() if granted.get(r.symbol, "n") != r.value]
    path = (folder or FOLDER) / "expected.yaml"
    expected = {e.symbol: e for e in schema.load(path, Expected).expected if e.concerns(version)}
    unexpected = [r for r in refused if r.symbol not in expected]
    if unexpected:
        lines = [f"{r} (requested at {r.place}, got {granted.get(r.symbol, 'nothing')})" for r in unexpected]
        raise BuildError(
            f"Linux {version} did not grant {len(unexpected)} of {len(requests)} config symbols:\n  "
            + "\n  ".join(lines),
            hint=f"request its dependencies, limit its versions (# since X until Y), or list it in {path}",
        )
    for symbol in expected.keys() & requests.keys() - {r.symbol for r in refused}:
        warn(f"{path} lists {symbol} as refused, but Linux {version} granted it")


def _read(path: Path, version: Version) -> list[Request]:
    requests = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if not match:
            raise UsageError(f"{path}:{number}: must be CONFIG_X=value (n: not set) or a comment")
        symbol, value, comment = match.groups()
        if _concerns(comment or "", version, f"{path}:{number}"):
            requests.append(Request(symbol, value, path, number))
    return requests


def _concerns(comment: str, version: Version, place: str) -> bool:
    bounds = _RANGE.fullmatch(comment)
    if not bounds:
        raise UsageError(f"{place}: {comment!r} must be a range of versions: # since 4.10 until 5.2")
    try:
        return versions.Ranged(**bounds.groupdict()).concerns(version)
    except ValueError:
        raise UsageError(f"{place}: {comment!r} must name versions such as 4.10") from None
