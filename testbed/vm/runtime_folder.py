# SPDX-License-Identifier: Apache-2.0
"""The private folder for a machine's sockets."""

from __future__ import annotations

import getpass
import os
import secrets
import stat
import tempfile
from pathlib import Path

from testbed.common.errors import UsageError

_SOCKET_PATH_BYTES = 107  # limit of Linux
# The longest path that libvirt appends to a runtime folder
_LONGEST_SOCKET = len("/lib/qemu/domain-99-12345678901234567890/monitor.sock")


def create() -> Path:
    """Create a folder that only this user can enter. Raises `UsageError`."""
    if os.geteuid() == 0:
        parent, variable = Path("/run/sentinel"), None
    else:
        variable = "XDG_RUNTIME_DIR" if os.environ.get("XDG_RUNTIME_DIR") else "TMPDIR"
        root = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()).absolute()
        parent = root / f"sentinel-{getpass.getuser()}"
    folder = parent / secrets.token_hex(4)
    hint = f"{variable}=/another/folder" if variable else None
    excess = len(os.fsencode(folder)) + _LONGEST_SOCKET - _SOCKET_PATH_BYTES
    if excess > 0:
        raise UsageError(
            f"{parent}: too long for the paths of sockets, by {excess} bytes",
            hint=f"set {variable} to a shorter path" if variable else None,
        )
    try:
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = parent.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
            raise UsageError(f"{parent}: not a folder that this user owns", hint=hint)
        if status.st_mode & 0o022:
            raise UsageError(f"{parent}: writable by other users", hint=f"chmod 700 {parent}")
        folder.mkdir(mode=0o700)
    except OSError as e:
        raise UsageError(f"{parent}: cannot create a folder there: {e.strerror}", hint=hint) from None
    return folder
