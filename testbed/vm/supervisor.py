# SPDX-License-Identifier: Apache-2.0
"""The process that owns one machine: `python -m testbed.vm.supervisor FOLDER`.

libvirt's embedded driver works only inside the process that started it, and a machine must not outlive its
user. So each machine has a supervisor. It

1. holds an exclusive lock on FOLDER/lock while it runs;
2. starts or restores the domain that FOLDER/config.json describes;
3. answers requests on a socket;
4. ends the domain on request, on SIGTERM, or when the process that started it exits without detaching.

If the supervisor itself is killed, the next command finds the lock free and ends the orphan
(`testbed.vm.reap`).

Descriptor 0 is a pipe from the starting process: a byte detaches the machine; end of file without one means
that the process exited. The first line on standard output is a JSON report: `{"ok": true, ...}` or
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
from testbed.host.remote_memory import RemoteMemory
from testbed.timing import plugin
from testbed.vm import folder as folders
from testbed.vm import libvirt_connection, ports

_NIC = "hostnet0"  # libvirt's name for the first network interface
_STOP_REASONS = {  # by libvirt's VIR_DOMAIN_EVENT_STOPPED_*
    libvirt.VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN: "shut down",
    libvirt.VIR_DOMAIN_EVENT_STOPPED_DESTROYED: "destroyed",
    libvirt.VIR_DOMAIN_EVENT_STOPPED_CRASHED: "crashed",
    libvirt.VIR_DOMAIN_EVENT_STOPPED_SAVED: "saved",
    libvirt.VIR_DOMAIN_EVENT_STOPPED_FAILED: "QEMU died",
}


class Supervisor:
    """Owns one domain from start to end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folders.read_config(folder)
        self.runtime = Path(self.config["runtime"])
        self.domain: libvirt.virDomain | None = None
        self.end_reason: str | None = None
        self._disk_error: str | None = None  # set when QEMU paused the domain for an error of the host's disk
        self._antagonist: subprocess.Popen[bytes] | None = None
        self._qemu_log = folder / "qemu.log"
        self._wake_r, self._wake_w = os.pipe()

    def artefacts(self) -> contextlib.AbstractContextManager[None]:
        """Protect kernel, image and plugin from pruning for the block."""
        cache = Cache(Path(self.config["cache"]))
        uses = list(self.config["uses"])
        if self.config.get("plugin"):
            uses.append((plugin.KIND, self.config["plugin"]))
        entries = (cache.get(kind, key) for kind, key in uses)
        return cache.using(*(e for e in entries if e is not None))

    def start(self) -> dict[str, Any]:
        """Start the domain and forward its SSH port. Returns the report for the starting process."""
        folders.reserve_end(self.folder)
        conn = libvirt_connection.connect(self.config["uri"], root=self.runtime)
        conn.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._on_lifecycle, None)
        conn.domainEventRegisterAny(
            None, libvirt.VIR_DOMAIN_EVENT_ID_IO_ERROR_REASON, self._on_disk_error, None
        )
        xml = (self.folder / "domain.xml").read_text()
        embedded = self.config["uri"] == libvirt_connection.EMBED
        # If the supervisor is killed, a daemon ends the domain itself; the embedded driver dies with the
        # supervisor.
        flags = 0 if embedded else libvirt.VIR_DOMAIN_START_AUTODESTROY
        try:
            if self.config.get("restore"):
                conn.restoreFlags(self.config["restore"], xml, libvirt.VIR_DOMAIN_SAVE_RUNNING)
                self.domain = conn.lookupByUUIDString(self.config["uuid"])
            else:
                self.domain = conn.createXML(xml, flags)
        except libvirt.libvirtError as e:
            raise InfrastructureError(
                f"libvirt could not start the machine: {_one_line(e)}",
                hint="read the log; sentinel doctor checks whether QEMU itself starts",
            ) from None
        self._start_antagonist()
        if embedded:
            self._qemu_log.symlink_to(self.runtime / "log" / "qemu" / f"{self.config['name']}.log")
        port = self._forward_ssh(self.config.get("ssh_port"))
        return {"ok": True, "port": port, "pid": os.getpid()}

    def _start_antagonist(self) -> None:
        """Start the configured bandwidth antagonist of the slow node; `close` ends it."""
        if "remote" not in self.config:
            return
        command = RemoteMemory.from_json(self.config["remote"]).antagonist_command()
        if command is None:
            return
        for program in ("numactl", "stress-ng"):
            which(program, package=program)
        with (self.folder / "antagonist.log").open("wb") as log:
            self._antagonist = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    def serve(self, report: dict[str, Any]) -> None:
        """Print `report`, then answer requests until the domain has ended."""
        with socket.socket(socket.AF_UNIX) as server, selectors.DefaultSelector() as selector:
            server.bind(str(self.runtime / "control"))
            server.listen()
            selector.register(server, selectors.EVENT_READ, "request")
            selector.register(self._wake_r, selectors.EVENT_READ, "wake")
            selector.register(0, selectors.EVENT_READ, "starter")
            print_report(report)
            while self.end_reason is None:
                for key, _ in selector.select():
                    if key.data == "request":
                        self._answer_one(server)
                    elif key.data == "starter":
                        detached = os.read(0, 1)
                        selector.unregister(0)
                        if not detached:
                            self.destroy("the process that started it exited")
                    else:
                        os.read(self._wake_r, 64)
                        if self._disk_error is not None:
                            self.destroy(self._disk_error)

    def _answer_one(self, server: socket.socket) -> None:
        """Accept one connection and answer one line. A malformed request only closes its connection."""
        peer, _ = server.accept()
        with peer, contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            peer.settimeout(5)
            line = peer.makefile("rb").readline()
            answer = self.answer(json.loads(line))
            peer.settimeout(None)
            peer.sendall(json.dumps(answer).encode() + b"\n")

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Execute a request: `ping`, `destroy` (`reason`), `save` (`to`) or `monitor` (`command`, HMP)."""
        domain = self.domain
        assert domain is not None  # noqa: S101 -- serve() runs after start()
        try:
            match request["op"]:
                case "ping":
                    return {"ok": True}
                case "destroy":
                    self.destroy(str(request.get("reason", "destroyed")))
                    return {"ok": True}
                case "save":
                    target = request["to"]
                    self.end_reason = "saved"
                    try:
                        domain.save(target)
                    except libvirt.libvirtError:
                        self.end_reason = None
                        raise
                    return {"ok": True}
                case "monitor":
                    return {"ok": True, "output": self._monitor(request["command"])}
                case op:
                    return {"error": f"unknown request {op!r}"}
        except libvirt.libvirtError as e:
            return {"error": _one_line(e)}

    def destroy(self, reason: str) -> None:
        """End the domain unless it has ended; the first reason stands."""
        if self.end_reason is None:
            self.end_reason = reason
        if self.domain is not None:
            with contextlib.suppress(libvirt.libvirtError):
                self.domain.destroy()

    def close(self) -> None:
        """End the domain, record the reason, and remove everything but the logs."""
        self.destroy("its supervisor was terminated")
        if self._antagonist is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._antagonist.pid, signal.SIGKILL)
            self._antagonist.wait()
        self._wait_for_qemu_exit()
        folders.write_end(self.folder, str(self.end_reason))
        if self._qemu_log.is_symlink():  # into the runtime folder, which goes now
            with contextlib.suppress(OSError):
                text = self._qemu_log.read_bytes()
                self._qemu_log.unlink()
                self._qemu_log.write_bytes(text)
        shutil.rmtree(self.runtime, ignore_errors=True)

    def _wait_for_qemu_exit(self) -> None:
        for _ in range(100):
            if not processes.find_qemu(self.config["disk"]):
                return
            time.sleep(0.05)
        processes.kill_qemu(self.config["disk"])

    def _forward_ssh(self, requested: int | None) -> int:
        """Forward a loopback port to the guest's SSH server: `requested`, or the first free one."""
        for port in [requested] if requested is not None else ports.candidates():
            refusal = self._monitor(f"hostfwd_add {_NIC} tcp:127.0.0.1:{port}-:22")
            if not refusal.strip():
                return port
        if requested is not None:
            raise InfrastructureError(
                f"port {requested} is in use on this host",
                hint=f"ss -ltnp 'sport = {requested}' shows by which process; or leave --ssh-port out",
            )
        raise InfrastructureError("no free port to forward to the guest's SSH server")

    def _monitor(self, command: str) -> str:
        flags = libvirt_qemu.VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP
        return str(libvirt_qemu.qemuMonitorCommand(self.domain, command, flags))

    def _on_lifecycle(
        self, _conn: Any, domain: libvirt.virDomain, event: int, detail: int, _opaque: Any
    ) -> None:
        if event != libvirt.VIR_DOMAIN_EVENT_STOPPED or domain.UUIDString() != self.config["uuid"]:
            return
        if self.end_reason is None:
            self.end_reason = _STOP_REASONS.get(detail, "stopped")
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
        if not paused or domain.UUIDString() != self.config["uuid"]:
            return
        failure = "the disk is full" if reason == "enospc" else "I/O error on the disk"
        self._disk_error = f"{failure} at {Path(source or self.config['disk']).parent} on this host"
        os.write(self._wake_w, b".")


def print_report(report: dict[str, Any]) -> None:
    """Print one line of JSON for the starting process, which may have exited."""
    with contextlib.suppress(BrokenPipeError):
        print(json.dumps(report), flush=True)


def _one_line(e: Exception) -> str:
    text = re.sub(r"\s+", " ", str(e)).strip()
    return text.removeprefix("internal error: ")


def main() -> int:
    """Run the supervisor of the machine in the folder `sys.argv[1]`."""
    folder = Path(sys.argv[1])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the starting process, which closes the pipe
    with contextlib.ExitStack() as stack:
        stack.enter_context(files.locked(folders.lock(folder)))
        supervisor = Supervisor(folder)
        stack.enter_context(supervisor.artefacts())
        stack.callback(supervisor.close)
        try:
            report = supervisor.start()
        except SentinelError as e:
            print_report({"error": e.message, "hint": e.hint})
            return 1
        supervisor.serve(report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
