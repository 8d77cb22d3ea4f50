# SPDX-License-Identifier: Apache-2.0
"""Choose the accelerator: KVM where a probe showed that it works, otherwise TCG.

With nested virtualisation, /dev/kvm may open and even run firmware, yet hang a Linux kernel. So the probe
boots a kernel under KVM. Its verdict is cached by host kernel, QEMU and guest kernel.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from testbed.common import files, settings
from testbed.common.errors import InfrastructureError
from testbed.common.progress import step, warn
from testbed.common.run import spawn, version_of, which

KVM = Path("/dev/kvm")
KEEP_FAILURE = 86400.0  # seconds
WITHIN = 10.0  # seconds; a working KVM boots these kernels to their panic in one or two

# A boot sector that writes 42 to QEMU's isa-debug-exit port: mov dx,0xf4; mov al,42; out dx,al; hlt; jmp $-1
_BOOT_SECTOR = bytes.fromhex("baf400b02aeef4ebfd").ljust(510, b"\0") + b"\x55\xaa"
_BOOT_SECTOR_EXIT = 42 << 1 | 1


@dataclass(frozen=True)
class Verdict:
    """Whether KVM works. `proof` is what ran under it: "linux" is conclusive, "firmware" is not."""

    works: bool
    proof: Literal["none", "firmware", "linux"]
    why: str
    seconds: float = 0.0


def choose(requested: str, kernel: Path | None) -> Literal["kvm", "tcg"]:
    """Return the accelerator for a machine that requests `auto`, `kvm` or `tcg`.

    `kernel` is the guest's, None if it is not built yet. Raises `InfrastructureError` if `kvm` was requested
    and does not work.
    """
    if requested == "tcg":
        return "tcg"
    verdict = probe(kernel)
    if verdict.works:
        return "kvm"
    if requested == "kvm":
        raise InfrastructureError(f"KVM does not work on this host: {verdict.why}", hint="accelerator: tcg")
    warn(f"KVM is not usable ({verdict.why}); TCG emulates the guest, 10 to 20 times slower")
    return "tcg"


def probe(kernel: Path | None = None) -> Verdict:
    """Boot `kernel` under KVM until it panics for want of a root disk; without a kernel, boot a boot sector.

    Takes at most `WITHIN` seconds. The verdict is cached; a negative one for a day, because a busy host can
    make a working KVM time out.
    """
    if not KVM.exists():
        return Verdict(False, "none", "no /dev/kvm")
    if not os.access(KVM, os.R_OK | os.W_OK):
        return Verdict(False, "none", "no access to /dev/kvm: add yourself to the group kvm")
    qemu = which(settings.QEMU.get(), package="qemu-system-x86")
    key = files.sha256_json(
        [platform.release(), qemu_version(qemu), files.sha256_file(kernel) if kernel else "boot sector"]
    )
    memo = settings.cache_root() / "kvm" / f"{key[:32]}.json"
    cached = _read_verdict(memo)
    if cached is not None:
        return cached
    with step("Probing KVM") as s:
        verdict = _boot(qemu, kernel)
        s.done("works" if verdict.works else verdict.why)
    files.write_json(memo, asdict(verdict))
    return verdict


def _read_verdict(memo: Path) -> Verdict | None:
    """Return the cached verdict, or None if there is none, it is unreadable, or negative and old."""
    try:
        verdict = Verdict(**files.read_json(memo))
        if verdict.works or time.time() - memo.stat().st_mtime < KEEP_FAILURE:
            return verdict
    except (OSError, ValueError, TypeError):
        pass
    return None


def qemu_version(qemu: str) -> str:
    """Return the first line of `qemu --version`."""
    return version_of(qemu)


def parse_version(text: str) -> tuple[int, int]:
    """Return (major, minor) of the first version in `text`; (0, 0) if there is none."""
    match = re.search(r"(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _boot(qemu: str, kernel: Path | None) -> Verdict:
    command = [qemu, *["-accel", "kvm"], *["-cpu", "host"], *["-m", "256"]]
    command += ["-nodefaults", "-no-reboot", *["-display", "none"]]
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        if kernel is not None:
            command += ["-serial", "stdio", "-kernel", str(kernel), "-append", "console=ttyS0 panic=-1"]
        else:
            disk = Path(folder) / "boot"
            disk.write_bytes(_BOOT_SECTOR)
            command += ["-device", "isa-debug-exit,iobase=0xf4,iosize=1", "-drive", f"file={disk},format=raw"]
        with spawn(command) as process:
            try:
                output, _ = process.communicate(timeout=WITHIN)
            except subprocess.TimeoutExpired:
                guest = "a Linux kernel" if kernel else "a boot sector"
                return Verdict(False, "none", f"/dev/kvm opens, but {guest} hangs under it", WITHIN)
    seconds = round(time.monotonic() - started, 2)
    if kernel is None:
        if process.returncode == _BOOT_SECTOR_EXIT:
            return Verdict(True, "firmware", "firmware ran; no Linux kernel was probed yet", seconds)
    elif b"Unable to mount root fs" in output:
        return Verdict(True, "linux", "a Linux kernel booted", seconds)
    last = output.decode(errors="replace").strip().splitlines()[-1:] or [f"exit {process.returncode}"]
    return Verdict(False, "none", f"QEMU failed with KVM: {last[0].split(': ', 1)[-1]}", seconds)
