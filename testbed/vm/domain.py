# SPDX-License-Identifier: Apache-2.0
"""Pure function from a machine spec to libvirt domain XML; it touches nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jinja2

from testbed.host.remote_memory import Remote
from testbed.machine import Hmat, Machine

_environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    keep_trailing_newline=True,
)

# 10.0.2.15 and 10.0.2.2 are QEMU user networking's own fixed addresses; a static one saves DHCP's seconds.
# no_timer_check: on a busy host too few timer interrupts arrive in the kernel's test of them, and it panics.
_CMDLINE = (
    "console=ttyS0 root=/dev/vda rw rootfstype=ext4 panic=-1 random.trust_cpu=on no_timer_check "
    "ip=10.0.2.15::10.0.2.2:255.255.255.0::eth0:off"
)


@dataclass(frozen=True)
class Timing:
    """The timing plugin's files: itself, what it models, and the page of model clocks that the guest sees."""

    library: Path
    config: Path
    clock: Path  # 1 MiB


@dataclass(frozen=True)
class Placed:
    """Where this machine's parts are on the host, and who it is."""

    name: str
    uuid: str
    accelerator: Literal["kvm", "tcg"]
    emulator: Path
    kernel: Path
    disk: Path
    console: Path
    public_key: str  # the base64 part of an ed25519 public key
    timing: Timing | None = None
    remote: Remote | None = None


@dataclass(frozen=True)
class _Link:
    initiator: int
    target: int
    hmat: Hmat


def cmdline(machine: Machine, placed: Placed) -> str:
    """The kernel command line."""
    words = [_CMDLINE, f"sentinel.key={placed.public_key}", f"sentinel.host={placed.name}", machine.cmdline]
    return " ".join(word for word in words if word)


def xml(machine: Machine, placed: Placed) -> str:
    """The libvirt domain XML of `machine`; libvirt 6.6 or newer reads it (8.7 for `address_bits`)."""
    initiators = [i for i, node in enumerate(machine.nodes) if node.cpus]
    links = [
        _Link(initiator, target, node.hmat)
        for initiator in initiators
        for target, node in enumerate(machine.nodes)
        if node.hmat is not None
    ]
    return _environment.get_template("domain.xml.j2").render(
        machine=machine,
        cmdline=cmdline(machine, placed),
        interconnects=links,
        name=placed.name,
        uuid=placed.uuid,
        accelerator=placed.accelerator,
        emulator=placed.emulator,
        kernel=placed.kernel,
        disk=placed.disk,
        console=placed.console,
        timing=placed.timing,
        remote=placed.remote,
    )
