# SPDX-License-Identifier: Apache-2.0
"""Download the guest's Python packages once, and verify every file against its pinned hash."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from images.definition import Definition
from testbed.common import files
from testbed.common.cache import Cache
from testbed.common.cache_entry import Entry
from testbed.common.errors import BuildError
from testbed.common.progress import step
from testbed.common.run import stream

# Debian 11's python2.7: CPython with wide Unicode (cp27mu). grpcio's wheel requires manylinux2010.
_TARGET = [
    *["--python-version", "27"],
    *["--implementation", "cp"],
    *["--abi", "cp27mu"],
    *["--platform", "manylinux1_x86_64"],
    *["--platform", "manylinux2010_x86_64"],
]


def fetch(definition: Definition, *, cache: Cache, log: Path) -> Entry:
    """Return the cache entry (kind `wheels`) with the files of both requirement lists."""

    def fill(folder: Path) -> dict[str, Any]:
        common = ["--quiet", "--no-deps", "--require-hashes", "--dest", str(folder)]
        wheels = [*common, *_TARGET, "--only-binary=:all:", "--requirement", str(definition.wheels)]
        sdists = [*common, "--no-binary=:all:", "--requirement", str(definition.sdists)]
        for arguments in (wheels, sdists):
            stream(
                [sys.executable, "-m", "pip", "download", *arguments],
                log=log,
                explain=_first_error,
                error=BuildError,
                what="downloading the guest's Python packages",
            )
        return {"files": {p.name: files.sha256_file(p) for p in sorted(folder.iterdir())}}

    with step("Python packages for the guest") as s:
        key = definition.wheels_key
        if (entry := cache.get("wheels", key)) is not None:
            s.done("cached")
            return entry
        return cache.build("wheels", key, fill)


def _first_error(lines: Sequence[str]) -> str | None:
    return next((line for line in lines if "DO NOT MATCH" in line or line.startswith("ERROR")), None)
