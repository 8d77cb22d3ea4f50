# SPDX-License-Identifier: Apache-2.0
"""Kernel configuration: fragments merged into requests, and whether kconfig granted them.

Kconfig drops a symbol whose dependencies are not met without a word. So what was requested is compared with
the .config that results, and a difference that nobody expected is an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
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
    """A symbol, the value requested (`n`: not set), and the place of the request."""

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
    """A refusal that is known and does not matter."""

    symbol: str
    reason: str


class Expected(schema.Strict):
    """expected.yaml."""

    expected: tuple[Expectation, ...]


def fragments(*, folder: Path | None = None) -> tuple[str, ...]:
    """The names of all fragments."""
    return tuple(sorted(path.stem for path in (folder or FOLDER).glob("*.config")))


def path_of(fragment: str, *, folder: Path | None = None) -> Path:
    """The file of a fragment; an unknown one is an error that lists the known."""
    folder = folder or FOLDER
    if fragment not in fragments(folder=folder):
        raise UsageError(
            f"there is no config fragment {fragment!r}",
            hint=f"in {folder}: {', '.join(fragments(folder=folder))}",
        )
    return folder / f"{fragment}.config"


def hashes(flavour: Sequence[str], *, folder: Path | None = None) -> dict[str, str]:
    """The sha256 of each fragment's file."""
    return {name: files.sha256_file(path_of(name, folder=folder)) for name in flavour}


def merged(flavour: Sequence[str], *, version: Version, folder: Path | None = None) -> dict[str, Request]:
    """What the fragments request of Linux `version`, by symbol; a later fragment overrides an earlier one."""
    requests: dict[str, Request] = {}
    for fragment in flavour:
        for request in _read(path_of(fragment, folder=folder), version):
            requests[request.symbol] = request
    return requests


def text(requests: Mapping[str, Request]) -> str:
    """The requests as kconfig reads them (KCONFIG_ALLCONFIG)."""
    return "".join(
        f"# {r.symbol} is not set\n" if r.value == "n" else f"{r}\n" for _, r in sorted(requests.items())
    )


def parse(dot_config: str) -> dict[str, str]:
    """The values in a .config; what is not set is `n`."""
    values: dict[str, str] = {}
    for line in dot_config.splitlines():
        if m := re.fullmatch(r"# (CONFIG_\w+) is not set", line):
            values[m[1]] = "n"
        elif m := re.fullmatch(r"(CONFIG_\w+)=(.*)", line):
            values[m[1]] = m[2]
    return values


def check(
    requests: Mapping[str, Request], dot_config: str, *, version: Version, folder: Path | None = None
) -> None:
    """Raise BuildError if kconfig did not grant a request and expected.yaml does not excuse it."""
    got = parse(dot_config)
    refused = [r for r in requests.values() if got.get(r.symbol, "n") != r.value]
    path = (folder or FOLDER) / "expected.yaml"
    known = {e.symbol: e for e in schema.load(path, Expected).expected if e.concerns(version)}
    lost = [r for r in refused if r.symbol not in known]
    if lost:
        listed = [f"{r} (requested at {r.place}, got {got.get(r.symbol, 'nothing')})" for r in lost]
        raise BuildError(
            f"Linux {version} did not grant {len(lost)} of {len(requests)} config symbols:\n  "
            + "\n  ".join(listed),
            hint=f"request what it depends on, give it a range (# since X until Y), or excuse it in {path}",
        )
    for symbol in known.keys() & requests.keys() - {r.symbol for r in refused}:
        warn(f"{symbol} is excused in {path}, but Linux {version} granted it")


def _read(path: Path, version: Version) -> list[Request]:
    requests = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        found = _LINE.fullmatch(line)
        if not found:
            raise UsageError(f"{path}:{number}: must be CONFIG_X=value, or a comment (n means: not set)")
        symbol, value, remark = found.groups()
        if _concerns(remark or "", version, f"{path}:{number}"):
            requests.append(Request(symbol, value, path, number))
    return requests


def _concerns(remark: str, version: Version, place: str) -> bool:
    bounds = _RANGE.fullmatch(remark)
    if not bounds:
        raise UsageError(f"{place}: {remark!r} must be a range of versions: # since 4.10 until 5.2")
    try:
        return versions.Ranged(**bounds.groupdict()).concerns(version)
    except ValueError:
        raise UsageError(f"{place}: {remark!r} must name versions such as 4.10") from None
