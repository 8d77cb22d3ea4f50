# SPDX-License-Identifier: Apache-2.0
"""A machine's place on a host."""

from __future__ import annotations

from pathlib import Path

from testbed.vm.domain import HostResources

PLACED = HostResources(
    name="sentinel-default",
    uuid="4dea22b3-1d52-4d8f-9e5a-0123456789ab",
    accelerator="tcg",
    emulator=Path("/usr/bin/qemu-system-x86_64"),
    kernel=Path("/cache/kernel/abc/bzImage"),
    disk=Path("/state/vms/default/disk.qcow2"),
    console=Path("/state/vms/default/console.log"),
    public_key="AAAAC3NzaC1lZDI1NTE5AAAAIA",
)
