# SPDX-License-Identifier: Apache-2.0
"""Slow memory under KVM: the guest's node 1 is memory of a host node far from the CPUs that run the guest.

`choose` is pure; `host` reads sysfs. None of this could be run where it was written (docs/timing.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed.machine import Machine

_SYSFS = Path("/sys/devices/system/node")


@dataclass(frozen=True)
class HostNode:
    """A memory node of the host: its CPUs, free memory in bytes, distances to all nodes by number."""

    number: int
    cpus: tuple[int, ...]
    free: int
    distances: dict[int, int]


@dataclass(frozen=True)
class Remote:
    """Where a guest of two nodes runs: vCPU i on the host CPU `cpus[i]`, node k's memory on `memory[k]`.

    `antagonist` are host CPUs that keep the slow node's bandwidth busy (none: nobody does).
    """

    cpus: tuple[int, ...]
    memory: tuple[int, int]
    antagonist: tuple[int, ...] = ()

    def described(self) -> dict[str, Any]:
        """As JSON; `load` reads it."""
        return {
            "cpus": list(self.cpus),
            "memory": list(self.memory),
            "antagonist": list(self.antagonist),
        }


def load(described: dict[str, Any]) -> Remote:
    """What `Remote.described` said."""
    fast, slow = described["memory"]
    return Remote(tuple(described["cpus"]), (fast, slow), tuple(described["antagonist"]))


def choose(machine: Machine, nodes: list[HostNode], *, antagonist: int = 0) -> Remote | None:
    """Where to put the machine, or None if this host has no far memory for it.

    Of the nodes that hold the vCPUs and node 0's memory the one with most CPUs is taken, and the farthest
    from it that holds node 1's. The `antagonist` CPUs are the far node's own, or, if it has none, spare ones.
    """
    if len(machine.nodes) != 2:
        return None
    fast, slow = machine.nodes
    near = [n for n in nodes if len(n.cpus) >= machine.vcpus and n.free >= fast.memory]
    for home in sorted(near, key=lambda n: (-len(n.cpus), n.number)):
        far = [n for n in nodes if n.number != home.number and n.free >= slow.memory]
        if not far:
            continue
        away = max(far, key=lambda n: (home.distances.get(n.number, 0), -n.number))
        spare = away.cpus or home.cpus[machine.vcpus :]
        return Remote(home.cpus[: machine.vcpus], (home.number, away.number), spare[:antagonist])
    return None


def antagonist_command(remote: Remote) -> list[str] | None:
    """The command that keeps the slow node's bandwidth busy, if there is to be one (numactl, stress-ng)."""
    if not remote.antagonist:
        return None
    cpus = ",".join(map(str, remote.antagonist))
    return [
        *["numactl", f"--physcpubind={cpus}", f"--membind={remote.memory[1]}"],
        *["stress-ng", "--quiet", "--stream", str(len(remote.antagonist))],
    ]


def host(sysfs: Path = _SYSFS) -> list[HostNode]:
    """The host's memory nodes; none where the kernel has no NUMA."""
    folders = sorted(sysfs.glob("node[0-9]*"), key=lambda p: int(p.name[4:]))
    numbers = [int(folder.name[4:]) for folder in folders]
    return [
        HostNode(
            number,
            tuple(_cpus((folder / "cpulist").read_text())),
            _free(folder / "meminfo"),
            dict(zip(numbers, map(int, (folder / "distance").read_text().split()), strict=True)),
        )
        for number, folder in zip(numbers, folders, strict=True)
    ]


def _cpus(text: str) -> Iterator[int]:
    """The numbers in a list such as `0-3,8`."""
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


def _free(meminfo: Path) -> int:
    """MemFree of a node in bytes."""
    words = next(line.split() for line in meminfo.read_text().splitlines() if "MemFree:" in line)
    return int(words[3]) << 10
