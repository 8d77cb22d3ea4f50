# SPDX-License-Identifier: Apache-2.0
"""One process at a time uses a target: a lock in its folder, held by a process on the target."""

from __future__ import annotations

import os
import platform
import shlex
import sys
import time
from pathlib import Path, PurePosixPath

from testbed.common.errors import InfrastructureError, UsageError
from testbed.guestlink.shell import Shell
from testbed.targets.held import ALIVE, SILENCE, Held

# $1: the folder, $2: the owner. An owner whose connection was lost keeps the lock for a while.
_SCRIPT = f"""
mkdir -p "$1" && cd "$1" && exec 9>>lock || exit 1
flock -n 9 || {{ echo "busy $(cat owner 2>/dev/null)"; exit 1; }}
echo "$2" >owner
echo locked
while {ALIVE}; do :; done
rm -f owner
"""
_WITHIN = 30.0


def acquire(shell: Shell, folder: PurePosixPath, *, patience: float = SILENCE + 30.0) -> Held:
    """Lock the target until the result is closed.

    An earlier lock of this process may last for `patience` seconds after a lost connection. Raises
    `UsageError` that names the process which has the lock, `InfrastructureError` if `folder` is not writable.
    """
    owner = _describe_self()
    deadline = time.monotonic() + patience
    while True:
        held = Held(shell, shlex.join(["sh", "-c", _SCRIPT, "sh", str(folder), owner]))
        found, lines = held.wait("locked", within=_WITHIN)
        if found is not None:
            return held
        held.close()
        busy = next((line for line in lines if line.startswith("busy")), None)
        if busy is None:
            problem = lines[-1] if lines else "no reason given"
            raise InfrastructureError(
                f"{shell.place}: cannot use {folder}: {problem}", hint="another `folder`"
            )
        other = busy.removeprefix("busy").strip()  # empty while it gives the lock back
        if other not in ("", owner) or time.monotonic() > deadline:
            raise UsageError(
                f"{shell.place} is in use by {other or 'another process'}",
                hint="wait for it, or end it; one run at a time",
            )
        time.sleep(1)


def _describe_self() -> str:
    command = shlex.join([Path(sys.argv[0]).name or "python", *sys.argv[1:]])
    return f"process {os.getpid()} on {platform.node()} ({command[:200]})".replace("\n", " ")
