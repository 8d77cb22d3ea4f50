# SPDX-License-Identifier: Apache-2.0
"""Other processes of this host, as /proc shows them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path


def command_lines() -> Iterator[tuple[int, list[bytes]]]:
    """Each process's id and arguments; one that ends meanwhile is left out."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            yield int(path.parent.name), path.read_bytes().split(b"\0")
