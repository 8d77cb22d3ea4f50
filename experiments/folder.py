# SPDX-License-Identifier: Apache-2.0
"""The folder of a run: one process at a time writes there, and only into a folder that is a run's or empty.

OUT/.lock    there while a process runs the suite, which holds a lock on it and has written down who it is
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
_OTHER = "name another folder with --out"


@contextlib.contextmanager
def claimed(out: Path, *, command: str) -> Iterator[None]:
    """Own the folder `out` for the block; it is made if it is not there, and removed if it stays empty.

    `command` tells others who owns it. Raises `UsageError` at once if another process does, if what is there
    is no run's, or if the folder cannot be made.
    """
    with contextlib.ExitStack() as stack:
        try:
            made = not out.exists()
            out.mkdir(parents=True, exist_ok=True)
            _check_owned(out)
            lock = stack.enter_context(_locked(out))
            lock.write(json.dumps(_self(command)))
            lock.flush()
        except OSError as e:
            raise UsageError(f"{out}: cannot be used: {e.strerror}", hint=_OTHER) from None
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                (out / LOCK).unlink()  # while it is held: whoever waits for its name finds another file
                if made:
                    out.rmdir()


def _check_owned(out: Path) -> None:
    """Refuse a folder that holds something, but no run."""
    names = {path.name for path in out.iterdir()}
    # A run that was killed before it had written run.json leaves a temporary file of it
    foreign = sorted(name for name in names if name != LOCK and not name.startswith(".run.json."))
    if foreign and "run.json" not in names:
        some = ", ".join(foreign[:3]) + (", ..." if len(foreign) > 3 else "")
        raise UsageError(f"{out} is not empty and holds no run: there is {some}", hint=_OTHER)


@contextlib.contextmanager
def _locked(out: Path) -> Iterator[IO[str]]:
    """The lock file, locked and empty. Raises `UsageError` naming the process that holds it."""
    path = out / LOCK
    while True:
        with path.open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                hint = f"wait for it to end, or {_OTHER}"
                raise UsageError(f"{out} is in use by {_holder(lock.read())}", hint=hint) from None
            if not _is_at(lock, path):
                continue  # its holder removed it between our opening and our locking it
            lock.truncate(0)
            yield lock
            return


def _is_at(lock: IO[str], path: Path) -> bool:
    """Whether the file that is open is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(lock.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _self(command: str) -> dict[str, Any]:
    now = datetime.datetime.now(datetime.UTC)
    return {
        "pid": os.getpid(),
        "host": platform.node(),
        "command": command,
        "since": now.isoformat(timespec="seconds"),
    }


def _holder(text: str) -> str:
    """Who holds the lock, from what it wrote there."""
    try:
        who = json.loads(text)
        since = datetime.datetime.fromisoformat(who["since"]).astimezone()
        place = "" if who["host"] == platform.node() else f" on {who['host']}"
        return f"process {who['pid']}{place}, since {since:%Y-%m-%d %H:%M}: {who['command']}"
    except (ValueError, KeyError, TypeError):  # it has not written yet
        return "another process, which has just begun"
