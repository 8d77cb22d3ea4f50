# SPDX-License-Identifier: Apache-2.0
"""Whether a kernel can be installed on a target, or booted once. Pure functions of its state."""

from __future__ import annotations

from testbed.host.doctor import Check
from testbed.targets.kernel import cmdline
from testbed.targets.kernel.state import PROGRAMS, BootState

_MAX_ADDRESS_BITS = 51  # the profiler marks pages by bit 51 of their entries (docs/profiler.md)
_INITRAMFS = 64 << 20  # bytes, if the machine has none to compare with
_BY_HAND = "--build-only builds the kernel; docs/targets.md says how to install it by hand"
# GRUB reads its variables from these, but cannot write them there
_READ_ONLY = {"btrfs", "cpiofs", "diskfilter", "lvm", "newc", "odc", "romfs", "squash4", "tarfs", "zfs"}


def basic(state: BootState) -> list[Check]:
    """Check whether kernels can be installed at all."""
    return [_loader(state), _initramfs(state), _secure_boot(state), _root(state), _processor(state)]


def space(state: BootState, *, kernel: int, modules: int) -> list[Check]:
    """Check the free space for the files of a kernel in /boot and for its modules, sizes in bytes."""
    return [
        _space("/boot", state.boot_free, kernel + (state.initramfs or _INITRAMFS)),
        _space("/lib/modules", state.modules_free, modules),
    ]


def once(state: BootState) -> list[Check]:
    """Check that GRUB can boot a kernel once, and forgets it with that."""
    return [_environment(state), _password(state)]


def _missing(state: BootState, *names: str) -> str:
    return ", ".join(name for name in names if name in state.missing)


def _loader(state: BootState) -> Check:
    missing = _missing(state, "update-grub", "grub-editenv", "grub-probe", "grub-reboot")
    if missing or not state.menu:
        detail = f"GRUB 2 is not what boots this machine: no {missing or '/boot/grub/grub.cfg'}"
        return Check("boot loader", "fail", detail, _BY_HAND)
    if not state.writable:
        return Check("boot loader", "fail", "/boot is read-only", "mount -o remount,rw /boot")
    return Check("boot loader", "ok", "GRUB 2")


def _initramfs(state: BootState) -> Check:
    missing = _missing(state, "mkinitramfs", "depmod")
    if missing:
        packages = " ".join(sorted({PROGRAMS[name] for name in missing.split(", ")}))
        fix = f"apt-get install {packages}, or on other distributions: {_BY_HAND}"
        return Check("initramfs", "fail", f"no {missing}", fix)
    return Check("initramfs", "ok", "mkinitramfs")


def _secure_boot(state: BootState) -> Check:
    if state.secure_boot:
        detail = "it is on, and refuses kernels that are not signed"
        return Check("Secure Boot", "fail", detail, "switch it off in the firmware's settings")
    return Check("Secure Boot", "ok", "off")


def _root(state: BootState) -> Check:
    root = cmdline.root_of(state.cmdline)
    if root is None:
        detail = "the command line of the running kernel has no root="
        return Check("root file system", "fail", detail, _BY_HAND)
    return Check("root file system", "ok", root)


def _processor(state: BootState) -> Check:
    detail = f"{state.address_bits} physical address bits"
    if state.address_bits > _MAX_ADDRESS_BITS:
        detail = f"{detail}: the page-access profiler needs at most {_MAX_ADDRESS_BITS}"
        return Check("processor", "fail", detail, "runs need no profiler: use the machine's own kernel")
    return Check("processor", "ok", detail if state.address_bits else "physical address bits unknown")


def _space(place: str, free: int, needed: int) -> Check:
    detail = f"{free >> 20} MiB free"
    enough = needed + needed // 10
    if free < enough:
        fix = "remove kernels that are not used: apt-get autoremove, sentinel target remove-kernel"
        return Check(place, "fail", f"{detail}; needs {(enough >> 20) + 1} MiB", fix)
    return Check(place, "ok", detail)


def _environment(state: BootState) -> Check:
    read_only = sorted(_READ_ONLY.intersection(state.environment))
    if read_only or not state.once:
        why = f"cannot write to {', '.join(read_only)}" if read_only else "does not know `next_entry`"
        detail = f"GRUB {why}, so it would boot the kernel again and again"
        return Check("boot once", "fail", detail, "without --reboot; then choose the entry in GRUB's menu")
    return Check("boot once", "ok", "grub-reboot")


def _password(state: BootState) -> Check:
    if state.password:
        detail = "GRUB asks for a password before it boots an entry"
        return Check("boot menu", "fail", detail, "without --reboot; then choose the entry in GRUB's menu")
    return Check("boot menu", "ok", "no password")
