# SPDX-License-Identifier: Apache-2.0
"""Ownership of a run's folder: one process at a time, in a folder that is empty or holds a run.

OUT/.lock    exists while a process owns the folder; the process holds a lock on it and describes itself in it
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import json
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from testbed.common.errors import UsageError

LOCK = ".lock"
_OTHER_FOLDER = "use another folder with --out"


@contextlib.contextmanager
def claimed(out: Path, *, command: str) -> Iterator[None]:
    """Own the folder `out` for the block. Create it if needed, and remove it again if it stays empty.

    `command` describes the owner to other processes. Raises `UsageError` at once if another process owns the
    folder, if it holds something other than a run, or if it cannot be created.
    """
    with contextlib.ExitStack() as stack:
        try:
            created = not out.exists()
            out.mkdir(parents=True, exist_ok=True)
            _check_owned(out)
            lock = stack.enter_context(_locked(out))
            lock.write(json.dumps(_describe_self(command)))
            lock.flush()
        except OSError as e:
            raise UsageError(f"cannot use {out}: {e.strerror}", hint=_OTHER_FOLDER) from None
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                (out / LOCK).unlink()  # while locked, so that a waiting process notices (_is_at)
                if created:
                    out.rmdir()


def _check_owned(out: Path) -> None:
    """Refuse a folder that is neither empty nor a run."""
    names = {path.name for path in out.iterdir()}
    # A run killed while it wrote run.json leaves a temporary file
    foreign = sorted(name for name in names if name != LOCK and not name.startswith(".run.json."))
    if foreign and "run.json" not in names:
        listed = ", ".join(foreign[:3]) + (", ..." if len(foreign) > 3 else "")
        raise UsageError(f"{out} is not empty and is not a run: it holds {listed}", hint=_OTHER_FOLDER)


@contextlib.contextmanager
def _locked(out: Path) -> Iterator[IO[str]]:
    """The locked, empty lock file. Raises `UsageError` naming the process that holds the lock."""
    path = out / LOCK
    while True:
        with path.open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                hint = f"wait for it to end, or {_OTHER_FOLDER}"
                raise UsageError(f"{out} is in use by {_describe_owner(lock.read())}", hint=hint) from None
            if not _is_at(lock, path):
                continue  # its owner removed it after we opened it
            lock.truncate(0)
            yield lock
            return


def _is_at(lock: IO[str], path: Path) -> bool:
    """Whether the open file is still the one at `path`."""
    try:
        return os.path.samestat(os.fstat(lock.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _describe_self(command: str) -> dict[str, Any]:
    now = datetime.datetime.now(datetime.UTC)
    return {
        "pid": os.getpid(),
        "host": platform.node(),
        "command": command,
        "since": now.isoformat(timespec="seconds"),
    }


def _describe_owner(text: str) -> str:
    """The owner, from the text in its lock file."""
    try:
        owner = json.loads(text)
        since = datetime.datetime.fromisoformat(owner["since"]).astimezone()
        place = "" if owner["host"] == platform.node() else f" on {owner['host']}"
        return f"process {owner['pid']}{place}, since {since:%Y-%m-%d %H:%M}: {owner['command']}"
    except (ValueError, KeyError, TypeError):  # not written yet
        return "another process, which has just started"
