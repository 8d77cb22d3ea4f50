# SPDX-License-Identifier: Apache-2.0
"""Slow memory under KVM: node 1 of the guest on a host node far from the CPUs that run the guest.

This has not run on a multi-socket host yet (docs/timing.md).
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
    """A memory node of the host. `free` in bytes; `distances` by node number."""

    number: int
    cpus: tuple[int, ...]
    free: int
    distances: dict[int, int]


@dataclass(frozen=True)
class RemoteMemory:
    """Placement of a two-node guest: vCPU i on the host CPU `cpus[i]`, node k on the host node `memory[k]`.

    `antagonist` are the host CPUs that load the slow node's bandwidth; empty for none.
    """

    cpus: tuple[int, ...]
    memory: tuple[int, int]
    antagonist: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object that `from_json` reads."""
        return {
            "cpus": list(self.cpus),
            "memory": list(self.memory),
            "antagonist": list(self.antagonist),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> RemoteMemory:
        """Read what `to_json` returned."""
        fast, slow = value["memory"]
        return cls(tuple(value["cpus"]), (fast, slow), tuple(value["antagonist"]))

    def antagonist_command(self) -> list[str] | None:
        """Return the command (numactl, stress-ng) that loads the slow node's bandwidth; None without one."""
        if not self.antagonist:
            return None
        cpus = ",".join(map(str, self.antagonist))
        return [
            *["numactl", f"--physcpubind={cpus}", f"--membind={self.memory[1]}"],
            *["stress-ng", "--quiet", "--stream", str(len(self.antagonist))],
        ]


def choose(machine: Machine, nodes: list[HostNode], *, antagonist: int = 0) -> RemoteMemory | None:
    """Choose host nodes for `machine`, or return None if none are far enough or large enough.

    The fast node is the one with the most CPUs that fits the vCPUs and node 0; the slow node is the farthest
    from it that fits node 1. `antagonist` CPUs come from the slow node, or from spare ones if it has none.
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
        return RemoteMemory(home.cpus[: machine.vcpus], (home.number, away.number), spare[:antagonist])
    return None


def host_nodes(sysfs: Path = _SYSFS) -> list[HostNode]:
    """Read the host's memory nodes from sysfs; an empty list if the kernel has no NUMA support."""
    folders = sorted(sysfs.glob("node[0-9]*"), key=lambda p: int(p.name[4:]))
    numbers = [int(folder.name[4:]) for folder in folders]
    return [
        HostNode(
            number,
            tuple(_parse_cpus((folder / "cpulist").read_text())),
            _free_bytes(folder / "meminfo"),
            dict(zip(numbers, map(int, (folder / "distance").read_text().split()), strict=True)),
        )
        for number, folder in zip(numbers, folders, strict=True)
    ]


def _parse_cpus(text: str) -> Iterator[int]:
    """Yield the numbers of a list such as `0-3,8`."""
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


def _free_bytes(meminfo: Path) -> int:
    words = next(line.split() for line in meminfo.read_text().splitlines() if "MemFree:" in line)
    return int(words[3]) << 10
