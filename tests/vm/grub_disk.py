# SPDX-License-Identifier: Apache-2.0
"""A disk that boots Debian 12 by GRUB, and a machine on it: a stand-in for a real machine.

The disk is made without mounts: mmdebstrap writes the tree, `mke2fs -d` the only partition, and GRUB is put
before it as grub-install would: its boot sector, and its core image in the gap behind it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from images import definition
from kernel.build import Kernel
from testbed.common import settings
from testbed.common.run import find, run, spawn
from testbed.vm import ports

PROGRAMS = {  # program -> Debian package
    "grub-mkimage": "grub-common",
    "grub-script-check": "grub-common",
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "fakeroot": "fakeroot",
    "ssh-keygen": "openssh-client",
}
GRUB_FILES = Path("/usr/lib/grub/i386-pc")  # of grub-pc-bin
_SUITE = "bookworm"
_PACKAGES = (
    *("grub2-common", "initramfs-tools", "iproute2", "kmod", "mount", "openssh-server", "procps"),
    *("sysvinit-core", "udev"),
)
_SECTOR, _GAP = 512, 1 << 20  # bytes
_DISK_BYTES = 6 << 30  # sparse
_TABLE = 446  # offset of the partition table in the boot sector
_LINUX = 0x83  # type of the partition
# ip=: the fixed addresses of QEMU's user networking (testbed/vm/domain.py)
_CMDLINE = "rw console=ttyS0 net.ifnames=0 ip=10.0.2.15::10.0.2.2:255.255.255.0::eth0:off"
_FILES = {
    "etc/default/grub": f"""\
GRUB_DEFAULT=0
GRUB_TIMEOUT=1
GRUB_TERMINAL=console
GRUB_DISTRIBUTOR=Debian
GRUB_CMDLINE_LINUX="{_CMDLINE}"
""",
    # As in images/guest, and it can be rebooted. GRUB does not read ext4's journal: the file system has to be
    # read-only by then.
    "etc/inittab": """\
id:2:initdefault:
bt::sysinit:/usr/lib/sentinel/boot
ss:2:respawn:/usr/sbin/sshd -D -e 2>/dev/null
l6:6:wait:/bin/sh -c 'sync; echo u >/proc/sysrq-trigger; sleep 2; /sbin/reboot -d -f'
""",
    "etc/fstab": "",
    "etc/hostname": "target\n",
}
# Until update-grub has run there for the first time
_MENU = """\
set timeout=0
menuentry 'Debian' {{
  linux /boot/vmlinuz-{release} root=/dev/vda1 {cmdline}
}}
"""
# $1: mmdebstrap's tar, $2: a folder for its tree, $3: files to add, $4: the disk, $5: where its partition is,
# $6: the size of that in KiB. One shell, because fakeroot forgets owners at the end of its session.
_WRITE = """
mkdir "$2"
tar --numeric-owner --exclude='./dev/*' -xf "$1" -C "$2"
cp -r --no-preserve=ownership "$3/." "$2"
mke2fs -q -t ext4 -m 0 -O ^metadata_csum_seed,^orphan_file -E "root_owner=0:0,offset=$5" -L target \\
  -d "$2" "$4" "$6k"
"""


def missing() -> str | None:
    """Return which Debian packages are missing, None if the disk can be made."""
    packages = {package for program, package in PROGRAMS.items() if find(program) is None}
    if not GRUB_FILES.is_dir():
        packages.add("grub-pc-bin")
    return f"apt-get install {' '.join(sorted(packages))}" if packages else None


def write_disk(folder: Path, kernel: Kernel, *, public_key: str) -> Path:
    """Write the disk whose only kernel is `kernel`. Its host key is `folder`/host_key.pub."""
    tar, files, disk = folder / "tree.tar", folder / "files", folder / "disk"
    _debootstrap(tar)
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "target", "-f", folder / "host_key"])
    _add_files(files, folder / "host_key", kernel, public_key)
    with disk.open("wb") as f:
        f.truncate(_DISK_BYTES)
    as_root = [] if os.geteuid() == 0 else ["fakeroot"]
    paths = (str(path) for path in (tar, folder / "tree", files, disk))
    run([*as_root, "sh", "-euc", _WRITE, "sh", *paths, str(_GAP), str((_DISK_BYTES - _GAP) >> 10)])
    _write_grub(disk, folder / "core.img")
    for path in (folder / "tree", files):
        shutil.rmtree(path)
    tar.unlink()
    return disk


def _debootstrap(tar: Path) -> None:
    mirror = [settings.MIRROR.get()] if settings.MIRROR.get() else []
    include = f"--include={','.join(_PACKAGES)}"
    options = ["--variant=minbase", include, '--aptopt=APT::Install-Recommends "false"']
    run(["mmdebstrap", *options, "--format=tar", _SUITE, tar, *mirror])


def _add_files(folder: Path, host_key: Path, kernel: Kernel, public_key: str) -> None:
    """Write what the disk has beyond Debian's packages into a folder."""
    texts = {
        **_FILES,
        "boot/grub/grub.cfg": menu(kernel),
        "root/.ssh/authorized_keys": f"ssh-ed25519 {public_key}\n",
        "etc/ssh/sshd_config": (definition.GUEST / "sshd_config").read_text(),
        "etc/ssh/ssh_host_ed25519_key": host_key.read_text(),
        "usr/lib/sentinel/boot": (definition.GUEST / "boot").read_text(),
    }
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for name, mode in (
        ("usr/lib/sentinel/boot", 0o755),
        ("etc/ssh/ssh_host_ed25519_key", 0o600),
        ("root/.ssh", 0o700),
    ):
        (folder / name).chmod(mode)
    shutil.copyfile(kernel.bzimage, folder / f"boot/vmlinuz-{kernel.release}")
    shutil.copyfile(kernel.config, folder / f"boot/config-{kernel.release}")
    modules = folder / "boot/grub" / GRUB_FILES.name
    modules.mkdir()
    for path in GRUB_FILES.iterdir():
        if path.suffix in (".mod", ".lst"):
            shutil.copy(path, modules)


def menu(kernel: Kernel) -> str:
    """Return the first grub.cfg."""
    return _MENU.format(release=kernel.release, cmdline=_CMDLINE)


def _write_grub(disk: Path, core: Path) -> None:
    """Write boot sector, partition table and GRUB's core image before the partition.

    The boot sector loads the first sector of the core image from sector 1, and that the rest from sector 2:
    these are the places for which both are made.
    """
    modules = ["biosdisk", "part_msdos", "ext2"]
    prefix = "--prefix=(hd0,msdos1)/boot/grub"
    run(["grub-mkimage", "--format=i386-pc", prefix, f"--output={core}", *modules])
    image = core.read_bytes()
    assert _SECTOR + len(image) <= _GAP, "GRUB's core image does not fit before the partition"
    first, count = _GAP // _SECTOR, (_DISK_BYTES - _GAP) // _SECTOR
    partition = struct.pack("<B3xB3xII", 0x80, _LINUX, first, count)
    sector = (GRUB_FILES / "boot.img").read_bytes()[:_TABLE] + partition.ljust(64, b"\0") + b"\x55\xaa"
    with disk.open("r+b") as f:
        f.write(sector + image)


@dataclass(frozen=True)
class Started:
    """A machine that boots from such a disk, with its SSH server on a port of loopback."""

    port: int
    console: Path


@contextlib.contextmanager
def started(disk: Path, *, accelerator: str) -> Iterator[Started]:
    """Run the machine for the block."""
    port = next(ports.candidates())
    console = disk.with_name("console.log")
    forward = f"hostfwd=tcp:127.0.0.1:{port}-:22"
    command = [
        settings.QEMU.get(),
        *["-accel", accelerator, "-cpu", "host" if accelerator == "kvm" else "max"],
        *["-machine", "q35", "-smp", "2", "-m", "4096", "-nodefaults", "-display", "none"],
        *["-drive", f"file={disk},format=raw,if=virtio,cache=unsafe"],
        *["-nic", f"user,model=virtio-net-pci,{forward}"],
        *["-device", "virtio-rng-pci", "-vga", "std"],
        *["-serial", f"file:{console}"],
    ]
    with spawn(command):
        yield Started(port, console)
