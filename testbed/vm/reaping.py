# SPDX-License-Identifier: Apache-2.0
"""Clean up after supervisors that were killed, and after machines that ended long ago."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from testbed.common import files, processes
from testbed.vm import folder as folders

_KEPT_SECONDS = 24 * 3600.0  # folders of ended machines of commands, for their logs
SUPERVISOR_KILLED = "its supervisor was killed"


def reap() -> list[str]:
    """End the orphans of killed supervisors. Returns the names of their machines.

    Removes the folders of machines that ended with their command more than a day ago: each process of a suite
    has machines of its own name.
    """
    root = folders.vms_root()
    with files.locked(root / ".lock"):
        idle = [
            config.parent
            for config in sorted(root.glob("*/config.json"))
            if not files.is_locked(folders.lock(config.parent))
        ]
        buried = [folder.name for folder in idle if bury(folder)]
        for folder in idle:
            if _is_old(folder):
                shutil.rmtree(folder, ignore_errors=True)
        return buried


def _is_old(folder: Path) -> bool:
    """Whether the machine belonged to a command, and ended long ago. Detached machines have no owner."""
    ended = folders.read_end_time(folder)
    return ended is not None and time.time() - ended > _KEPT_SECONDS and (folder / folders.OWNER).exists()


def bury(folder: Path) -> bool:
    """Kill QEMU and remove the runtime folder of a machine without supervisor.

    Returns whether the supervisor had been killed, that is, had not recorded the end.
    """
    try:
        config = folders.read_config(folder)
    except (FileNotFoundError, ValueError):
        return False
    orphaned = folders.read_end(folder) is None
    processes.kill_qemu(config["disk"])
    if orphaned:
        shutil.rmtree(config["runtime"], ignore_errors=True)
        folders.write_end(folder, SUPERVISOR_KILLED)
    return orphaned
