# SPDX-License-Identifier: Apache-2.0
"""The folder of a machine, <state>/vms/<name>/. Its files outlive the machine, for diagnosis.

config.json     the supervisor's configuration          domain.xml      the libvirt domain
lock            held by the running supervisor          console.log     the console from the first byte
owner.json      the process that the machine ends with; absent once the machine is detached
guest.json      SSH port, the supervisor's process id   supervisor.log  messages of the supervisor and libvirt
disk.qcow2      the overlay                             ended.json      why the machine ended
qemu.log        messages of QEMU and of its plugin
timing.conf, clock, counters.jsonl: configuration, clock page and counters of the timing model
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from testbed.common import files, settings
from testbed.common.disk import explained_disk_errors

OWNER = "owner.json"
_RESERVE = "reserve"
_RESERVE_BYTES = 64 << 10


def vms_root() -> Path:
    """The folder that holds one folder for each machine."""
    return settings.state_root() / "vms"


def lock(folder: Path) -> Path:
    """The lock file that a running supervisor holds."""
    return folder / "lock"


def read_config(folder: Path) -> dict[str, Any]:
    """The supervisor's configuration. Raises `FileNotFoundError` or `ValueError`."""
    return dict(files.read_json(folder / "config.json"))


def reserve_end(folder: Path) -> None:
    """Allocate disk space for `write_end`. Raises `InfrastructureError` on a full disk."""
    with explained_disk_errors(folder), (folder / _RESERVE).open("wb") as f:
        os.posix_fallocate(f.fileno(), 0, _RESERVE_BYTES)


def write_end(folder: Path, reason: str) -> None:
    """Record why a machine ended, even on a full disk. QEMU must have exited."""
    (folder / _RESERVE).unlink(missing_ok=True)
    files.write_json(folder / "ended.json", {"why": reason, "at": time.time()})


def read_end(folder: Path) -> str | None:
    """Return why the machine ended, or None if no reason was recorded."""
    try:
        return str(files.read_json(folder / "ended.json")["why"])
    except (FileNotFoundError, ValueError, KeyError):
        return None


def read_end_time(folder: Path) -> float | None:
    """Return when the machine ended, in seconds since the epoch, or None if that was not recorded."""
    try:
        return float(files.read_json(folder / "ended.json")["at"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
