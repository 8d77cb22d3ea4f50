# SPDX-License-Identifier: Apache-2.0
"""The patch series: selection by version, strict application, and the patches that are shipped."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernel import series
from kernel.versions import parse
from testbed.common import schema
from testbed.common.errors import BuildError, UsageError
from tests.fakes import kernel_tree

V4_9 = parse("4.9")


def write(folder: Path, yaml: str, **patches: str) -> Path:
    for name, text in patches.items():
        (folder / f"{name}.patch").write_text(text)
    (folder / "series.yaml").write_text(yaml)
    return folder


A = kernel_tree.patch("mm/a.c", "a", "b")


@pytest.mark.parametrize(
    ("version", "names"),
    [
        ("4.8.17", ["z"]),
        ("4.9", ["x", "z"]),
        ("4.9.337", ["x", "z"]),
        ("4.10", ["y", "z"]),
        ("6.1", ["y", "z"]),
    ],
)
def test_ranges_are_half_open(tmp_path: Path, version: str, names: list[str]) -> None:
    yaml = """\
series:
  - {patch: x.patch, since: "4.9", until: "4.10"}
  - {patch: y.patch, since: "4.10"}
  - {patch: z.patch}
"""
    folder = write(tmp_path, yaml, x=A, y=A, z=A)
    assert [p.path.stem for p in series.select(parse(version), folder=folder)] == names


def test_mistakes_in_the_series_have_a_place(tmp_path: Path) -> None:
    write(tmp_path, "series:\n  - {patch: x.patch, until: 4.10}\n", x=A)
    with pytest.raises(UsageError, match=r"series.yaml:2:29: series\[0\].until: must be in quotes"):
        series.select(V4_9, folder=tmp_path)
    write(tmp_path, "series:\n  - {patch: none.patch}\n")
    with pytest.raises(UsageError, match=r"none.patch .* cannot be read: No such file"):
        series.select(V4_9, folder=tmp_path)
    write(tmp_path, "series:\n  - {patch: x.patch}\n", x="just words\n")
    with pytest.raises(UsageError, match="changes no file"):
        series.select(V4_9, folder=tmp_path)
    write(tmp_path, "series:\n  - {patch: x.patch}\n", x=kernel_tree.patch("../../etc/passwd", "a", "b"))
    with pytest.raises(UsageError, match="must not touch"):
        series.select(V4_9, folder=tmp_path)


def applied(folder: Path, text: str, files: dict[str, str]) -> Path:
    tree = folder / "tree"
    for name, content in files.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(content)
    write(folder, "series:\n  - {patch: x.patch}\n", x=text)
    series.apply(series.select(V4_9, folder=folder)[0], folder=tree, version=V4_9)
    return tree


def test_hunks_may_be_offset_but_context_must_match(tmp_path: Path) -> None:
    text = "--- a/mm/a.c\n+++ b/mm/a.c\n@@ -1,3 +1,3 @@\n one\n-a\n+b\n two\n"
    tree = applied(tmp_path, text, {"mm/a.c": "zero\n" * 9 + "one\na\ntwo\n"})
    assert (tree / "mm/a.c").read_text() == "zero\n" * 9 + "one\nb\ntwo\n"
    with pytest.raises(BuildError, match=r"x.patch does not apply to Linux 4.9.0: mm/a.c: hunk #1"):
        applied(tmp_path, text, {"mm/a.c": "uno\na\ntwo\n"})
    assert [p.name for p in tree.rglob("*") if p.is_file()] == ["a.c"]  # no .orig, no .rej


def test_all_failing_hunks_are_named(tmp_path: Path) -> None:
    text = (
        "--- a/mm/a.c\n+++ b/mm/a.c\n@@ -1 +1 @@\n-a\n+b\n@@ -3 +3 @@\n-x\n+y\n"
        "--- a/mm/c.c\n+++ b/mm/c.c\n@@ -1 +1 @@\n-q\n+r\n"
    )
    with pytest.raises(BuildError) as caught:
        applied(tmp_path, text, {"mm/a.c": "a\n2\nz\n", "mm/c.c": "p\n"})
    assert "mm/a.c: hunk #2 (@@ -3 +3 @@); mm/c.c: hunk #1 (@@ -1 +1 @@)" in caught.value.message
    assert "series.yaml" in (caught.value.hint or "")


def test_an_applied_patch_is_reported(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"mm/a.c: already applied"):
        applied(tmp_path, A, {"mm/a.c": "b\n"})


def test_the_touched_files_of_a_patch(tmp_path: Path) -> None:
    new = "--- /dev/null\n+++ b/mm/new.c\n@@ -0,0 +1 @@\n+n\n"
    gone = "--- a/mm/old.c\n+++ /dev/null\n@@ -1 +0,0 @@\n-o\n"
    write(tmp_path, "series:\n  - {patch: x.patch}\n", x=A + new + gone)
    (patch,) = series.select(V4_9, folder=tmp_path)
    assert patch.touches == {"mm/a.c", "mm/new.c", "mm/old.c"}
    assert patch.creates == {"mm/new.c"}


def shipped() -> list[str]:
    return [m.patch for m in schema.load(series.FOLDER / "series.yaml", series.Series).series]


def test_every_shipped_patch_is_in_the_series_with_a_message() -> None:
    found = [str(p.relative_to(series.FOLDER)) for p in series.FOLDER.rglob("*.patch")]
    assert sorted(found) == sorted(shipped())
    for name in shipped():
        text = (series.FOLDER / name).read_text()
        message = text.partition("\n---\n")[0]
        assert message.startswith("From: ")
        assert "\nSubject: [PATCH] " in message
        assert "GPL-2.0-only" in message
        assert len(message.splitlines()) > 6, f"{name} does not say why"


def test_linux_4_9_is_linked_for_2_mib_pages(tmp_path: Path) -> None:
    """Also where the lines around have moved, as in 4.9.337."""
    (patch,) = [p for p in series.select(V4_9) if p.name.startswith("0001-x86-build-link")]
    makefile = tmp_path / "arch/x86/Makefile"
    makefile.parent.mkdir(parents=True)
    for before in (172, 240):
        makefile.write_text("# other\n" * before + "LDFLAGS := -m elf_$(UTS_MACHINE)\n\n# more\n")
        series.apply(patch, folder=tmp_path, version=V4_9)
        assert "\nLDFLAGS_vmlinux += -z max-page-size=0x200000\n" in makefile.read_text()
    assert patch not in series.select(parse("4.10"))
