# SPDX-License-Identifier: Apache-2.0
"""The process that owns one machine: `python -m testbed.vm.supervisor FOLDER`.

libvirt's embedded driver lives inside one process, and a machine must not outlive whoever wanted it. So each
machine has a keeper. It holds the exclusive lock FOLDER/lock as long as it lives; it starts or restores the
domain described by FOLDER/order.json; it answers requests on a socket; and it ends the domain when told to,
when the process that started it goes away without having let go of it, or on SIGTERM. If the keeper itself is
killed outright, the next call of the testbed finds the lock free and ends the orphan (`testbed.vm.reap`).

Descriptor 0 is a pipe from the starter: a byte on it means "let go, stay without me", end of file before that
means "the starter died". The first line on standard output is a JSON report: `{"ok": true, ...}` or
`{"error": message, "hint": ...}`.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import libvirt
import libvirt_qemu

from testbed.common import files, processes
from testbed.common.cache import Cache
from testbed.common.errors import InfrastructureError, SentinelError
from testbed.common.run import which
from testbed.host import remote_memory
from testbed.timing import plugin
from testbed.vm import ending, libvirt_connection, ports

_NIC = "hostnet0"  # libvirt's name for the first network interface
_EVENT_REASONS = {  # libvirt's VIR_DOMAIN_EVENT_STOPPED_* -> our word
    libvirt.VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN: "shut down",
    libvirt.VIR_DOMAIN_EVENT_STOPPED_DESTROYED: "destroyed",
    libvirt.VIR_DOMAIN_EVENT_STOPPED_CRASHED: "crashed",
    libvirt.VIR_DOMAIN_EVENT_STOPPED_SAVED: "saved",
    libvirt.VIR_DOMAIN_EVENT_STOPPED_FAILED: "QEMU died",
}


class Keeper:
    """Owns one domain from its start to its end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.order: dict[str, Any] = files.read_json(folder / "order.json")
        self.root = Path(self.order["runtime"])
        self.domain: libvirt.virDomain | None = None
        self.ended: str | None = None  # why the domain is gone
        self._disk_error: str | None = None  # what the host's disk refused; the domain is paused then
        self._antagonist: subprocess.Popen[bytes] | None = None
        self._log = folder / "qemu.log"  # what QEMU and its plugin say
        self._wake_r, self._wake_w = os.pipe()

    def artefacts(self) -> contextlib.AbstractContextManager[None]:
        """Keeps the kernel, image and plugin in use from being pruned."""
        cache = Cache(Path(self.order["cache"]))
        uses = list(self.order["uses"])
        if self.order.get("plugin"):
            uses.append((plugin.KIND, self.order["plugin"]))
        entries = (cache.get(kind, key) for kind, key in uses)
        return cache.using(*(e for e in entries if e is not None))

    def start(self) -> dict[str, Any]:
        """Bring the domain up and forward its SSH port; returns the report for the starter."""
        ending.reserve(self.folder)
        conn = libvirt_connection.connect(self.order["uri"], root=self.root)
        conn.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._on_lifecycle, None)
        conn.domainEventRegisterAny(
            None, libvirt.VIR_DOMAIN_EVENT_ID_IO_ERROR_REASON, self._on_disk_error, None
        )
        xml = (self.folder / "domain.xml").read_text()
        # A daemon ends the domain by itself if we are killed; the embedded driver dies with us and cannot.
        flags = 0 if self.order["uri"] == libvirt_connection.EMBED else libvirt.VIR_DOMAIN_START_AUTODESTROY
        try:
            if self.order.get("restore"):
                conn.restoreFlags(self.order["restore"], xml, libvirt.VIR_DOMAIN_SAVE_RUNNING)
                self.domain = conn.lookupByUUIDString(self.order["uuid"])
            else:
                self.domain = conn.createXML(xml, flags)
        except libvirt.libvirtError as e:
            raise InfrastructureError(
                f"libvirt could not start the machine: {_one_line(e)}",
                hint="its log tells more; does QEMU itself start? sentinel doctor",
            ) from None
        self._start_antagonist()
        if self.order["uri"] == libvirt_connection.EMBED:
            self._log.symlink_to(self.root / "log" / "qemu" / f"{self.order['name']}.log")
        port = self._forward(self.order.get("ssh_port"))
        return {"ok": True, "port": port, "pid": os.getpid()}

    def _start_antagonist(self) -> None:
        """Keep the slow node's bandwidth busy, if the order says so; `close` ends it."""
        if "remote" not in self.order:
            return
        command = remote_memory.antagonist_command(remote_memory.load(self.order["remote"]))
        if command is None:
            return
        for program in ("numactl", "stress-ng"):
            which(program, package=program)
        with (self.folder / "antagonist.log").open("wb") as log:
            self._antagonist = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    def serve(self, report: dict[str, Any]) -> None:
        """Say that we are ready, and answer requests until the domain is gone."""
        with socket.socket(socket.AF_UNIX) as server, selectors.DefaultSelector() as selector:
            server.bind(str(self.root / "control"))
            server.listen()
            selector.register(server, selectors.EVENT_READ, "request")
            selector.register(self._wake_r, selectors.EVENT_READ, "wake")
            selector.register(0, selectors.EVENT_READ, "starter")
            print_report(report)
            while self.ended is None:
                for key, _ in selector.select():
                    if key.data == "request":
                        self._answer_one(server)
                    elif key.data == "starter":
                        let_go = os.read(0, 1)
                        selector.unregister(0)
                        if not let_go:
                            self.destroy("its owner died")
                    else:
                        os.read(self._wake_r, 64)
                        if self._disk_error is not None:
                            self.destroy(self._disk_error)

    def _answer_one(self, server: socket.socket) -> None:
        """One connection, one request line, one answer line; a peer that misbehaves harms only itself."""
        peer, _ = server.accept()
        with peer, contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            peer.settimeout(5)
            line = peer.makefile("rb").readline()
            answer = self.answer(json.loads(line))
            peer.settimeout(None)
            peer.sendall(json.dumps(answer).encode() + b"\n")

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Carry out one request: `ping`, `destroy` (`why`), `save` (`to`) or `monitor` (`command`, HMP)."""
        domain = self.domain
        assert domain is not None  # noqa: S101 -- serve() runs after start()
        try:
            match request["op"]:
                case "ping":
                    return {"ok": True}
                case "destroy":
                    self.destroy(str(request.get("why", "destroyed")))
                    return {"ok": True}
                case "save":
                    to = request["to"]
                    self.ended = "saved"
                    try:
                        domain.save(to)
                    except libvirt.libvirtError:
                        self.ended = None
                        raise
                    return {"ok": True}
                case "monitor":
                    return {"ok": True, "output": self._monitor(request["command"])}
                case op:
                    return {"error": f"unknown request {op!r}"}
        except libvirt.libvirtError as e:
            return {"error": _one_line(e)}

    def destroy(self, why: str) -> None:
        """End the domain, unless it is gone already."""
        if self.ended is None:
            self.ended = why
        if self.domain is not None:
            with contextlib.suppress(libvirt.libvirtError):
                self.domain.destroy()

    def close(self) -> None:
        """Leave nothing behind but the console, the log and a last word."""
        self.destroy("the keeper stopped")
        if self._antagonist is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._antagonist.pid, signal.SIGKILL)
            self._antagonist.wait()
        self._wait_for_qemu_to_go()
        ending.write(self.folder, str(self.ended))
        if self._log.is_symlink():  # to where it will be gone
            with contextlib.suppress(OSError):
                text = self._log.read_bytes()
                self._log.unlink()
                self._log.write_bytes(text)
        shutil.rmtree(self.root, ignore_errors=True)

    def _wait_for_qemu_to_go(self) -> None:
        for _ in range(100):
            if not processes.of_disk(self.order["disk"]):
                return
            time.sleep(0.05)
        processes.kill_of_disk(self.order["disk"])

    def _forward(self, wanted: int | None) -> int:
        """Forward a loopback port to the guest's sshd: the wanted one, or the first free one that holds."""
        for port in [wanted] if wanted is not None else ports.candidates():
            refusal = self._monitor(f"hostfwd_add {_NIC} tcp:127.0.0.1:{port}-:22")
            if not refusal.strip():
                return port
        if wanted is not None:
            raise InfrastructureError(
                f"port {wanted} is in use on this host",
                hint=f"ss -ltnp 'sport = {wanted}', or leave the port out",
            )
        raise InfrastructureError("no free port to forward the guest's SSH to")

    def _monitor(self, command: str) -> str:
        flags = libvirt_qemu.VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP
        return str(libvirt_qemu.qemuMonitorCommand(self.domain, command, flags))

    def _on_lifecycle(
        self, _conn: Any, domain: libvirt.virDomain, event: int, detail: int, _opaque: Any
    ) -> None:
        if event != libvirt.VIR_DOMAIN_EVENT_STOPPED or domain.UUIDString() != self.order["uuid"]:
            return
        if self.ended is None:
            self.ended = _EVENT_REASONS.get(detail, "stopped")
        os.write(self._wake_w, b".")

    def _on_disk_error(
        self,
        _conn: Any,
        domain: libvirt.virDomain,
        source: str,
        _alias: str,
        action: int,
        reason: str,
        _: Any,
    ) -> None:
        paused = action == libvirt.VIR_DOMAIN_EVENT_IO_ERROR_PAUSE
        if not paused or domain.UUIDString() != self.order["uuid"]:
            return
        failure = "the disk is full" if reason == "enospc" else "the disk cannot be read or written"
        self._disk_error = f"{failure} at {Path(source or self.order['disk']).parent} on this host"
        os.write(self._wake_w, b".")


def print_report(report: dict[str, Any]) -> None:
    """One JSON line to the starter; it may be gone."""
    with contextlib.suppress(BrokenPipeError):
        print(json.dumps(report), flush=True)


def _one_line(e: Exception) -> str:
    text = re.sub(r"\s+", " ", str(e)).strip()
    return text.removeprefix("internal error: ")


def main() -> int:
    folder = Path(sys.argv[1])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the starter's Ctrl-C reaches us as end of file
    with contextlib.ExitStack() as stack:
        stack.enter_context(files.locked(folder / "lock"))
        keeper = Keeper(folder)
        stack.enter_context(keeper.artefacts())
        stack.callback(keeper.close)
        try:
            report = keeper.start()
        except SentinelError as e:
            print_report({"error": e.message, "hint": e.hint})
            return 1
        keeper.serve(report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
