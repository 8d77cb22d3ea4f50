# SPDX-License-Identifier: Apache-2.0
"""Broken SSH connections as `LostConnectionError`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import paramiko

from testbed.common.errors import LostConnectionError

BROKEN = (paramiko.SSHException, EOFError, OSError)  # raised on a broken connection


@contextlib.contextmanager
def lost_if_broken(place: str = "the guest") -> Iterator[None]:
    """Turn the exceptions of a broken connection to `place` into `LostConnectionError`."""
    try:
        yield
    except BROKEN as e:
        reason = f": {e}" if str(e) else ""
        raise LostConnectionError(f"the connection to {place} broke{reason}") from None
