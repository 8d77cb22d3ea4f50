# SPDX-License-Identifier: Apache-2.0
"""Command lines for the kernel's make that give the same bytes on every machine."""

from __future__ import annotations

import functools
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from testbed.common import run
from testbed.common.errors import BuildError

# The kernel embeds when, where and by whom it was built. Fixed values keep builds reproducible.
IDENTITY = {
    "KBUILD_BUILD_TIMESTAMP": "Thu Jan  1 00:00:00 UTC 1970",
    "KBUILD_BUILD_USER": "sentinel",
    "KBUILD_BUILD_HOST": "testbed",
    "KBUILD_BUILD_VERSION": "1",
}
# Required programs, each with the Debian package that provides it.
PROGRAMS = {
    "make": "make",
    "gcc": "gcc",
    "ld": "binutils",
    "bc": "bc",
    "bison": "bison",
    "flex": "flex",
    "perl": "perl",
}
# An outer make, or the user's own kernel work, may have set these; they would change the build.
_ENVIRONMENT = {
    "LC_ALL": "C",
    "TZ": "UTC",
    "MAKEFLAGS": "",
    "MFLAGS": "",
    "MAKELEVEL": "",
    "KCFLAGS": "",
    "KAFLAGS": "",
    "KCPPFLAGS": "",
    "KBUILD_OUTPUT": "",
    "KBUILD_EXTMOD": "",
    "KBUILD_SRC": "",
    "KBUILD_VERBOSE": "",
    "KCONFIG_NOTIMESTAMP": "",
    "LOCALVERSION": "",
}

OBJECT = re.compile(r"\s+(?:CC|AS|LD|AR)\s+(?:\[M\]\s+)?(\S+)")
"""A line of make's output that announces an object file."""

# Error lines, the most specific kind first.
_ERRORS = (
    re.compile(r"\S+:\d+(?::\d+)?: (?:fatal )?[Ee]rror: .*"),
    re.compile(r".*(?:undefined reference to|multiple definition of|relocation truncated).*"),
    re.compile(r"\S+:\d+: (?:syntax error|.*unknown option|.*can't open file).*"),
    re.compile(r".*\*\*\*.*"),
)


@dataclass(frozen=True)
class Kbuild:
    """The kernel's make for the source in `tree`, with its output in `output`.

    `local_version` ends the kernel's release.
    """

    tree: Path
    output: Path
    cflags: tuple[str, ...] = ()
    local_version: str = ""

    def argv(self, *targets: str, jobs: int = 1, variables: Mapping[str, str] | None = None) -> list[str]:
        """Return the command line for `targets`; its working directory must be `tree`."""
        assignments = {
            "O": str(self.output),
            "ARCH": "x86_64",
            "CROSS_COMPILE": "",
            "CC": "ccache gcc" if shutil.which("ccache") else "gcc",
            "V": "0",
            "LOCALVERSION": self.local_version,
            "KCONFIG_CONFIG": ".config",
            **IDENTITY,
            "KCFLAGS": " ".join([*self.cflags, *self._prefix_map()]),
            "KAFLAGS": " ".join(self._prefix_map()),
            **(variables or {}),
        }
        return ["make", f"-j{jobs}", *(f"{k}={v}" for k, v in assignments.items()), *targets]

    def clean_argv(self) -> list[str]:
        """Return the command line that cleans the source tree."""
        return ["make", "ARCH=x86_64", "CROSS_COMPILE=", "mrproper"]

    def stream(
        self,
        argv: Sequence[str],
        *,
        log: Path,
        on_line: Callable[[str], None] = lambda line: None,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        """Run one of these command lines. Raises BuildError with the first compiler error."""
        run.stream(
            argv,
            cwd=self.tree,
            env={**_ENVIRONMENT, **(variables or {})},
            log=log,
            on_line=on_line,
            explain=self.explain,
            error=BuildError,
            what=f"make {argv[-1]}",
        )

    def output_of(self, target: str) -> str:
        """Return the last line that `target` prints."""
        argv = [*self.argv(target), "-s", "--no-print-directory"]
        result = run.run(argv, cwd=self.tree, env=_ENVIRONMENT, error=BuildError)
        return result.stdout.strip().rpartition("\n")[2]

    def explain(self, lines: Iterable[str]) -> str | None:
        """Return the first error in a build log, with paths relative to the source."""
        log = list(lines)
        for pattern in _ERRORS:
            for line in log:
                if pattern.fullmatch(line):
                    return line.replace(f"{self.tree}/", "").replace(f"{self.output}/", "").strip()
        return None

    def _prefix_map(self) -> list[str]:
        # The output folder is outside the tree, so __FILE__ (in WARN and BUG) holds absolute paths.
        return [f"-ffile-prefix-map={self.tree}=.", f"-ffile-prefix-map={self.output}=."]


@functools.cache
def toolchain() -> dict[str, str]:
    """Return the versions of compiler and linker. A missing program is an error that names its package."""
    for program, package in PROGRAMS.items():
        run.which(program, package=package)
    return {name: run.version_of(name) for name in ("gcc", "ld")}


def portable_flags(cflags: Sequence[str]) -> list[str]:
    """Return the build's command line without folders and parallelism, for the cache key."""
    argv = Kbuild(Path("TREE"), Path("OUTPUT"), tuple(cflags)).argv("bzImage")
    return [word for word in argv if not word.startswith(("CC=", "-j"))]
