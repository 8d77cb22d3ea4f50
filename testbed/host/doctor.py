# SPDX-License-Identifier: Apache-2.0
"""Check this host: one line for each requirement, ok, warn or fail, with the command that fixes it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from testbed.common import settings
from testbed.common.errors import SentinelError
from testbed.common.run import find
from testbed.host import accel, memory
from testbed.timing import plugin

MIN_MEMORY = 6 << 30  # bytes: the default machine, and room to build
MIN_DISK = 12 << 30  # bytes: a kernel tree with its objects, a guest image, some snapshots
OLDEST_QEMU = (7, 2)
BUILD_TOOLS = {  # program -> Debian package
    "bc": "bc",
    "bison": "bison",
    "flex": "flex",
    "gcc": "gcc",
    "make": "make",
    "patch": "patch",
    "strip": "binutils",
    "xz": "xz-utils",
}
IMAGE_TOOLS = {"mmdebstrap": "mmdebstrap", "mke2fs": "e2fsprogs"}
USER_IMAGE_TOOLS = {"fakeroot": "fakeroot", "newuidmap": "uidmap"}  # needed by users other than root
OVERLAY_TOOLS = {"qemu-img": "qemu-utils"}
SSH_TOOLS = {"ssh": "openssh-client", "ssh-keygen": "openssh-client"}
# Of the kernel's host tools and the timing plugin
_HEADERS = {"libelf.h": "libelf-dev", "openssl/ssl.h": "libssl-dev", "Zydis/Zydis.h": "libzydis-dev"}

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Check:
    """The result of one check. `fix` is the command or advice that fixes it."""

    name: str
    state: State
    detail: str
    fix: str = ""


def libvirt_version(uri: str) -> int:
    """Connect to libvirt and return its version, major * 1000000 + minor * 1000 + release."""
    from testbed.vm import libvirt_connection

    with tempfile.TemporaryDirectory(prefix="sentinel-doctor-") as folder:
        connection = libvirt_connection.connect(uri, root=Path(folder))
        try:
            return int(connection.getLibVersion())
        finally:
            connection.close()


def free_disk(path: Path) -> int:
    """Return the free bytes of the file system at `path`, which is created if needed."""
    path.mkdir(parents=True, exist_ok=True)
    return shutil.disk_usage(path).free


@dataclass(frozen=True)
class Host:
    """What the checks read of the host besides programs on PATH."""

    kvm: Callable[[Path | None], accel.Verdict] = accel.probe
    libvirt_version: Callable[[str], int] = libvirt_version
    available_memory: Callable[[], int] = memory.available
    free_disk: Callable[[Path], int] = free_disk
    node_numbers: Callable[[], list[int]] = memory.node_numbers
    include: Path = Path("/usr/include")


def examine(*, kernel: Path | None = None, uri: str | None = None, host: Host | None = None) -> list[Check]:
    """Run all checks. `kernel`, if one is built, is what KVM is probed with."""
    host = host or Host()
    image_tools = IMAGE_TOOLS if os.geteuid() == 0 else {**IMAGE_TOOLS, **USER_IMAGE_TOOLS}
    checks: dict[str, Callable[[str], Check]] = {
        "QEMU": _qemu,
        "QEMU plugins": _plugins,
        "KVM": partial(_kvm, host=host, kernel=kernel),
        "libvirt": partial(_libvirt, host=host, uri=uri or settings.LIBVIRT_URI.get()),
        "build tools": partial(_programs, packages=BUILD_TOOLS),
        "build headers": partial(_headers, host=host),
        "image tools": partial(_programs, packages=image_tools),
        "disk overlays": partial(_programs, packages=OVERLAY_TOOLS),
        "ssh client": partial(_programs, packages=SSH_TOOLS),
        "ccache": _ccache,
        "memory": partial(_memory, host=host),
        "disk": partial(_disk, host=host),
        "host NUMA": partial(_numa, host=host),
    }
    return [_guarded(name, check) for name, check in checks.items()]


def _guarded(name: str, check: Callable[[str], Check]) -> Check:
    """Run a check; one that raises has failed."""
    try:
        return check(name)
    except SentinelError as e:
        return Check(name, "fail", e.message, e.hint or "")
    except ImportError as e:
        return Check(name, "fail", f"Python cannot import {e.name}: {e}", "make testbed")
    except OSError as e:
        return Check(name, "fail", str(e))


def _qemu(name: str) -> Check:
    program = settings.QEMU.get()
    if find(program) is None:
        return Check(name, "fail", f"{program} is not installed", "apt-get install qemu-system-x86")
    text = accel.qemu_version(program)
    if accel.parse_version(text) < OLDEST_QEMU:
        return Check(name, "fail", f"{text}; needs 7.2 or newer", "apt-get install qemu-system-x86")
    return Check(name, "ok", text.removeprefix("QEMU emulator version "))


def _plugins(name: str) -> Check:
    """Check the plugin interface, which the timing model needs; version 4 counts fastest."""
    program = settings.QEMU.get()
    if find(program) is None:
        return Check(name, "fail", "no QEMU", "apt-get install qemu-system-x86")
    if not plugin.supported(program):
        return Check(name, "warn", "this QEMU was built without plugins", "use Debian's qemu-system-x86")
    api = plugin.api_of(accel.parse_version(accel.qemu_version(program)))
    if api is None:
        return Check(name, "fail", "this QEMU is too old", "apt-get install qemu-system-x86")
    if api < 4:
        fix = "apt-get install -t bookworm-backports qemu-system-x86 (QEMU 10)"
        return Check(name, "ok", f"interface {api}; newer QEMU has 4 (faster counting)", fix)
    return Check(name, "ok", f"interface {api}")


def _kvm(name: str, *, host: Host, kernel: Path | None) -> Check:
    verdict = host.kvm(kernel)
    if verdict.works and verdict.proof == "linux":
        return Check(name, "ok", f"boots Linux ({verdict.seconds} s)")
    if verdict.works:
        return Check(name, "warn", verdict.why, "sentinel kernel build, then sentinel doctor again")
    return Check(name, "warn", f"{verdict.why}; machines run under TCG", "use a host with KVM for speed")


def _libvirt(name: str, *, host: Host, uri: str) -> Check:
    number = host.libvirt_version(uri)
    version = f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"
    return Check(name, "ok", f"{version}, {'embedded driver (qemu:///embed)' if uri == 'embed' else uri}")


def _programs(name: str, *, packages: dict[str, str]) -> Check:
    missing = {program: package for program, package in packages.items() if find(program) is None}
    if missing:
        install = " ".join(sorted(set(missing.values())))
        return Check(name, "fail", f"missing: {', '.join(missing)}", f"apt-get install {install}")
    return Check(name, "ok", ", ".join(packages))


def _headers(name: str, *, host: Host) -> Check:
    missing = [package for header, package in _HEADERS.items() if not (host.include / header).exists()]
    if missing:
        return Check(name, "fail", f"missing: {', '.join(missing)}", f"apt-get install {' '.join(missing)}")
    return Check(name, "ok", ", ".join(_HEADERS))


def _ccache(name: str) -> Check:
    if find("ccache") is None:
        return Check(
            name, "warn", "not installed; rebuilding a kernel takes minutes longer", "apt-get install ccache"
        )
    return Check(name, "ok", "used for kernels")


def _memory(name: str, *, host: Host) -> Check:
    free = host.available_memory()
    detail = f"{free / (1 << 30):.1f} GiB available"
    if free < MIN_MEMORY:
        return Check(
            name, "warn", f"{detail}; the default machine needs {MIN_MEMORY >> 30}", "close other programs"
        )
    return Check(name, "ok", detail)


def _disk(name: str, *, host: Host) -> Check:
    root = settings.cache_root()
    free = host.free_disk(root)
    detail = f"{free / (1 << 30):.0f} GiB free at {root}"
    if free < MIN_DISK:
        return Check(name, "warn", f"{detail}; needs {MIN_DISK >> 30}", "sentinel cache prune")
    return Check(name, "ok", detail)


def _numa(name: str, *, host: Host) -> Check:
    nodes = host.node_numbers()
    if len(nodes) > 1:
        return Check(name, "ok", f"nodes {', '.join(map(str, nodes))}")
    return Check(name, "ok", "one node: the timing model emulates the slow tier")
