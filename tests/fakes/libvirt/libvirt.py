# SPDX-License-Identifier: Apache-2.0
"""Stands in for libvirt's module in a keeper that a test starts with this folder on PYTHONPATH.

Its QEMU is a Python process that names the disk on its command line, sleeps, and outlives the keeper as a
real one does. `$FAKE_LIBVIRT/behaviour.json` says what to refuse:

    {"open": message, "create": message, "save": message, "busy_ports": [...], "busy": true}

`$FAKE_LIBVIRT/calls` gets a line for every call.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

VIR_DOMAIN_EVENT_ID_LIFECYCLE = 0
VIR_DOMAIN_EVENT_ID_IO_ERROR_REASON = 4
VIR_DOMAIN_EVENT_IO_ERROR_PAUSE = 1
VIR_DOMAIN_EVENT_STOPPED = 5
VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN = 0
VIR_DOMAIN_EVENT_STOPPED_DESTROYED = 1
VIR_DOMAIN_EVENT_STOPPED_CRASHED = 2
VIR_DOMAIN_EVENT_STOPPED_SAVED = 4
VIR_DOMAIN_EVENT_STOPPED_FAILED = 5
VIR_DOMAIN_SAVE_RUNNING = 2
VIR_DOMAIN_START_AUTODESTROY = 2

_events: queue.Queue[Callable[[], None]] = queue.Queue()
_folder = Path(os.environ["FAKE_LIBVIRT"])
_QEMU = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print("ready", flush=True)
time.sleep(120)
"""


class libvirtError(Exception):  # noqa: N801 -- libvirt's name
    """What libvirt raises."""


def behaviour(key: str) -> Any:
    path = _folder / "behaviour.json"
    return json.loads(path.read_text()).get(key) if path.exists() else None


def called(what: str) -> None:
    with (_folder / "calls").open("a") as f:
        f.write(what + "\n")


def _refuse(key: str) -> None:
    if behaviour(key):
        raise libvirtError(f"internal error: {behaviour(key)}")


class virDomain:  # noqa: N801 -- libvirt's name
    def __init__(self, connection: virConnect, xml: str) -> None:
        tree = ElementTree.fromstring(xml)  # noqa: S314 -- our own
        source = tree.find("devices/disk/source")
        assert source is not None
        self._connection = connection
        self._uuid = tree.findtext("uuid")
        self._detail: int | None = None
        self._qemu = subprocess.Popen(
            [sys.executable, "-S", "-c", _QEMU, "-blockdev", f'{{"filename":"{source.get("file")}"}}'],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        assert self._qemu.stdout is not None
        self._qemu.stdout.readline()
        (_folder / "qemu.pid").write_text(str(self._qemu.pid))
        threading.Thread(target=self._wait, daemon=True).start()

    def _wait(self) -> None:
        code = self._qemu.wait()
        detail = VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN if code == 0 else VIR_DOMAIN_EVENT_STOPPED_FAILED
        if self._detail is not None:
            detail = self._detail
        for callback, opaque in self._connection.callbacks[VIR_DOMAIN_EVENT_ID_LIFECYCLE]:
            _events.put(
                lambda callback=callback, opaque=opaque: callback(  # type: ignore[misc]
                    self._connection, self, VIR_DOMAIN_EVENT_STOPPED, detail, opaque
                )
            )

    def _end(self, detail: int) -> None:
        if self._qemu.poll() is not None:
            raise libvirtError("domain is not running")
        self._detail = detail
        self._qemu.kill()

    def fail_disk(self, reason: str) -> None:
        """As if QEMU had paused the machine for an error of the host's disk."""
        for callback, opaque in self._connection.callbacks[VIR_DOMAIN_EVENT_ID_IO_ERROR_REASON]:
            callback(self._connection, self, "/there/disk.qcow2", "virtio-disk0", 1, reason, opaque)

    def UUIDString(self) -> str | None:  # noqa: N802 -- libvirt's name
        return self._uuid

    def destroy(self) -> None:
        called("destroy")
        self._end(VIR_DOMAIN_EVENT_STOPPED_DESTROYED)

    def save(self, to: str) -> None:
        called(f"save {to}")
        _refuse("save")
        Path(to).write_text("memory")
        self._end(VIR_DOMAIN_EVENT_STOPPED_SAVED)


class virConnect:  # noqa: N801 -- libvirt's name
    def __init__(self) -> None:
        self.callbacks: dict[int, list[tuple[Callable[..., None], Any]]] = defaultdict(list)
        self._domain: virDomain | None = None

    def domainEventRegisterAny(  # noqa: N802 -- libvirt's name
        self, domain: None, event: int, callback: Callable[..., None], opaque: Any
    ) -> int:
        self.callbacks[event].append((callback, opaque))
        return 0

    def createXML(self, xml: str, flags: int) -> virDomain:  # noqa: N802 -- libvirt's name
        called(f"create flags={flags}")
        _refuse("create")
        return virDomain(self, xml)

    def restoreFlags(self, path: str, xml: str, flags: int) -> None:  # noqa: N802 -- libvirt's name
        called(f"restore {path} flags={flags}")
        _refuse("create")
        self._domain = virDomain(self, xml)

    def lookupByUUIDString(self, uuid: str) -> virDomain:  # noqa: N802 -- libvirt's name
        if self._domain is None or self._domain.UUIDString() != uuid:
            raise libvirtError(f"no domain with UUID {uuid}")
        return self._domain


def open(uri: str) -> virConnect:
    called(f"open {uri}")
    _refuse("open")
    return virConnect()


def registerErrorHandler(handler: Callable[..., None], context: Any) -> None:  # noqa: N802 -- libvirt's name
    """Errors are only raised."""


def virEventRegisterDefaultImpl() -> None:  # noqa: N802 -- libvirt's name
    """There is one loop."""


def virEventRunDefaultImpl() -> None:  # noqa: N802 -- libvirt's name
    _events.get()()
