# SPDX-License-Identifier: Apache-2.0
"""The guest's Python packages: downloaded once, every file checked against its pinned hash."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from images.definition import Definition
from testbed.common import files
from testbed.common.cache import Cache, Entry
from testbed.common.errors import BuildError
from testbed.common.progress import step
from testbed.common.run import stream

# Debian 11's python2.7: CPython, wide Unicode (cp27mu); manylinux2010 is what grpcio's wheel asks for.
_TARGET = [
    *["--python-version", "27"],
    *["--implementation", "cp"],
    *["--abi", "cp27mu"],
    *["--platform", "manylinux1_x86_64"],
    *["--platform", "manylinux2010_x86_64"],
]


def fetch(definition: Definition, *, cache: Cache, log: Path) -> Entry:
    """The cache entry (kind `wheels`) holding the files both requirement lists name."""

    def make(folder: Path) -> dict[str, Any]:
        common = ["--quiet", "--no-deps", "--require-hashes", "--dest", str(folder)]
        wheels = [*common, *_TARGET, "--only-binary=:all:", "--requirement", str(definition.wheels)]
        sdists = [*common, "--no-binary=:all:", "--requirement", str(definition.sdists)]
        for arguments in (wheels, sdists):
            stream(
                [sys.executable, "-m", "pip", "download", *arguments],
                log=log,
                explain=_telling_line,
                error=BuildError,
                what="downloading the guest's Python packages",
            )
        return {"files": {p.name: files.sha256_file(p) for p in sorted(folder.iterdir())}}

    with step("Python packages for the guest") as s:
        key = definition.wheels_key
        if (entry := cache.get("wheels", key)) is not None:
            s.done("cached")
            return entry
        return cache.build("wheels", key, make)


def _telling_line(lines: Sequence[str]) -> str | None:
    return next((line for line in lines if "DO NOT MATCH" in line or line.startswith("ERROR")), None)
