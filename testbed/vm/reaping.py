# SPDX-License-Identifier: Apache-2.0
"""Clean up after supervisors that were killed."""

from __future__ import annotations

import shutil
from pathlib import Path

from testbed.common import files, processes
from testbed.vm import folder as folders

SUPERVISOR_KILLED = "its supervisor was killed"


def reap() -> list[str]:
    """End the orphans of killed supervisors. Returns the names of the machines."""
    root = folders.vms_root()
    with files.locked(root / ".lock"):
        return [
            config.parent.name
            for config in sorted(root.glob("*/config.json"))
            if not files.is_locked(folders.lock(config.parent)) and bury(config.parent)
        ]


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
