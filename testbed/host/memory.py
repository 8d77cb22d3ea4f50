# SPDX-License-Identifier: Apache-2.0
"""Memory of this host."""

from __future__ import annotations

from pathlib import Path

import psutil

from testbed.common import cgroup
from testbed.common.errors import InfrastructureError
from testbed.common.sizes import shown_size
from testbed.machine import Machine


def available() -> int:
    """Return the bytes that this process may still allocate, within the limits of its control groups."""
    free = int(psutil.virtual_memory().available)
    limit = cgroup.memory_left()
    return free if limit is None else min(free, limit)


def total() -> int:
    """Return the bytes of RAM that this host has."""
    return int(psutil.virtual_memory().total)


def node_numbers() -> list[int]:
    """Return the numbers of the host's memory nodes; [0] if the kernel has no NUMA support."""
    return sorted(int(p.name[4:]) for p in Path("/sys/devices/system/node").glob("node[0-9]*")) or [0]


def check_capacity(machine: Machine, *, count: int = 1) -> None:
    """Raise `InfrastructureError` if the host has less memory available than `count` such machines have."""
    free = available()
    if count * machine.memory > free:
        limit = cgroup.memory_left()
        limited = limit is not None and limit <= free
        owner = "the control group of this process" if limited else "this host"
        need = f"the machine needs {shown_size(machine.memory)} of memory"
        if count > 1:
            need = f"{count} machines need {shown_size(count * machine.memory)} of memory"
        raise InfrastructureError(
            f"{need}; {owner} has {free / (1 << 30):.1f} GiB available",
            hint="reduce the memory of its nodes, or end other machines: sentinel vm status",
        )
