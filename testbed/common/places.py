# SPDX-License-Identifier: Apache-2.0
"""Check that output places are writable, before anything is downloaded, built or started."""

from __future__ import annotations

import errno
import tempfile
from pathlib import Path

from testbed.common import settings
from testbed.common.errors import InfrastructureError, UsageError

_PROBE = 4096  # bytes written to detect a full disk
_FULL = (errno.ENOSPC, errno.EDQUOT)


def check_folder(folder: Path, name: str) -> None:
    """Check that `folder` is writable or can be created. Leaves nothing behind.

    `name` is the user's name for it: an option or a setting. Raises `UsageError`, or `InfrastructureError` if
    the disk is full.
    """
    try:
        _probe(folder)
    except OSError as e:
        raise _refused(e, folder, name) from None


def check_file(path: Path, name: str) -> None:
    """Check that the file `path` can be written; see `check_folder`."""
    try:
        if path.is_dir():
            raise UsageError(f"{name} {path}: is a folder, not a file")
        if path.exists() and not path.is_file():
            raise UsageError(f"{name} {path}: is not an ordinary file")
        _probe(path.parent)
    except OSError as e:
        raise _refused(e, path, name) from None


def check_roots(*, cache: bool = False, state: bool = False, room: bool = True) -> None:
    """Check that the cache and the folder of running machines are writable.

    Without `room` the disk may be full: ending a machine frees space.
    """
    roots = [(settings.cache_root, settings.CACHE)] if cache else []
    roots += [(settings.state_root, settings.STATE)] if state else []
    for root, setting in roots:
        try:
            check_folder(root(), setting.env)
        except InfrastructureError:
            if room:
                raise


def _probe(folder: Path) -> None:
    """Write a temporary file to `folder`, or to its nearest existing parent."""
    while not _exists(folder):
        folder = folder.parent
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, f"{folder} is not a folder")
    with tempfile.TemporaryFile(dir=folder) as probe:
        probe.write(bytes(_PROBE))
        probe.flush()


def _exists(path: Path) -> bool:
    """Return whether the path exists; a dangling link does."""
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    return True


def _refused(error: OSError, path: Path, name: str) -> UsageError | InfrastructureError:
    place = f"{name}={path}" if name.isupper() else f"{name} {path}"
    hint = f"{name}=/another/folder" if name.isupper() else None
    reason = f"{place}: cannot be written: {error.strerror or error}"
    if error.errno in _FULL:
        return InfrastructureError(reason, hint="df -h; sentinel cache prune")
    return UsageError(reason, hint=hint)
