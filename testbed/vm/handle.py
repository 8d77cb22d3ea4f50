# SPDX-License-Identifier: Apache-2.0
"""A handle on one machine: its state, its guest, and requests to its supervisor."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from testbed.common import files, processes
from testbed.common.cache import Cache
from testbed.common.disk import disk_full, explained_disk_errors
from testbed.common.errors import BootError, GuestHangError, InfrastructureError
from testbed.guestlink import ssh
from testbed.guestlink.console import Console
from testbed.guestlink.watchdog import Watchdog
from testbed.limits import Limits, scaled
from testbed.vm import folder as folders
from testbed.vm import reaping
from testbed.vm.artefacts import damage_explained
from testbed.vm.boot import Boot, SavedVm

_EXIT_WITHIN = 15.0  # seconds; a supervisor that takes longer to clean up is killed


@dataclass
class Vm:
    """A machine, running or ended. `supervisor` is its process if this process started it."""

    name: str
    folder: Path
    supervisor: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def config(self) -> dict[str, Any]:
        """The supervisor's configuration."""
        return folders.read_config(self.folder)

    @property
    def port(self) -> int:
        """The loopback port that is forwarded to the guest's SSH server."""
        return int(files.read_json(self.folder / "guest.json")["port"])

    @property
    def accelerator(self) -> str:
        """`kvm` or `tcg`."""
        return str(self.config["accelerator"])

    @property
    def limits(self) -> Limits:
        """Time limits for this machine's accelerator."""
        return scaled(self.accelerator)

    @property
    def console_path(self) -> Path:
        """The console's file."""
        return self.folder / "console.log"

    @property
    def counters_path(self) -> Path:
        """The timing model's counters, if the machine has a preset."""
        return self.folder / "counters.jsonl"

    def alive(self) -> bool:
        """Return whether the supervisor runs: the machine runs too, or is being ended."""
        return files.is_locked(folders.lock(self.folder))

    def end_reason(self) -> str | None:
        """Return why the machine ended; None while it runs."""
        if self.alive():
            return None
        return folders.read_end(self.folder) or reaping.SUPERVISOR_KILLED

    def owner(self) -> str | None:
        """Return the process that the running machine ends with; None if the machine is detached."""
        if not self.alive():
            return None
        try:
            pid = int(files.read_json(self.folder / "owner.json")["pid"])
        except FileNotFoundError:
            return None
        return f"process {pid} ({processes.command_line(pid)})"

    def watchdog(self) -> Watchdog:
        """Return a watchdog for this machine that reads the console from its start."""
        return Watchdog(
            Console(self.console_path),
            self.limits,
            end_reason=self.end_reason,
            reachable=lambda: ssh.answers(self.port, within=self.limits.command),
        )

    def wait_ready(self) -> None:
        """Wait until the guest reports that it is ready.

        Raises the watchdog's verdict, or `InfrastructureError` if an artefact is damaged.
        """
        watchdog = self.watchdog()
        deadline = time.monotonic() + self.limits.boot
        with damage_explained(self.config):
            while not watchdog.console.ready:
                watchdog.check(silence=self.limits.silence)
                if time.monotonic() >= deadline:
                    raise BootError(
                        f"the guest was not ready within {self.limits.boot:.0f} s", log=self.console_path
                    )
                time.sleep(0.02)

    @contextlib.contextmanager
    def shell(self) -> Iterator[ssh.GuestShell]:
        """Connect to the guest's root account for the block.

        Raises the watchdog's verdict, or `InfrastructureError` if an artefact is damaged.
        """
        watchdog = self.watchdog()
        with contextlib.ExitStack() as stack:
            with damage_explained(self.config):
                try:
                    connecting = ssh.shell(self.port, within=self.limits.connect, alive=watchdog.check)
                    shell = stack.enter_context(connecting)
                except GuestHangError as e:
                    e.log = self.console_path
                    raise
            yield shell

    def request(self, op: str, **arguments: Any) -> dict[str, Any]:
        """Send a request to the supervisor and return its answer.

        Raises `InfrastructureError` if the request fails or the supervisor does not answer.
        """
        path = Path(self.config["runtime"]) / "control"
        try:
            with socket.socket(socket.AF_UNIX) as peer:
                peer.connect(str(path))
                peer.sendall(json.dumps({"op": op, **arguments}).encode() + b"\n")
                answer: dict[str, Any] = json.loads(peer.makefile("rb").readline() or b"{}")
        except (OSError, ValueError) as e:
            raise InfrastructureError(f"the supervisor of {self.name!r} does not answer: {e}") from None
        if not answer.get("ok"):
            raise InfrastructureError(
                f"request {op!r} to machine {self.name!r} failed: {answer.get('error', 'no answer')}",
                log=self.folder / "supervisor.log",
            )
        return answer

    def detach(self) -> None:
        """Let the machine outlive this process."""
        (self.folder / "owner.json").unlink(missing_ok=True)
        if self.supervisor is not None and self.supervisor.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.supervisor.stdin.write(b"d")
                self.supervisor.stdin.close()
            self.supervisor = None

    def down(self, *, reason: str = "destroyed") -> None:
        """End the machine and remove its overlay; logs stay. Does nothing if it has ended.

        `reason` is recorded as why it ended.
        """
        with contextlib.suppress(InfrastructureError):
            self.request("destroy", reason=reason)
        self.wait_ended()
        (self.folder / "disk.qcow2").unlink(missing_ok=True)

    def save(self, target: Path) -> SavedVm:
        """Save memory and disk into the folder `target`, and end the machine.

        Raises `InfrastructureError` if it cannot be saved; the machine then runs on.
        """
        config = self.config
        memory, disk, console = target / "memory", target / "disk.qcow2", target / "console.log"
        with explained_disk_errors(target):
            try:
                self.request("save", to=str(memory))
            except InfrastructureError as e:
                memory.unlink(missing_ok=True)
                if os.strerror(errno.ENOSPC) in e.message:
                    raise disk_full(target) from None
                raise
            self.wait_ended()
            shutil.move(self.folder / "disk.qcow2", disk)
            shutil.copy(self.console_path, console)
        boot = Boot.from_json(config, cache=Cache(Path(config["cache"])))
        return SavedVm(boot, memory, disk, console, config["name"], config["uuid"])

    def wait_ended(self) -> None:
        """Wait until the supervisor has cleaned up; kill one that does not, and clean up for it."""
        deadline = time.monotonic() + _EXIT_WITHIN
        while self.alive() and time.monotonic() < deadline:
            time.sleep(0.02)
        if self.supervisor is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.supervisor.wait(timeout=5)
        if self.alive() and (pid := self._supervisor_pid()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.1)
        reaping.bury(self.folder)

    def _supervisor_pid(self) -> int | None:
        with contextlib.suppress(FileNotFoundError, ValueError, KeyError):
            return int(files.read_json(self.folder / "guest.json")["supervisor"])
        return None
