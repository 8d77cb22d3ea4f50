# SPDX-License-Identifier: Apache-2.0
"""The machine spec: schema and checks of `testbed/machines/*.yaml`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from testbed.common.library import Library
from testbed.common.schema import Document, Strict
from testbed.common.sizes import Size, shown_size

MIN_NODE = 64 << 20  # bytes; Linux cannot use a smaller node
GRANULE = 2 << 20  # bytes; nodes begin and end at a large page

Accelerator = Literal["auto", "kvm", "tcg"]


class Hmat(Strict):
    """Latency and bandwidth that the firmware reports for a node (ACPI 6.3, section 5.2.27)."""

    read_latency_ns: Annotated[int, Field(gt=0)]
    write_latency_ns: Annotated[int, Field(gt=0)]
    read_bandwidth_mib: Annotated[int, Field(gt=0, description="MiB/s")]
    write_bandwidth_mib: Annotated[int, Field(gt=0, description="MiB/s")]


class Node(Strict):
    """A memory node. `memory` in bytes; `cpus` are vCPUs; `distance` is its row of the SLIT."""

    memory: Size
    cpus: tuple[Annotated[int, Field(ge=0)], ...] = ()
    distance: tuple[Annotated[int, Field(ge=10, le=254)], ...] | None = None
    hmat: Hmat | None = None


class Machine(Strict):
    """A virtual machine. `address_bits` overrides the CPU's physical address width."""

    description: str = ""
    vcpus: Annotated[int, Field(ge=1, le=64)] = 2
    nodes: Annotated[tuple[Node, ...], Field(min_length=1, max_length=8)]
    accelerator: Accelerator = "auto"
    cpu: Literal["max", "qemu64", "Skylake-Client", "Haswell", "EPYC"] = "max"
    # Left out of dumps where it is not set: dumps enter the ids of cells.
    address_bits: Annotated[int, Field(ge=36, le=52)] | None = Field(None, exclude_if=lambda n: n is None)
    cmdline: str = ""
    shared_folder: Path | None = None
    devices: tuple[Literal["rng"], ...] = ("rng",)

    @property
    def memory(self) -> int:
        """Bytes of all nodes."""
        return sum(node.memory for node in self.nodes)


def _check(machine: Machine, document: Document) -> None:
    """Check what involves several fields."""
    owners: dict[int, int] = {}
    for i, node in enumerate(machine.nodes):
        at = ("nodes", i)
        if node.memory < MIN_NODE:
            raise document.error((*at, "memory"), f"must be at least {shown_size(MIN_NODE)}")
        if node.memory % GRANULE:
            raise document.error((*at, "memory"), f"must be a multiple of {shown_size(GRANULE)}")
        for cpu in node.cpus:
            if cpu >= machine.vcpus:
                raise document.error((*at, "cpus"), f"no CPU {cpu}; allowed: 0 to {machine.vcpus - 1}")
            if cpu in owners:
                raise document.error((*at, "cpus"), f"CPU {cpu} is already in node {owners[cpu]}")
            owners[cpu] = i
        if node.distance is not None:
            if len(node.distance) != len(machine.nodes):
                raise document.error(
                    (*at, "distance"), f"must have {len(machine.nodes)} values, one for each node"
                )
            if any((d == 10) != (i == j) for j, d in enumerate(node.distance)):
                raise document.error(
                    (*at, "distance"), "must be 10 for the node itself and more for every other"
                )
    missing = sorted(set(range(machine.vcpus)) - set(owners))
    if missing:
        raise document.error(("nodes",), f"no node has the CPUs {', '.join(map(str, missing))}")
    for field in ("distance", "hmat"):
        given = [getattr(node, field) is not None for node in machine.nodes]
        if any(given) and not all(given):
            raise document.error(("nodes", given.index(False)), f"{field}: give it for every node or none")


MACHINES = Library("machine", Path(__file__).parent / "machines", Machine, _check)
names, load = MACHINES.names, MACHINES.load
