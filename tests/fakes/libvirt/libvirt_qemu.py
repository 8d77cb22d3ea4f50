# SPDX-License-Identifier: Apache-2.0
"""Stands in for libvirt's QEMU module; see libvirt.py beside it."""

from __future__ import annotations

import libvirt

VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP = 1


def qemuMonitorCommand(domain: libvirt.virDomain, command: str, flags: int) -> str:  # noqa: N802
    libvirt.called(f"monitor {command}")
    if command == "fail":
        raise libvirt.libvirtError("internal error: unable to execute\n  QEMU command")
    if command.startswith("fail disk "):
        domain.fail_disk(command.removeprefix("fail disk "))
        return ""
    if command.startswith("hostfwd_add"):
        port = int(command.rpartition(":")[0].rpartition(":")[2].partition("-")[0])
        if libvirt.behaviour("busy") or port in (libvirt.behaviour("busy_ports") or ()):
            return f"could not set up host forwarding rule 'tcp:127.0.0.1:{port}-:22'\r\n"
        return ""
    return f"answer to {command}\r\n"
