# SPDX-License-Identifier: Apache-2.0
"""The timing plugin in a real QEMU that runs bare.c without an operating system, for exact counts."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from testbed.common import settings
from testbed.common.cache import Cache
from testbed.timing import counters, plugin
from tests import timing_config

MIB = 1 << 20
BEGIN, END, USER = 1, 2, 0x8000
LINES = 256
TIMEOUT = 300.0  # seconds
# The kinds of accesses in bare.c, and the lines that each fetches
KINDS = (
    *("add", "lock add", "xadd", "lock xadd", "xchg", "xchg of a byte", "cmpxchg", "lock cmpxchg"),
    *("xchg, cmpxchg and inc", "bts", "lock bts", "lock btr", "lock inc", "lock neg", "lock not", "lock or"),
    *("cmpxchg8b", "lock cmpxchg8b", "lock add across lines", "read", "write"),
)
FETCHED = {**dict.fromkeys(KINDS, LINES), "write": 0}
FLAGS = (
    *("-m32", "-ffreestanding", "-nostdlib", "-static", "-fno-pie", "-no-pie", "-fno-stack-protector"),
    *("-fcf-protection=none", "-O1", "-Wall", "-Wextra", "-Werror"),
    "-Wl,-Ttext=0x100000,--build-id=none,-N,--no-warn-rwx-segments",
)


class Bare:
    """A running machine and its monitor."""

    def __init__(self, folder: Path, process: subprocess.Popen[str]) -> None:
        self.folder = folder
        self._process = process

    def monitor(self, command: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()

    def lines(self) -> list[dict[str, Any]]:
        return list(counters.read(self.folder / "counters.jsonl"))

    def wait_for(self, cause: str | None, after: int = 0) -> list[dict[str, Any]]:
        """Wait until a region ends for `cause` (None: begins). Return the counter lines from `after` on."""
        deadline = time.monotonic() + TIMEOUT
        while self._process.poll() is None and time.monotonic() < deadline:
            lines = self.lines()[after:]
            if any(line["marker"] <= END and line.get("cause") == cause for line in lines):
                return lines
            time.sleep(0.1)
        log = (self.folder / "qemu.log").read_text()
        raise AssertionError(f"no region ended by {cause!r}; QEMU log: {log}")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("bare") / "bare"
    subprocess.run(["gcc", *FLAGS, "-o", str(target), str(Path(__file__).parent / "bare.c")], check=True)
    return target


@contextlib.contextmanager
def running(program: Path, folder: Path, *, vcpus: int, **changes: object) -> Iterator[Bare]:
    qemu = settings.QEMU.get()
    config = timing_config.write(folder, split=64 * MIB, end=128 * MIB, **changes)
    disk, clock = folder / "disk.qcow2", folder / "clock"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(disk), "1M"], check=True)
    command = [
        *(qemu, "-M", "q35,memory-backend=memory", "-accel", "tcg,thread=multi", "-cpu", "max", "-m", "128M"),
        *("-smp", str(vcpus), "-nodefaults", "-display", "none", "-kernel", str(program)),
        # Memory first: old versions of QEMU pass RAM block offsets to plugins, not physical addresses
        *("-object", "memory-backend-ram,id=memory,size=128M"),
        *(
            "-object",
            f"memory-backend-file,id=clock,mem-path={clock},size={timing_config.CLOCK_SIZE},share=on",
        ),
        *("-device", "ivshmem-plain,memdev=clock,master=on", "-drive", f"file={disk},if=virtio"),
        *("-plugin", f"{plugin.build(qemu, cache=Cache())},config={config}", "-monitor", "stdio"),
    ]
    with (folder / "qemu.log").open("w") as log:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log, text=True)
    try:
        yield Bare(folder, process)
    finally:
        process.kill()
        process.wait()


def counted(lines: list[dict[str, Any]], first: int, name: str) -> list[int]:
    """Return the increase of a counter of vCPU 0, by node, between the markers `first` and `first` + 1."""
    at = {line["marker"]: line["vcpus"][0][name] for line in reversed(lines)}
    return [after - before for before, after in zip(at[first], at[first + 1], strict=True)]


@pytest.mark.parametrize("vcpus", [1, 2])
def test_every_access_that_reads_a_line_fetches_it(program: Path, tmp_path: Path, vcpus: int) -> None:
    """With several vCPUs, QEMU reports an atomic read-modify-write as one access."""
    with running(program, tmp_path, vcpus=vcpus) as machine:
        lines = machine.wait_for("marker")
    fetched = {kind: counted(lines, USER + 2 * i, "read") for i, kind in enumerate(KINDS)}
    assert fetched == {kind: [64 * n, 0] for kind, n in FETCHED.items()}
    missed = {kind: counted(lines, USER + 2 * i, "misses") for i, kind in enumerate(KINDS)}
    assert missed == {kind: [LINES, 0] for kind in KINDS}
    assert counted(lines, USER + 0x100, "misses") == [2, 0], "an access across pages"


def test_a_reset_and_a_restore_end_the_region(program: Path, tmp_path: Path) -> None:
    with running(program, tmp_path, vcpus=2) as machine:
        machine.wait_for("marker")
        machine.monitor("savevm here")
        lines = machine.wait_for("marker", after=len(machine.lines()))
        machine.monitor("loadvm here")
        lines = machine.wait_for("restore", after=len(lines))
        machine.wait_for("marker", after=len(machine.lines()))  # it continues
        machine.monitor("system_reset")
        machine.wait_for("reset", after=len(lines))
        after = machine.wait_for("marker", after=len(machine.lines()))
    assert after[-1]["vcpus"][0]["ns"] > 0


def test_a_pause_takes_no_model_time(program: Path, tmp_path: Path) -> None:
    """Paced, model time follows real time. vCPU 0 is always busy, so it has no idle time."""
    pause, dilation = 2.0, 500.0
    with running(program, tmp_path, vcpus=2, instruction=1) as machine:
        machine.wait_for("marker")
        timing_config.ask_for_dilation(tmp_path, dilation)
        machine.wait_for("marker", after=len(machine.lines()) + 3)
        for _ in range(2):
            machine.monitor("stop")
            time.sleep(pause)
            machine.monitor("cont")
            lines = machine.wait_for("marker", after=len(machine.lines()) + 3)
    ends = [line for line in lines if line["marker"] == END]
    assert ends[-1]["dilation"] == dilation
    assert ends[-1]["vcpus"][0]["idle_ns"] * dilation < pause * 1e9
