# SPDX-License-Identifier: Apache-2.0
"""A fake host: real supervisors start machines with fake libvirt, QEMU and qemu-img."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pytest import MonkeyPatch

from testbed.machine import Machine, Node
from testbed.vm import Boot
from tests.fakes.programs import Programs

MACHINE = Machine.model_validate({"vcpus": 1, "nodes": [{"memory": "64 MiB", "cpus": [0]}]})
assert isinstance(MACHINE.nodes[0], Node)


class Hypervisor:
    """What the fakes did, and what they shall do."""

    def __init__(self, folder: Path, programs: Programs, monkeypatch: MonkeyPatch) -> None:
        self.folder = folder / "libvirt"
        self.folder.mkdir()
        self.runtime = Path(tempfile.mkdtemp(prefix="s-"))  # short: socket names end at 107 bytes
        programs.shell("qemu-system-x86_64", 'echo "QEMU emulator version 7.2.11"')
        programs.shell("qemu-img", 'for last; do :; done; : >"$last"')
        monkeypatch.setenv("FAKE_LIBVIRT", str(self.folder))
        monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent / "libvirt"))
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(self.runtime))
        monkeypatch.setattr(os, "geteuid", lambda: 1000)  # root's machines live in /run
        kernel, image = folder / "bzImage", folder / "rootfs.ext4"
        kernel.touch()
        image.touch()
        self.boot = Boot(machine=MACHINE, kernel=kernel, image=image, accelerator="tcg")

    def behave(self, **how: Any) -> None:
        (self.folder / "behaviour.json").write_text(json.dumps(how))

    @property
    def calls(self) -> list[str]:
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []

    @property
    def qemu(self) -> int:
        """The process id of the last fake QEMU."""
        return int((self.folder / "qemu.pid").read_text())

    def qemu_runs(self) -> bool:
        return running(self.qemu)

    def close(self) -> None:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            os.kill(self.qemu, signal.SIGKILL)
        shutil.rmtree(self.runtime, ignore_errors=True)


def running(pid: int) -> bool:
    """Whether a process lives; one that only waits to be collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def eventually(condition: Callable[[], bool], *, within: float = 8.0) -> bool:
    """Wait for a condition."""
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
