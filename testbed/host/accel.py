# SPDX-License-Identifier: Apache-2.0
"""Which accelerator: KVM only where it was seen to work, else TCG.

/dev/kvm may open and run firmware and still hang a stock kernel (nested virtualisation does that), so the
only trusted sign is a Linux kernel that ran to its end under it. The verdict is kept per host kernel, QEMU
and probed guest kernel.
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
    """Whether KVM works, as far as `proof` shows: "linux" is proof, "firmware" only a good sign."""

    works: bool
    proof: Literal["none", "firmware", "linux"]
    why: str
    seconds: float = 0.0


def choose(wanted: str, kernel: Path | None) -> Literal["kvm", "tcg"]:
    """The accelerator for a machine that asks for `auto`, `kvm` or `tcg`, and will boot `kernel`
    (None: not built yet).

    Raises `InfrastructureError` if KVM was asked for by name and does not work.
    """
    if wanted == "tcg":
        return "tcg"
    verdict = probe(kernel)
    if verdict.works:
        return "kvm"
    if wanted == "kvm":
        raise InfrastructureError(f"KVM does not work here: {verdict.why}", hint="accelerator: tcg")
    warn(f"no usable KVM ({verdict.why}): emulating with TCG, some 10-20 times slower")
    return "tcg"


def probe(kernel: Path | None = None) -> Verdict:
    """Try KVM by booting something: `kernel` to the panic for want of a root, or else a boot sector.

    Takes at most `WITHIN` seconds the first time; the verdict is kept in the cache, a bad one for a day (a
    busy host can make a working KVM look like one that hangs).
    """
    if not KVM.exists():
        return Verdict(False, "none", "there is no /dev/kvm")
    if not os.access(KVM, os.R_OK | os.W_OK):
        return Verdict(False, "none", "/dev/kvm is not accessible: add yourself to the group kvm")
    qemu = which(settings.QEMU.get(), package="qemu-system-x86")
    key = files.sha256_json(
        [platform.release(), qemu_version(qemu), files.sha256_file(kernel) if kernel else "boot sector"]
    )
    memo = settings.cache_root() / "kvm" / f"{key[:32]}.json"
    known = _recall(memo)
    if known is not None:
        return known
    with step("Trying KVM") as s:
        verdict = _boot(qemu, kernel)
        s.done("works" if verdict.works else verdict.why)
    files.write_json(memo, asdict(verdict))
    return verdict


def _recall(memo: Path) -> Verdict | None:
    """The verdict that is kept there; None if there is none, or an old bad one, or it cannot be read."""
    try:
        known = Verdict(**files.read_json(memo))
        if known.works or time.time() - memo.stat().st_mtime < KEEP_FAILURE:
            return known
    except (OSError, ValueError, TypeError):
        pass
    return None


def qemu_version(qemu: str) -> str:
    """The first line of `qemu --version`."""
    return version_of(qemu)


def parse_version(text: str) -> tuple[int, int]:
    """(major, minor) of the first version in `text`."""
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
                said, _ = process.communicate(timeout=WITHIN)
            except subprocess.TimeoutExpired:
                what = "a Linux kernel" if kernel else "a boot sector"
                return Verdict(False, "none", f"/dev/kvm opens, but {what} hangs on it", WITHIN)
    seconds = round(time.monotonic() - started, 2)
    if kernel is None:
        if process.returncode == _BOOT_SECTOR_EXIT:
            return Verdict(True, "firmware", "firmware ran; no Linux kernel was tried yet", seconds)
    elif b"Unable to mount root fs" in said:
        return Verdict(True, "linux", "a Linux kernel ran to its end", seconds)
    last = said.decode(errors="replace").strip().splitlines()[-1:] or [f"exit {process.returncode}"]
    return Verdict(False, "none", f"QEMU with KVM failed: {last[0].split(': ', 1)[-1]}", seconds)
