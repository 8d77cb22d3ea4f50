# SPDX-License-Identifier: Apache-2.0
"""libvirt domain XML and kernel command line of a machine. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jinja2

from testbed.host.remote_memory import RemoteMemory
from testbed.machine import Hmat, Machine

_environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    keep_trailing_newline=True,
)

# 10.0.2.15 and 10.0.2.2 are the fixed addresses of QEMU's user networking; a static address avoids seconds of
# DHCP. no_timer_check: on a busy host the kernel's boot-time test sees too few timer interrupts, and panics.
_CMDLINE = (
    "console=ttyS0 root=/dev/vda rw rootfstype=ext4 panic=-1 random.trust_cpu=on no_timer_check "
    "ip=10.0.2.15::10.0.2.2:255.255.255.0::eth0:off"
)


@dataclass(frozen=True)
class TimingFiles:
    """Files of the timing model: plugin, configuration, and the clock page (1 MiB) that the guest reads."""

    library: Path
    config: Path
    clock: Path


@dataclass(frozen=True)
class HostResources:
    """Files and identity of a machine on the host. `public_key` is the base64 part of an ed25519 key."""

    name: str
    uuid: str
    accelerator: Literal["kvm", "tcg"]
    emulator: Path
    kernel: Path
    disk: Path
    console: Path
    public_key: str
    timing: TimingFiles | None = None
    remote: RemoteMemory | None = None


@dataclass(frozen=True)
class _Link:
    initiator: int
    target: int
    hmat: Hmat


def cmdline(machine: Machine, host: HostResources) -> str:
    """Return the kernel command line."""
    words = [_CMDLINE, f"sentinel.key={host.public_key}", f"sentinel.host={host.name}", machine.cmdline]
    return " ".join(word for word in words if word)


def xml(machine: Machine, host: HostResources) -> str:
    """Return the libvirt domain XML. Needs libvirt 6.6, or 8.7 for `address_bits`."""
    initiators = [i for i, node in enumerate(machine.nodes) if node.cpus]
    links = [
        _Link(initiator, target, node.hmat)
        for initiator in initiators
        for target, node in enumerate(machine.nodes)
        if node.hmat is not None
    ]
    return _environment.get_template("domain.xml.j2").render(
        machine=machine,
        cmdline=cmdline(machine, host),
        interconnects=links,
        name=host.name,
        uuid=host.uuid,
        accelerator=host.accelerator,
        emulator=host.emulator,
        kernel=host.kernel,
        disk=host.disk,
        console=host.console,
        timing=host.timing,
        remote=host.remote,
    )
