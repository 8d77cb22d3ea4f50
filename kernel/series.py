# SPDX-License-Identifier: Apache-2.0
"""The patch series: select the patches of a version, and apply them to a copy."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kernel import versions
from kernel.versions import Version
from testbed.common import files, run, schema
from testbed.common.errors import BuildError, UsageError

FOLDER = Path(__file__).parent / "patches"


class Member(versions.Ranged):
    """An entry of series.yaml."""

    patch: str


class Series(schema.Strict):
    """The content of series.yaml: patches in the order of application."""

    series: tuple[Member, ...]


@dataclass(frozen=True)
class Patch:
    """A patch file. `touches` lists all files it names, `creates` the new ones."""

    path: Path
    sha256: str
    touches: frozenset[str]
    creates: frozenset[str]

    @property
    def name(self) -> str:
        return self.path.name


def select(version: Version, *, folder: Path | None = None) -> tuple[Patch, ...]:
    """Return the patches for Linux `version`, in order."""
    folder = folder or FOLDER
    series = schema.load(folder / "series.yaml", Series)
    return tuple(_read(folder / m.patch) for m in series.series if m.concerns(version))


def apply(patch: Patch, *, folder: Path, version: Version) -> None:
    """Apply a patch in `folder`, which holds all existing files that it touches.

    Hunks may be offset, but their context must match. Raises BuildError with file and hunk otherwise.
    """
    run.which("patch")
    missing = [f for f in sorted(patch.touches - patch.creates) if not (folder / f).exists()]
    if missing:
        raise BuildError(f"{patch.name} does not apply to Linux {version}: {missing[0]} does not exist")
    result = run.run(
        [
            *["patch", "-p1", "--batch", "--forward", "--fuzz=0", "--no-backup-if-mismatch"],
            *["--reject-file=-", f"--input={patch.path}"],
        ],
        cwd=folder,
        env={"LC_ALL": "C"},
        check=False,
    )
    if result.returncode != 0:
        hunks = "; ".join(_failures(result.stdout, patch.path.read_text(errors="replace")))
        raise BuildError(
            f"{patch.name} does not apply to Linux {version}: {hunks or result.stdout.strip()}",
            hint=f"check the version range of {patch.name} in {patch.path.parent / 'series.yaml'}",
        )


@functools.lru_cache
def _parsed(path: Path, sha256: str) -> Patch:
    touches: set[str] = set()
    creates: set[str] = set()
    lines = path.read_text(errors="replace").splitlines()
    for line, following in itertools.pairwise(lines):
        if not (line.startswith("--- ") and following.startswith("+++ ")):
            continue
        old, new = _name(line), _name(following)
        touches |= {name for name in (old, new) if name is not None}
        if old is None and new is not None:
            creates.add(new)
    if not touches:
        raise UsageError(f"{path} changes no files: it must be a git-style patch (a/... b/...)")
    return Patch(path, sha256, frozenset(touches), frozenset(creates))


def _read(path: Path) -> Patch:
    try:
        return _parsed(path, files.sha256_file(path))
    except OSError as e:
        raise UsageError(f"{path} (in {path.parent / 'series.yaml'}) cannot be read: {e.strerror}") from None


def _name(line: str) -> str | None:
    """Return the path in a `---` or `+++` line, None for /dev/null."""
    name = line[4:].partition("\t")[0].strip()
    if name == "/dev/null":
        return None
    relative = name.partition("/")[2]
    if not relative or ".." in Path(relative).parts or relative.startswith("/"):
        raise UsageError(f"a patch must not touch {name!r}")
    return relative


def _failures(output: str, patch: str) -> Iterable[str]:
    """Yield each failure of the patch program as `file: hunk #n (@@ ... @@)`."""
    hunks = _hunks(patch)
    current = ""
    for line in output.splitlines():
        if m := re.match(r"(?:patching|checking) file '?(.+?)'?$", line):
            current = m[1]
        elif m := re.match(r"Hunk #(\d+) FAILED", line):
            headers = hunks.get(current, [])
            number = int(m[1])
            header = f" ({headers[number - 1]})" if number <= len(headers) else ""
            yield f"{current}: hunk #{number}{header}"
        elif re.match(r"Reversed \(or previously applied\)|The next patch would create", line):
            yield f"{current}: already applied"


def _hunks(patch: str) -> dict[str, list[str]]:
    headers: dict[str, list[str]] = {}
    current: list[str] = []
    for line in patch.splitlines():
        if line.startswith("+++ "):
            current = headers.setdefault(line[4:].partition("\t")[0].partition("/")[2], [])
        elif m := re.match(r"@@ -\S+ \+\S+ @@", line):
            current.append(m[0])
    return headers
