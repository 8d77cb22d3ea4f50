# SPDX-License-Identifier: Apache-2.0
"""The shipped patches without a kernel: they fit each other, and the profiler compiles for each version.

What they change is made up of the context that they name themselves, so this says that the patches of a
version agree with each other. Whether they agree with Linux, building a kernel shows.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from kernel import series
from kernel.series import Patch
from kernel.versions import parse
from testbed.common.errors import BuildError
from tests.fakes import kernel_tree

VERSIONS = ("4.9", "6.1")
INTERFACES = Path(kernel_tree.__file__).parent / "kernel_interfaces.h"
PROFILER = "arch/x86/mm/page_profile.c"
REACH = 100  # lines that a hunk may be away from where it says it is


@dataclass
class Line:
    """A line of a file, and the line of the original file that it is; None if a patch added it."""

    text: str | None  # None: anything
    original: int | None


@dataclass
class Skeleton:
    """A file of which only those lines are known that patches name."""

    original: list[str | None] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)

    def apply(self, start: int, hunk: list[str]) -> None:
        """Do what a hunk that begins at line `start` says, and learn from its context."""
        before = [line[1:] for line in hunk if line[0] in " -"]
        while len(self.lines) < start + len(before) + REACH:
            self.lines.append(Line(None, len(self.original)))
            self.original.append(None)
        at = self._find(start - 1, before)
        for line in hunk:
            if line[0] == "+":
                self.lines.insert(at, Line(line[1:], None))
                at += 1
                continue
            known = self.lines[at]
            if known.text is None and known.original is not None:
                known.text = self.original[known.original] = line[1:]
            if line[0] == "-":
                del self.lines[at]
            else:
                at += 1

    def _find(self, expected: int, before: list[str]) -> int:
        """Where these lines are, the nearest place of equals; else where nothing is known yet."""
        nearby = sorted(range(max(0, expected - REACH), expected + REACH), key=lambda at: abs(at - expected))
        for unknown in (False, True):
            for at in nearby:
                here = [line.text for line in self.lines[at : at + len(before)]]
                if here == before or (unknown and here == [None] * len(before)):
                    return at
        raise AssertionError(f"there is no room for {before} at line {expected + 1}")

    def text(self) -> str:
        return "".join(f"line {n}\n" if line is None else f"{line}\n" for n, line in enumerate(self.original))


def hunks(patch: Patch) -> Iterator[tuple[str, int, list[str]]]:
    """The file, first line and body of each hunk that changes a file."""
    name, remaining, body = "", [0, 0], list[str]()
    for line in patch.path.read_text().splitlines():
        if remaining != [0, 0]:
            body.append(line or " ")
            remaining[0] -= body[-1][0] in " -"
            remaining[1] -= body[-1][0] in " +"
        elif line.startswith("+++ b/"):
            name = line.removeprefix("+++ b/")
        elif m := re.fullmatch(r"@@ -(\d+)(?:,(\d+))? \+\d+(?:,(\d+))? @@", line):
            remaining = [int(m[2] or 1), int(m[3] or 1)]
            body = []
            if name not in patch.creates:
                yield name, int(m[1]), body


def make_tree(folder: Path, patches: Iterable[Patch]) -> None:
    """A source in which everything that the patches name is where they say."""
    files: dict[str, Skeleton] = {}
    for patch in patches:
        for name, start, body in list(hunks(patch)):
            files.setdefault(name, Skeleton()).apply(start, body)
    for name, skeleton in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(skeleton.text())


def added(patch: Patch) -> list[str]:
    return [line[1:] for line in patch.path.read_text().splitlines() if re.match(r"\+(?!\+\+ )", line)]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_series_of_a_version_applies_in_order(version: str, tmp_path: Path) -> None:
    patches = series.select(parse(version))
    assert len(patches) > 8
    make_tree(tmp_path, patches)
    for patch in patches:
        series.apply(patch, folder=tmp_path, version=parse(version))
        texts = {line for name in patch.touches for line in (tmp_path / name).read_text().splitlines()}
        assert set(added(patch)) <= texts


@pytest.mark.parametrize("version", VERSIONS)
def test_a_patch_with_other_context_does_not_apply(version: str, tmp_path: Path) -> None:
    """So the test above can fail."""
    patches = series.select(parse(version))
    make_tree(tmp_path, patches)
    (building,) = [p for p in patches if "build-the-page-access-profiler" in p.name]
    (tmp_path / "arch/x86/mm/Makefile").write_text("# another\n")
    with pytest.raises(BuildError, match="arch/x86/mm/Makefile: hunk #1"):
        series.apply(building, folder=tmp_path, version=parse(version))


def compile_profiler(folder: Path, *, version: str, compat: str) -> subprocess.CompletedProcess[str]:
    """Check the profiler of that version's series, with what `compat`'s has for it."""
    patches = [p for v in (version, compat) for p in series.select(parse(v))]
    made = {name for patch in patches for name in patch.creates if "page_profile" in name}
    for patch in patches:
        for name in made & patch.creates:
            text = patch.path.read_text().partition(f"\n+++ b/{name}\n")[2].partition("\ndiff --git ")[0]
            lines = [line[1:] for line in text.splitlines() if line.startswith("+")]
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("\n".join(lines) + "\n")
    sources = [*(folder / name for name in made)]
    included = {m for path in sources for m in re.findall(r"#include <(.+)>", path.read_text())}
    for name in included:
        path = folder / "stand-ins" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'#include "{INTERFACES}"\n')
    major, minor = version.split(".")
    return subprocess.run(
        [
            *["gcc", "-fsyntax-only", "-nostdinc", "-std=gnu11", "-ffreestanding"],
            *["-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter", "-Wno-sign-compare"],
            *["-DCONFIG_PAGE_PROFILE", f"-DLINUX={int(major) * 100 + int(minor)}"],
            *["-Iinclude", "-Istand-ins", PROFILER],
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_the_profiler_compiles_against_a_versions_interfaces(version: str, tmp_path: Path) -> None:
    if not shutil.which("gcc"):
        pytest.skip("there is no gcc")
    result = compile_profiler(tmp_path, version=version, compat=version)
    assert (result.returncode, result.stderr) == (0, "")


def test_the_profiler_does_not_compile_against_another_versions_interfaces(tmp_path: Path) -> None:
    if not shutil.which("gcc"):
        pytest.skip("there is no gcc")
    result = compile_profiler(tmp_path, version="6.1", compat="4.9")
    assert result.returncode != 0
    assert "mmap_sem" in result.stderr
