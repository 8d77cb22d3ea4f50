# SPDX-License-Identifier: Apache-2.0
"""Errors of full disks."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from testbed.common.errors import InfrastructureError


def disk_full(where: Path) -> InfrastructureError:
    """Return the error for a full disk at `where`."""
    return InfrastructureError(
        f"the disk is full at {where}", hint="sentinel cache prune, or SENTINEL_CACHE=/a/larger/disk"
    )


@contextlib.contextmanager
def explained_disk_errors(path: Path) -> Iterator[None]:
    """Turn errors of a full disk or quota below `path` into an `InfrastructureError`."""
    try:
        yield
    except OSError as e:
        if e.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise disk_full(path.parent) from e
