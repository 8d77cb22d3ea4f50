# SPDX-License-Identifier: Apache-2.0
"""Connecting to libvirt: a driver inside this process by default, any libvirt URI by option.

Only `testbed.vm.supervisor` and `testbed.host.doctor` import this module: no other command pays for libvirt.
"""

from __future__ import annotations

import getpass
import grp
import os
import threading
from pathlib import Path

# libvirt's library prints on standard error by default; failures reach us as exceptions anyway.
os.environ.setdefault("LIBVIRT_LOG_OUTPUTS", "4:file:/dev/null")
import libvirt

from testbed.common import files, settings
from testbed.common.errors import InfrastructureError

EMBED = "embed"

# The embedded driver reads this instead of /etc/libvirt/qemu.conf. No daemon means no virtlogd (stdio
# straight to files), nobody to switch users to, and no cgroup or mount namespace to set up.
_QEMU_CONF = """\
stdio_handler = "file"
user = "{user}"
group = "{group}"
remember_owner = 0
security_driver = "none"
namespaces = []
cgroup_controllers = []
save_image_format = "raw"
"""

_loop: threading.Thread | None = None


def resolve(uri: str, root: Path) -> str:
    """The libvirt URI for `uri`, which may be the word `embed`: then the driver keeps its files in `root`."""
    return f"qemu:///embed?root={root}" if uri == EMBED else uri


def connect(uri: str, *, root: Path) -> libvirt.virConnect:
    """An open connection with its event loop running. Raises `InfrastructureError`."""
    start_event_loop()
    libvirt.registerErrorHandler(lambda _ctx, _error: None, None)  # errors reach us as exceptions
    if uri == EMBED:
        prepare_root(root)
    try:
        return libvirt.open(resolve(uri, root))
    except libvirt.libvirtError as e:
        hint = "apt-get install libvirt-daemon-system" if uri == EMBED else "is that libvirt running?"
        raise InfrastructureError(f"libvirt does not open {resolve(uri, root)}: {e}", hint=hint) from None


def prepare_root(root: Path) -> None:
    """Make the folder of an embedded driver.

    Its probe of QEMU's capabilities takes seconds, so all drivers of a cache share what it found (libvirt
    itself checks that it still fits the QEMU binary).
    """
    shared = settings.cache_root() / "libvirt"
    shared.mkdir(parents=True, exist_ok=True)
    (root / "etc").mkdir(parents=True, exist_ok=True)
    (root / "cache").unlink(missing_ok=True)
    (root / "cache").symlink_to(shared)
    conf = _QEMU_CONF.format(user=getpass.getuser(), group=grp.getgrgid(os.getgid()).gr_name)
    files.write_atomic(root / "etc" / "qemu.conf", conf)


def start_event_loop() -> None:
    """Run libvirt's event loop in a thread, once per process; connections need it to notice anything."""
    global _loop  # noqa: PLW0603 -- libvirt has one event loop per process
    if _loop is not None:
        return
    libvirt.virEventRegisterDefaultImpl()

    def turn() -> None:
        while True:
            libvirt.virEventRunDefaultImpl()

    _loop = threading.Thread(target=turn, name="libvirt events", daemon=True)
    _loop.start()
