# SPDX-License-Identifier: Apache-2.0
"""The host's side of a machine: files, identity, plugin."""

from __future__ import annotations

import uuid
from pathlib import Path

from testbed.common import settings
from testbed.common.errors import UsageError
from testbed.common.run import run, which
from testbed.guestlink import keys
from testbed.host import accel
from testbed.machine import Machine
from testbed.timing import plugin
from testbed.timing.preset import Preset
from testbed.vm.boot import Boot, SavedVm
from testbed.vm.domain import HostResources, TimingFiles


def assign(name: str, source: Boot | SavedVm, folder: Path) -> HostResources:
    """Choose the host resources of a machine. Builds the timing plugin if needed; creates no other file."""
    boot = source.boot if isinstance(source, SavedVm) else source
    if boot.accelerator == "hardware":
        raise ValueError("a real machine is not started")
    return HostResources(
        name=source.name if isinstance(source, SavedVm) else f"sentinel-{name}",
        uuid=source.uuid if isinstance(source, SavedVm) else str(uuid.uuid4()),
        accelerator=boot.accelerator,
        emulator=Path(_qemu()),
        kernel=boot.kernel,
        disk=folder / "disk.qcow2",
        console=folder / "console.log",
        public_key=keys.public_key(),
        timing=_timing_files(boot, folder) if boot.preset is not None else None,
        remote=boot.remote,
    )


def _timing_files(boot: Boot, folder: Path) -> TimingFiles:
    if boot.accelerator != "tcg":
        raise UsageError(
            "the timing model needs TCG",
            hint="set `accelerator: tcg` in the machine's file, or leave the preset out",
        )
    return TimingFiles(plugin.build(_qemu()), folder / "timing.conf", folder / "clock")


def write_timing_files(preset: Preset, machine: Machine, timing: TimingFiles) -> None:
    """Write the timing model's configuration and an empty clock page."""
    log = timing.config.with_name("counters.jsonl")
    release = accel.parse_version(accel.qemu_version(_qemu()))
    text = plugin.configuration(preset, machine, qemu=release, log=log, clock=timing.clock)
    timing.config.write_text(text)
    with timing.clock.open("wb") as f:
        f.truncate(plugin.CLOCK_SIZE)


def create_overlay(path: Path, base: Path) -> None:
    """Create a copy-on-write disk over `base`."""
    which("qemu-img", package="qemu-utils")
    base_format = "qcow2" if base.suffix == ".qcow2" else "raw"
    run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(base), "-F", base_format, str(path)])


def _qemu() -> str:
    return which(settings.QEMU.get(), package="qemu-system-x86")
