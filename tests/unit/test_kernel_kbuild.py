# SPDX-License-Identifier: Apache-2.0
"""Command lines of the kernel's make, and parsing of its output."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernel import kbuild
from kernel.kbuild import Kbuild
from testbed.common.errors import InfrastructureError

KBUILD = Kbuild(Path("/c/tree"), Path("/c/build/base"), ("-w",))


def test_the_command_line_overrides_tree_and_environment() -> None:
    argv = KBUILD.argv("bzImage", jobs=3)
    assert argv[:2] == ["make", "-j3"]
    assert argv[-1] == "bzImage"
    for word in (
        *("O=/c/build/base", "ARCH=x86_64", "CROSS_COMPILE=", "LOCALVERSION="),
        "KCFLAGS=-w -ffile-prefix-map=/c/tree=. -ffile-prefix-map=/c/build/base=.",
    ):
        assert word in argv


def test_ccache_is_used_if_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "CC=gcc" in KBUILD.argv("bzImage")
    (tmp_path / "ccache").write_text("#!/bin/sh\n")
    (tmp_path / "ccache").chmod(0o755)
    assert "CC=ccache gcc" in KBUILD.argv("bzImage")
    assert not any("ccache" in word for word in kbuild.portable_flags(["-w"]))


def test_a_missing_program_names_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    kbuild.toolchain.cache_clear()
    for name in ("make", "gcc"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    with pytest.raises(InfrastructureError, match="ld is not installed") as caught:
        kbuild.toolchain()
    assert caught.value.hint == "apt-get install binutils"


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (
            [
                "  CC      mm/a.o",
                "In file included from /c/tree/mm/a.c:3:",
                "/c/tree/mm/a.c:7:3: warning: unused",
                "/c/tree/mm/a.c:9:1: error: expected ';' before '}' token",
                "/c/tree/mm/a.c:10:1: error: other",
                "make[2]: *** [scripts/Makefile.build:299: mm/a.o] Error 1",
            ],
            "mm/a.c:9:1: error: expected ';' before '}' token",
        ),
        (
            ["/c/tree/mm/a.c:1:10: fatal error: x.h: No such file"],
            "mm/a.c:1:10: fatal error: x.h: No such file",
        ),
        (["/c/tree/arch/a.S:3: Error: no such instruction"], "arch/a.S:3: Error: no such instruction"),
        (
            ["ld: mm/a.o: in function `f':", "a.c:(.text+0x5): undefined reference to `g'"],
            "a.c:(.text+0x5): undefined reference to `g'",
        ),
        (["mm/Kconfig:12: syntax error", "make[1]: *** [x] Error 1"], "mm/Kconfig:12: syntax error"),
        (["boring", "make: *** No rule to make target 'x'."], "make: *** No rule to make target 'x'."),
        (["nothing", "telling"], None),
    ],
)
def test_the_first_error_of_a_log_is_found(lines: list[str], told: str | None) -> None:
    assert KBUILD.explain(lines) == told


def test_object_lines_are_recognised() -> None:
    assert (m := kbuild.OBJECT.match("  CC      mm/migrate.o")) is not None
    assert m[1] == "mm/migrate.o"
    assert kbuild.OBJECT.match("  AS      arch/x86/entry/entry_64.o")
    for line in ("  CHK     include/generated/x.h", "  HOSTCC  scripts/fixdep", "make: CC x", "CC mm/x.o"):
        assert not kbuild.OBJECT.match(line)
