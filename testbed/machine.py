# SPDX-License-Identifier: Apache-2.0
"""The machine spec: what `testbed/machines/*.yaml` may say, and what makes sense together."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PlainSerializer

from testbed.common import cgroup
from testbed.common.errors import InfrastructureError
from testbed.common.schema import Document, Strict, named

MACHINES = Path(__file__).parent / "machines"
MIN_NODE = 64 << 20  # bytes; below this Linux cannot set a node up
GRANULE = 2 << 20  # bytes; node borders on a large page, as the kernel wants them
_MAX_SIZE = 1 << 52  # bytes
_UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}

Accelerator = Literal["auto", "kvm", "tcg"]


def parse_size(value: object) -> int:
    """Bytes from `512 MiB`; the units are KiB, MiB and GiB.

    Raises `ValueError` saying what is allowed.
    """
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) *(KiB|MiB|GiB)", value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("must be a size such as 512 MiB or 2 GiB (units KiB, MiB, GiB)")
    size = float(match[1]) * _UNITS[match[2]]
    if size > _MAX_SIZE:
        raise ValueError(f"must be at most {shown_size(_MAX_SIZE)}")
    return int(size)


def shown_size(size: int) -> str:
    """`size` bytes in the largest unit that shows it exactly, as `parse_size` reads it."""
    unit = next(u for u in ("GiB", "MiB", "KiB") if size % _UNITS[u] == 0 or u == "KiB")
    return f"{size // _UNITS[unit]} {unit}"


Size = Annotated[int, BeforeValidator(parse_size), PlainSerializer(shown_size, when_used="json")]


class Hmat(Strict):
    """What the firmware says of a node as seen from the first node with CPUs (ACPI 6.3, section 5.2.27)."""

    read_latency_ns: Annotated[int, Field(gt=0)]
    write_latency_ns: Annotated[int, Field(gt=0)]
    read_bandwidth_mib: Annotated[int, Field(gt=0, description="MiB/s")]
    write_bandwidth_mib: Annotated[int, Field(gt=0, description="MiB/s")]


class Node(Strict):
    """A memory node. `memory` in bytes; `cpus` are virtual CPUs; `distance` is its row of the SLIT."""

    memory: Size
    cpus: tuple[Annotated[int, Field(ge=0)], ...] = ()
    distance: tuple[Annotated[int, Field(ge=10, le=254)], ...] | None = None
    hmat: Hmat | None = None


class Machine(Strict):
    """A whole virtual machine."""

    description: str = ""
    vcpus: Annotated[int, Field(ge=1, le=64)] = 2
    nodes: Annotated[tuple[Node, ...], Field(min_length=1, max_length=8)]
    accelerator: Accelerator = "auto"
    cpu: Literal["max", "qemu64", "Skylake-Client", "Haswell", "EPYC"] = "max"
    # Physical ones, if not the CPU's own. Left out where it is not given: cells are known by what they dump.
    address_bits: Annotated[int, Field(ge=36, le=52)] | None = Field(None, exclude_if=lambda n: n is None)
    cmdline: str = ""
    shared_folder: Path | None = None
    devices: tuple[Literal["rng"], ...] = ("rng",)

    @property
    def memory(self) -> int:
        """Bytes of all nodes."""
        return sum(node.memory for node in self.nodes)


def names() -> list[str]:
    """The machines that come with the testbed."""
    return sorted(path.stem for path in MACHINES.glob("*.yaml"))


def load(name_or_path: str, *, relative_to: Path | None = None) -> Machine:
    """A machine by name, or from a YAML file (relative to the folder of the file that names it)."""
    document = named("machine", name_or_path, folder=MACHINES, relative_to=relative_to)
    machine = document.parse(Machine)
    _check(machine, document)
    return machine


def _check(machine: Machine, document: Document) -> None:
    """What one field alone cannot know."""
    owners: dict[int, int] = {}
    for i, node in enumerate(machine.nodes):
        at = ("nodes", i)
        if node.memory < MIN_NODE:
            raise document.error((*at, "memory"), f"too small: a node needs at least {shown_size(MIN_NODE)}")
        if node.memory % GRANULE:
            raise document.error((*at, "memory"), f"must be a multiple of {shown_size(GRANULE)}")
        for cpu in node.cpus:
            if cpu >= machine.vcpus:
                raise document.error(
                    (*at, "cpus"), f"there is no CPU {cpu}; allowed: 0 to {machine.vcpus - 1}"
                )
            if cpu in owners:
                raise document.error((*at, "cpus"), f"CPU {cpu} is in node {owners[cpu]} already")
            owners[cpu] = i
        if node.distance is not None:
            if len(node.distance) != len(machine.nodes):
                raise document.error(
                    (*at, "distance"), f"needs one figure for each of the {len(machine.nodes)} nodes"
                )
            if any((d == 10) != (i == j) for j, d in enumerate(node.distance)):
                raise document.error(
                    (*at, "distance"), "must be 10 to the node itself and more to every other"
                )
    missing = sorted(set(range(machine.vcpus)) - set(owners))
    if missing:
        raise document.error(
            ("nodes",), f"every CPU belongs to a node; without one: {', '.join(map(str, missing))}"
        )
    for field in ("distance", "hmat"):
        given = [getattr(node, field) is not None for node in machine.nodes]
        if any(given) and not all(given):
            raise document.error(("nodes", given.index(False)), f"{field}: all nodes have it, or none")


def check_host_memory(machine: Machine, *, available: int | None = None) -> None:
    """Refuse a machine the host cannot hold.

    `available` is the host's free memory in bytes (asked of the system if not given).
    """
    free = host_available() if available is None else available
    if machine.memory > free:
        left = cgroup.memory_left() if available is None else None
        limited = left is not None and left <= free
        owner = "the control group of this process" if limited else "this host"
        raise InfrastructureError(
            f"the machine has {shown_size(machine.memory)} of memory, and {owner} has "
            f"{free / (1 << 30):.1f} GiB available",
            hint="give its nodes less memory, or stop other machines: sentinel vm status",
        )


def host_available() -> int:
    """Bytes that this process may still take: MemAvailable, within the limits of its control groups."""
    available = meminfo("MemAvailable")
    if available is None:
        available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    left = cgroup.memory_left()
    return available if left is None else min(available, left)


def meminfo(field: str) -> int | None:
    """A field of /proc/meminfo in bytes, or None if this kernel has it not."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) << 10
    return None
