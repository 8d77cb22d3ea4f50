# SPDX-License-Identifier: Apache-2.0
"""What this host can do, in one screen: each line ok, warn or fail, with the command that mends it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from testbed.common import settings
from testbed.common.errors import SentinelError
from testbed.common.run import find
from testbed.host import accel
from testbed.machine import host_available
from testbed.timing import plugin

MIN_MEMORY = 6 << 30  # bytes: the default machine, and room to build
MIN_DISK = 12 << 30  # bytes: a kernel tree with its objects, a guest image, some snapshots
_BUILD_TOOLS = {  # program -> Debian package
    "bc": "bc",
    "bison": "bison",
    "flex": "flex",
    "gcc": "gcc",
    "make": "make",
    "patch": "patch",
    "strip": "binutils",
    "xz": "xz-utils",
}
_IMAGE_TOOLS = {"mmdebstrap": "mmdebstrap", "mke2fs": "e2fsprogs"}
_USER_IMAGE_TOOLS = {"fakeroot": "fakeroot", "newuidmap": "uidmap"}

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Check:
    """One line: what was looked at, how it is, what was found, and what mends it."""

    name: str
    state: State
    found: str
    mend: str = ""


def examine(*, kernel: Path | None = None, uri: str | None = None) -> list[Check]:
    """All checks. `kernel`, if there is a built one, is what KVM is tried with."""
    image_tools = _IMAGE_TOOLS if os.geteuid() == 0 else {**_IMAGE_TOOLS, **_USER_IMAGE_TOOLS}
    checks: dict[str, Callable[[], Check]] = {
        "QEMU": qemu,
        "QEMU plugins": plugins,
        "KVM": lambda: kvm(kernel),
        "libvirt": lambda: libvirt_connection(uri or settings.LIBVIRT_URI.get()),
        "build tools": lambda: tools("build tools", _BUILD_TOOLS),
        "build headers": headers,
        "image tools": lambda: tools("image tools", image_tools),
        "disk overlays": lambda: tools("disk overlays", {"qemu-img": "qemu-utils"}),
        "ssh client": lambda: tools("ssh client", {"ssh": "openssh-client", "ssh-keygen": "openssh-client"}),
        "ccache": ccache,
        "memory": memory,
        "disk": disk,
        "host NUMA": numa,
    }
    return [_guarded(name, check) for name, check in checks.items()]


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    """A check that cannot be made is a failed one."""
    try:
        return check()
    except SentinelError as e:
        return Check(name, "fail", e.message, e.hint or "")
    except ImportError as e:
        return Check(name, "fail", f"Python cannot import {e.name}: {e}", "make testbed")
    except OSError as e:
        return Check(name, "fail", str(e))


def qemu() -> Check:
    program = settings.QEMU.get()
    if find(program) is None:
        return Check("QEMU", "fail", f"{program} is not installed", "apt-get install qemu-system-x86")
    text = accel.qemu_version(program)
    version = accel.parse_version(text)
    if version < (7, 2):
        return Check("QEMU", "fail", f"{text}; 7.2 or newer is needed", "apt-get install qemu-system-x86")
    return Check("QEMU", "ok", text.removeprefix("QEMU emulator version "))


def plugins() -> Check:
    """Which plugin interface QEMU has: the timing model needs it (4 for the full model)."""
    program = settings.QEMU.get()
    if find(program) is None:
        return Check("QEMU plugins", "fail", "no QEMU", "apt-get install qemu-system-x86")
    if not plugin.supported(program):
        return Check(
            "QEMU plugins", "warn", "this QEMU was built without plugins", "use Debian's qemu-system-x86"
        )
    api = plugin.api_of(accel.parse_version(accel.qemu_version(program)))
    if api is None:
        return Check("QEMU plugins", "fail", "this QEMU is too old", "apt-get install qemu-system-x86")
    if api < 4:
        mend = "apt-get install -t bookworm-backports qemu-system-x86 (QEMU 10)"
        return Check("QEMU plugins", "ok", f"interface {api}; newer QEMU has 4 (faster counting)", mend)
    return Check("QEMU plugins", "ok", f"interface {api}")


def kvm(kernel: Path | None) -> Check:
    verdict = accel.probe(kernel)
    if verdict.works and verdict.proof == "linux":
        return Check("KVM", "ok", f"boots Linux ({verdict.seconds} s)")
    if verdict.works:
        return Check("KVM", "warn", f"{verdict.why}", "sentinel kernel build, then sentinel doctor again")
    return Check(
        "KVM", "warn", f"{verdict.why}: machines run under TCG", "run on hardware with KVM for speed"
    )


def libvirt_connection(uri: str) -> Check:
    from testbed.vm import libvirt_connection

    with tempfile.TemporaryDirectory(prefix="sentinel-doctor-") as folder:
        conn = libvirt_connection.connect(uri, root=Path(folder))
        try:
            number = conn.getLibVersion()
        finally:
            conn.close()
    version = f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"
    shown = "driver inside the process, no daemon (qemu:///embed)" if uri == libvirt_connection.EMBED else uri
    return Check("libvirt", "ok", f"{version}, {shown}")


def tools(name: str, wanted: dict[str, str]) -> Check:
    missing = {program: package for program, package in wanted.items() if find(program) is None}
    if missing:
        packages = " ".join(sorted(set(missing.values())))
        return Check(name, "fail", f"missing: {', '.join(missing)}", f"apt-get install {packages}")
    return Check(name, "ok", ", ".join(wanted))


def headers() -> Check:
    """Libraries the kernel's host tools are compiled against."""
    wanted = {"libelf.h": "libelf-dev", "openssl/ssl.h": "libssl-dev"}
    missing = [package for header, package in wanted.items() if not Path("/usr/include", header).exists()]
    if missing:
        return Check(
            "build headers", "fail", f"missing: {', '.join(missing)}", f"apt-get install {' '.join(missing)}"
        )
    return Check("build headers", "ok", ", ".join(wanted))


def ccache() -> Check:
    if find("ccache") is None:
        return Check(
            "ccache", "warn", "not installed: rebuilt kernels take minutes longer", "apt-get install ccache"
        )
    return Check("ccache", "ok", "used for kernels")


def memory() -> Check:
    free = host_available()
    found = f"{free / (1 << 30):.1f} GiB available"
    if free < MIN_MEMORY:
        return Check(
            "memory", "warn", f"{found}; the default machine wants {MIN_MEMORY >> 30}", "close something"
        )
    return Check("memory", "ok", found)


def disk() -> Check:
    root = settings.cache_root()
    root.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(root).free
    found = f"{free / (1 << 30):.0f} GiB free at {root}"
    if free < MIN_DISK:
        return Check("disk", "warn", f"{found}; {MIN_DISK >> 30} are wanted", "sentinel cache prune")
    return Check("disk", "ok", found)


def numa() -> Check:
    nodes = host_nodes()
    if len(nodes) > 1:
        return Check("host NUMA", "ok", f"nodes {', '.join(map(str, nodes))}")
    return Check("host NUMA", "ok", "one node: the slow tier is emulated")


def host_nodes() -> list[int]:
    """The host's memory nodes."""
    return sorted(int(p.name[4:]) for p in Path("/sys/devices/system/node").glob("node[0-9]*")) or [0]
