# SPDX-License-Identifier: Apache-2.0
"""The timing plugin in a stand-in for QEMU (timing/qemu.c), whose vCPUs execute what a test tells them."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from testbed.timing import counters, plugin
from tests import timing_config
from tests.timing_config import LATENCY

HERE = Path(__file__).parent / "timing"
INCLUDE = f"-I{plugin.SOURCES}"
PAGE = 4096
NODE_1 = 1 << 20  # physical address
R, W, RW = 1, 2, 3  # qemu_plugin_mem_rw
MARKERS = {
    name: int(value, 0)
    for name, value in re.findall(r"MARKER_(\w+) = (\w+),", (plugin.SOURCES / "markers.h").read_text())
}


def sources() -> list[str]:
    return [str(HERE / "qemu.c"), *(str(plugin.SOURCES / n) for n in plugin._FILES if n.endswith(".c"))]


class Guest:
    """A machine with the plugin. Process 1 runs on every vCPU at first."""

    def __init__(self, library: Path, folder: Path, *, cpus: int = 2, **changes: object) -> None:
        own = shutil.copy(library, folder / "own.so")  # the plugin's state is its library's
        self._qemu = ctypes.CDLL(str(own))
        self.folder = folder
        config = timing_config.write(folder, split=NODE_1, end=1 << 30, **changes)
        assert self._qemu.qemu_start(str(config).encode(), cpus) == 0
        for cpu in range(cpus):
            self.turn_to(cpu, 1)

    def mark(self, cpu: int, name: str) -> None:
        self._qemu.qemu_marker(cpu, MARKERS[name])

    def begin(self, cpu: int = 0) -> None:
        self.mark(cpu, "REGION_BEGIN")

    def end(self, cpu: int = 0) -> None:
        self.mark(cpu, "REGION_END")

    def turn_to(self, cpu: int, process: int) -> None:
        self._qemu.qemu_kernel_marker(cpu, MARKERS["PROCESS"], process)

    def end_process(self, cpu: int, process: int) -> None:
        self._qemu.qemu_kernel_marker(cpu, MARKERS["PROCESS_END"], process)

    def map(self, address: int, physical: int) -> None:
        self._qemu.qemu_map(ctypes.c_uint64(address), ctypes.c_uint64(physical))

    def access(self, cpu: int, address: int, rw: int, shift: int = 2) -> None:
        self._qemu.qemu_access(cpu, ctypes.c_uint64(address), shift, rw)

    def execute(self, cpu: int, n: int) -> None:
        self._qemu.qemu_execute(cpu, n)

    def set_clock(self, ns: float) -> None:
        self._qemu.qemu_set_clock(ctypes.c_int64(int(ns)))

    def halt(self, cpu: int) -> None:
        self._qemu.qemu_halt(cpu)

    def pause(self, cpu: int) -> None:
        self._qemu.qemu_pause(cpu)

    def resume(self, cpu: int) -> None:
        self._qemu.qemu_resume(cpu)

    def reset(self, cpu: int = 0) -> None:
        self._qemu.qemu_reset(cpu)

    def clock_page(self) -> bytes:
        return (self.folder / "clock").read_bytes()

    def restore_clock_page(self, content: bytes) -> None:
        with (self.folder / "clock").open("r+b") as file:
            file.write(content)

    def ask_for_dilation(self, dilation: float) -> None:
        timing_config.ask_for_dilation(self.folder, dilation)

    def lines(self) -> list[dict[str, Any]]:
        return list(counters.read(self.folder / "counters.jsonl"))

    def regions(self) -> list[tuple[int, object]]:
        """(Process, cause of its end or None for its begin) of each line about a region."""
        return [(line["process"], line.get("cause")) for line in self.lines() if line["marker"] <= 2]

    def counted(self, cpu: int = 0) -> dict[str, Any]:
        """The vCPU's counters now."""
        self.mark(cpu, "USER")
        counted: dict[str, Any] = self.lines()[-1]["vcpus"][cpu]
        return counted

    def pages(self, cpu: int = 0) -> list[list[int]]:
        self.mark(cpu, "PAGES")
        header, *rows = (self.folder / self.lines()[-1]["pages"]).read_text().splitlines()
        assert header == "page,reads,writes,misses0,misses1"
        return [[int(word) for word in row.split(",")] for row in rows]


Started = Callable[..., Guest]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("gcc") is None:
        pytest.skip("no gcc")
    target = tmp_path_factory.mktemp("qemu") / "qemu.so"
    flags = ["-DAPI=1", "-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", INCLUDE]
    subprocess.run(["gcc", *flags, "-o", str(target), *sources(), "-lpthread", "-lm"], check=True)
    return target


@pytest.fixture
def started(library: Path, tmp_path: Path) -> Started:
    def start(**changes: Any) -> Guest:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        return Guest(library, folder, **changes)

    return start


# ---------------------------------------------------------------- accesses


@pytest.mark.parametrize("shift", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("node", [0, 1])
def test_an_atomic_read_modify_write_costs_what_a_read_and_a_write_do(
    started: Started, node: int, shift: int
) -> None:
    """QEMU tells it as one access where vCPUs run in parallel, and as two elsewhere."""
    atomic, plain = started(), started()
    for guest, kinds in ((atomic, [RW]), (plain, [R, W])):
        guest.begin()
        for line in range(4000):
            for rw in kinds * 2:
                guest.access(0, node * NODE_1 + 64 * line, rw, shift)
    names = ("ns", "accesses", "misses", "read", "written", "memory_ns")
    first, second = ({name: guest.counted()[name] for name in names} for guest in (atomic, plain))
    assert first == second
    assert first["misses"][node] == 4000
    assert first["memory_ns"] >= 4000 * LATENCY[node]


def test_a_write_alone_fetches_nothing(started: Started) -> None:
    guest = started()
    guest.begin()
    for line in range(100):
        guest.access(0, 64 * line, W)
    assert guest.counted()["read"] == [0, 0]


@pytest.mark.parametrize(
    ("offset", "shift", "lines"),
    [
        (PAGE - 4, 3, (1, 1)),
        (PAGE - 1, 1, (1, 1)),
        (PAGE - 60, 6, (1, 1)),
        (PAGE - 8, 3, (1, 0)),
        (PAGE - 64, 6, (1, 0)),
        (PAGE - 65, 2, (2, 0)),
        (PAGE, 3, (0, 1)),
    ],
)
@pytest.mark.parametrize("rw", [R, W, RW])
def test_an_access_across_pages_is_of_their_own_lines(
    started: Started, offset: int, shift: int, lines: tuple[int, int], rw: int
) -> None:
    """Pages that follow each other are in node 0 and node 1, and the physically next ones elsewhere."""
    guest = started()
    first, second = NODE_1 - PAGE, NODE_1 + 4 * PAGE
    guest.map(0x10000, first)
    guest.map(0x10000 + PAGE, second)
    guest.begin()
    guest.mark(0, "OBSERVE")
    guest.access(0, 0x10000 + offset, rw, shift)
    assert tuple(guest.counted()["misses"]) == lines
    reads, writes = int(rw != W), int(rw != R)
    assert guest.pages() == [
        [0x10000 + PAGE * node, reads, writes, *((n, 0) if node == 0 else (0, n))]
        for node, n in enumerate(lines)
        if n
    ]
    guest.access(0, 0x10000 + offset, rw, shift)  # now they are in the cache
    assert tuple(guest.counted()["misses"]) == lines


def test_an_access_at_the_end_of_all_addresses(started: Started) -> None:
    guest = started()
    guest.map(2**64 - PAGE, 0)
    guest.begin()
    guest.access(0, 2**64 - 8, R, 3)
    assert guest.counted()["misses"] == [1, 0]


# ---------------------------------------------------------------- regions


@pytest.mark.parametrize("process", [1, 7, 32767, 32768, 32769, 4194303])
def test_a_region_ends_with_its_process(started: Started, process: int) -> None:
    guest = started()
    guest.turn_to(0, process)
    guest.begin()
    guest.access(0, 0, R)
    guest.end_process(1, process + 32768)  # whose number is the same in its lower half
    assert guest.counted()["accesses"] == 1
    guest.end_process(0, process)
    guest.access(0, PAGE, R)
    guest.turn_to(0, 2)
    guest.access(0, 2 * PAGE, R)
    assert guest.counted()["accesses"] == 1
    guest.begin()
    guest.access(0, 3 * PAGE, R)
    guest.end()
    assert guest.regions() == [(process, None), (process, "process"), (2, None), (2, "marker")]
    assert guest.counted()["accesses"] == 2


def test_the_next_region_has_the_dilation_that_is_asked_for(started: Started) -> None:
    guest = started()
    guest.begin()
    guest.end_process(0, 1)
    guest.ask_for_dilation(250)
    guest.turn_to(0, 2)
    guest.begin()
    guest.end()
    ends = [line for line in guest.lines() if line["marker"] == 2]
    assert [line["dilation"] for line in ends] == [0, 250]


def test_regions_of_several_processes_may_overlap(started: Started) -> None:
    """The model runs while any is open, and nobody ends another's."""
    guest = started()
    guest.begin(0)
    guest.turn_to(1, 2)
    guest.begin(1)
    guest.end(0)
    guest.access(0, 0, R)
    guest.turn_to(0, 3)
    guest.end(0)  # process 3 has none
    guest.access(0, PAGE, R)
    guest.end(1)
    guest.access(0, 2 * PAGE, R)
    assert guest.counted(0)["accesses"] == 2
    told = [(line.get("process"), line.get("cause")) for line in guest.lines() if line["marker"] <= 2]
    assert told == [(1, None), (2, None), (1, "marker"), (None, None), (2, "marker")]


def test_a_process_that_begins_again_begins_anew(started: Started) -> None:
    guest = started()
    guest.begin()
    guest.ask_for_dilation(300)
    guest.begin()
    guest.end()
    guest.access(0, 0, R)
    assert guest.regions() == [(1, None), (1, "begin"), (1, None), (1, "marker")]
    assert guest.lines()[-1]["dilation"] == 300
    assert guest.counted()["accesses"] == 0


def test_a_region_may_be_ended_from_another_vcpu(started: Started) -> None:
    guest = started()
    guest.begin(0)
    guest.end(1)
    assert guest.regions() == [(1, None), (1, "marker")]


def test_more_regions_than_there_is_room_for_are_told(
    started: Started, capfd: pytest.CaptureFixture[str]
) -> None:
    guest = started()
    for process in range(1, 66):
        guest.turn_to(0, process)
        guest.begin()
    assert "timing: the region of process 65 is one too many; 64 are open" in capfd.readouterr().err
    for process in range(1, 65):
        guest.end_process(0, process)
    guest.access(0, 0, R)
    assert guest.counted()["accesses"] == 0


def test_a_reset_closes_everything(started: Started) -> None:
    guest = started()
    guest.begin()
    guest.mark(0, "OBSERVE")
    guest.mark(0, "SERIAL_BEGIN")
    guest.ask_for_dilation(500)
    guest.reset()
    guest.access(0, 0, R)
    assert guest.counted()["accesses"] == 0
    guest.turn_to(0, 1)  # as it happens, the same number
    guest.begin()
    guest.access(0, PAGE, R)
    guest.end()
    assert guest.regions() == [(1, None), (1, "reset"), (1, None), (1, "marker")]
    assert guest.lines()[-1]["dilation"] == 0
    assert guest.pages() == []


def test_a_restored_machine_has_no_region(started: Started) -> None:
    guest = started()
    guest.begin()
    guest.pause(0)
    saved = guest.clock_page()
    guest.resume(0)
    guest.access(0, 0, R)
    guest.pause(0)
    guest.restore_clock_page(saved)
    guest.resume(0)
    guest.access(0, PAGE, R)
    assert guest.counted()["accesses"] == 1
    guest.begin()  # by a process that the kernel has not named yet
    guest.access(0, 2 * PAGE, R)
    guest.turn_to(0, 5)
    guest.end()
    assert guest.regions() == [(1, None), (1, "restore"), (-1, None), (-1, "marker")]
    assert guest.counted()["accesses"] == 2


def test_a_machine_that_goes_on_after_it_was_saved_keeps_its_region(started: Started) -> None:
    guest = started()
    guest.begin()
    for _ in range(3):
        guest.pause(0)
        guest.clock_page()
        guest.resume(0)
    guest.end()
    assert guest.regions() == [(1, None), (1, "marker")]


def test_a_region_of_a_process_without_a_name_ends_with_it(started: Started) -> None:
    guest = started()
    guest.reset()
    guest.begin()
    guest.end_process(0, 9)
    assert guest.regions() == [(-1, None), (-1, "process")]


def test_what_a_process_left_serial_is_serial_for_nobody_else(started: Started) -> None:
    """Not for who runs in between, and not for who has the number later."""
    guest = started(parallelism=10)
    guest.turn_to(1, 2)
    guest.begin(1)
    costs: list[float] = []

    def cost() -> float:
        before = guest.counted()["memory_ns"]
        guest.access(0, NODE_1 + PAGE * len(costs), R)
        return round(float(guest.counted()["memory_ns"] - before), 3)

    guest.mark(0, "SERIAL_BEGIN")
    costs.append(cost())
    guest.turn_to(0, 3)
    costs.append(cost())
    guest.turn_to(0, 1)
    costs.append(cost())
    guest.turn_to(0, 3)
    guest.end_process(1, 1)
    guest.turn_to(0, 1)
    costs.append(cost())
    assert costs == [305.0, 30.5, 305.0, 30.5]


def test_counting_pages_ends_with_the_process(started: Started) -> None:
    guest = started()
    guest.turn_to(1, 2)
    guest.begin(1)
    guest.mark(0, "OBSERVE")
    guest.access(0, 0, R)
    guest.end_process(0, 1)
    guest.access(0, 0, R)
    assert guest.pages() == [[0, 1, 0, 1, 0]]
    assert guest.lines()[-1]["process"] == 1


# ---------------------------------------------------------------- time


@pytest.mark.parametrize("dilation", [0, 1000])
def test_a_paused_machine_is_not_idle(started: Started, dilation: float) -> None:
    guest = started(instruction=1)
    guest.set_clock(1e9)
    guest.ask_for_dilation(dilation)
    guest.begin()
    guest.execute(0, 300)
    guest.set_clock(1e9 + 300 * dilation)
    guest.execute(1, 100)
    before = [guest.counted(cpu) for cpu in (0, 1)]
    for cpu in (0, 1):
        guest.pause(cpu)
    for cpu in (0, 1):
        guest.resume(cpu)
    after = [guest.counted(cpu) for cpu in (0, 1)]
    assert [a["idle_ns"] for a in after] == [b["idle_ns"] for b in before] == [0, 0]
    assert [a["ns"] - a["compute_ns"] for a in after] == [0, 0]
    guest.end()
    assert guest.lines()[-1]["behind"] == 0


@pytest.mark.parametrize("dilation", [0, 100])
def test_a_halted_vcpu_is_idle(started: Started, dilation: float) -> None:
    guest = started(instruction=1)
    guest.set_clock(1e9)
    guest.ask_for_dilation(dilation)
    guest.begin()
    guest.execute(1, 1)
    guest.halt(1)
    guest.set_clock(1e9 + 5000 * dilation)
    guest.execute(0, 5000)
    guest.resume(1)
    idle = guest.counted(1)["idle_ns"]
    assert idle == pytest.approx(5000, abs=10)


def test_time_that_stands_still_holds_nobody_for_ever(started: Started) -> None:
    """The machine's clock stops before its vCPUs do, and they stop between two blocks."""
    guest = started(instruction=1, cpus=1)
    guest.set_clock(1e9)
    guest.ask_for_dilation(1e6)
    guest.begin()
    for _ in range(3):
        guest.execute(0, 1000)
    assert guest.counted()["instructions"] >= 3000


def test_a_vcpu_that_slept_through_a_begin_is_not_waited_for(started: Started) -> None:
    """Its clock is behind until it executes something; the others need not wait for that."""
    guest = started(instruction=1)
    guest.begin()
    guest.execute(0, 1_000_000)
    guest.end()
    held = guest.counted()["held"]
    guest.begin()
    guest.execute(0, 19_000)
    assert guest.counted()["held"] == held
    guest.execute(1, 1)
    assert guest.counted(1)["ns"] >= 1_000_000


# ---------------------------------------------------------------- threads


@pytest.fixture(scope="module")
def races(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command that runs vCPUs in threads under the sanitizer of threads."""
    if shutil.which("gcc") is None:
        pytest.skip("no gcc")
    program = tmp_path_factory.mktemp("races") / "races"
    flags = ["-DAPI=1", "-std=gnu11", "-g", "-O1", "-fsanitize=thread", INCLUDE]
    built = [*flags, "-o", str(program), str(HERE / "races.c"), *sources(), "-lpthread", "-lm"]
    subprocess.run(["gcc", *built], check=True)
    # It knows no addresses that are as random as some kernels have them
    fixed = ["setarch", "-R"]
    allowed = shutil.which("setarch") and not subprocess.run([*fixed, "true"], check=False).returncode
    return [*(fixed if allowed else []), str(program)]


@pytest.mark.parametrize("dilation", [0.0, 50.0])
@pytest.mark.parametrize(
    "mode", [{}, {"cache__shared": 1}, {"memory_mode": 1}], ids=["own", "shared", "near"]
)
def test_vcpus_do_not_race(races: list[str], tmp_path: Path, mode: dict[str, int], dilation: float) -> None:
    for seed in ("1", "2"):
        config = timing_config.write(tmp_path, split=1 << 17, end=1 << 30, instruction=0.25, **mode)
        timing_config.ask_for_dilation(tmp_path, dilation)
        done = subprocess.run([*races, str(config), seed], check=False, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
    assert any(line.get("dilation") == dilation for line in counters.read(tmp_path / "counters.jsonl"))
