# SPDX-License-Identifier: Apache-2.0
"""The shipped patches without a kernel source: they are consistent, and the profiler compiles.

The patched files are reconstructed from the context in the patches. So these tests check that the patches of
a version agree with each other; only a kernel build checks that they apply to Linux.
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
REACH = 100  # maximum displacement of a hunk, in lines


@dataclass
class Line:
    """A line of a reconstructed file."""

    text: str | None  # None: unknown
    original: int | None  # index in the original file; None: added by a patch


@dataclass
class Skeleton:
    """A file of which only the lines in the context of patches are known."""

    original: list[str | None] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)

    def apply(self, start: int, hunk: list[str]) -> None:
        """Apply a hunk that begins at line `start`, and learn from its context."""
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
        """Return the index of the nearest match of `before`, or else of the nearest unknown lines."""
        nearby = sorted(range(max(0, expected - REACH), expected + REACH), key=lambda at: abs(at - expected))
        for unknown in (False, True):
            for at in nearby:
                here = [line.text for line in self.lines[at : at + len(before)]]
                if here == before or (unknown and here == [None] * len(before)):
                    return at
        raise AssertionError(f"no match for {before} near line {expected + 1}")

    def text(self) -> str:
        return "".join(f"line {n}\n" if line is None else f"{line}\n" for n, line in enumerate(self.original))


def hunks(patch: Patch) -> Iterator[tuple[str, int, list[str]]]:
    """Yield file, first line and body of each hunk that changes an existing file."""
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
    """Write a source tree to which the patches apply."""
    files: dict[str, Skeleton] = {}
    for patch in patches:
        for name, start, body in list(hunks(patch)):
            files.setdefault(name, Skeleton()).apply(start, body)
    for name, skeleton in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(skeleton.text())


def added(patch: Patch) -> list[str]:
    """Return the lines that a patch adds."""
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
def test_a_patch_with_wrong_context_is_rejected(version: str, tmp_path: Path) -> None:
    """This shows that test_the_series_of_a_version_applies_in_order can fail."""
    patches = series.select(parse(version))
    make_tree(tmp_path, patches)
    (building,) = [p for p in patches if "build-the-page-access-profiler" in p.name]
    (tmp_path / "arch/x86/mm/Makefile").write_text("# another\n")
    with pytest.raises(BuildError, match="arch/x86/mm/Makefile: hunk #1"):
        series.apply(building, folder=tmp_path, version=parse(version))


def compile_profiler(folder: Path, *, version: str, compat: str) -> subprocess.CompletedProcess[str]:
    """Compile the profiler for `version`, with the compatibility header of `compat`."""
    patches = [p for v in (version, compat) for p in series.select(parse(v))]
    created = {name for patch in patches for name in patch.creates if "page_profile" in name}
    for patch in patches:
        for name in created & patch.creates:
            text = patch.path.read_text().partition(f"\n+++ b/{name}\n")[2].partition("\ndiff --git ")[0]
            lines = [line[1:] for line in text.splitlines() if line.startswith("+")]
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("\n".join(lines) + "\n")
    sources = [folder / name for name in created]
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
def test_the_profiler_compiles_for_each_version(version: str, tmp_path: Path) -> None:
    if not shutil.which("gcc"):
        pytest.skip("no gcc")
    result = compile_profiler(tmp_path, version=version, compat=version)
    assert (result.returncode, result.stderr) == (0, "")


def test_the_profiler_does_not_compile_with_another_versions_header(tmp_path: Path) -> None:
    if not shutil.which("gcc"):
        pytest.skip("no gcc")
    result = compile_profiler(tmp_path, version="6.1", compat="4.9")
    assert result.returncode != 0
    assert "mmap_sem" in result.stderr
