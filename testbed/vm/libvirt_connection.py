# SPDX-License-Identifier: Apache-2.0
"""Connections to libvirt: the embedded driver by default, or any libvirt URI.

Only `testbed.vm.supervisor` and `testbed.host.doctor` import this module, because importing libvirt is slow.
"""

from __future__ import annotations

import getpass
import grp
import os
import threading
from pathlib import Path

# libvirt prints on standard error by default; its errors also arrive as exceptions.
os.environ.setdefault("LIBVIRT_LOG_OUTPUTS", "4:file:/dev/null")
import libvirt

from testbed.common import files, settings
from testbed.common.errors import InfrastructureError

EMBED = "embed"

# The embedded driver reads this instead of /etc/libvirt/qemu.conf. Without a daemon there is no virtlogd, so
# output goes to files, and the driver cannot switch users or set up cgroups and mount namespaces.
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
    """Return the libvirt URI. For `embed` the driver keeps its files in `root`."""
    return f"qemu:///embed?root={root}" if uri == EMBED else uri


def connect(uri: str, *, root: Path) -> libvirt.virConnect:
    """Open a connection, with the event loop running. Raises `InfrastructureError`."""
    start_event_loop()
    libvirt.registerErrorHandler(lambda _ctx, _error: None, None)
    if uri == EMBED:
        prepare_root(root)
    try:
        return libvirt.open(resolve(uri, root))
    except libvirt.libvirtError as e:
        hint = "apt-get install libvirt-daemon-system" if uri == EMBED else "check that this libvirt runs"
        raise InfrastructureError(f"cannot open libvirt at {resolve(uri, root)}: {e}", hint=hint) from None


def prepare_root(root: Path) -> None:
    """Create the folder of an embedded driver.

    Probing QEMU's capabilities takes seconds, so all drivers share one cache of them; libvirt checks that it
    fits the QEMU binary.
    """
    shared = settings.cache_root() / "libvirt"
    shared.mkdir(parents=True, exist_ok=True)
    (root / "etc").mkdir(parents=True, exist_ok=True)
    (root / "cache").unlink(missing_ok=True)
    (root / "cache").symlink_to(shared)
    conf = _QEMU_CONF.format(user=getpass.getuser(), group=grp.getgrgid(os.getgid()).gr_name)
    files.write_atomic(root / "etc" / "qemu.conf", conf)


def start_event_loop() -> None:
    """Run libvirt's event loop in a thread, once per process; connections get events only from it."""
    global _loop  # noqa: PLW0603 -- libvirt has one event loop per process
    if _loop is not None:
        return
    libvirt.virEventRegisterDefaultImpl()

    def turn() -> None:
        while True:
            libvirt.virEventRunDefaultImpl()

    _loop = threading.Thread(target=turn, name="libvirt events", daemon=True)
    _loop.start()
