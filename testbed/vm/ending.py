# SPDX-License-Identifier: Apache-2.0
"""Why a machine is gone: `ended.json` in its folder, which is written on a full disk too."""

from __future__ import annotations

import os
import time
from pathlib import Path

from testbed.common import files
from testbed.common.cache import explained_disk_errors

_RESERVE = "reserve"
_RESERVE_BYTES = 64 << 10


def reserve(folder: Path) -> None:
    """Allocate the disk space of `write` while there is some. Raises `InfrastructureError` on a full disk."""
    with explained_disk_errors(folder), (folder / _RESERVE).open("wb") as f:
        os.posix_fallocate(f.fileno(), 0, _RESERVE_BYTES)


def write(folder: Path, why: str) -> None:
    """Record the end of a machine whose QEMU is gone."""
    (folder / _RESERVE).unlink(missing_ok=True)
    files.write_json(folder / "ended.json", {"why": why, "at": time.time()})


def read(folder: Path) -> str | None:
    """Why the machine is gone; None if that was not recorded."""
    try:
        return str(files.read_json(folder / "ended.json")["why"])
    except (FileNotFoundError, ValueError, KeyError):
        return None
