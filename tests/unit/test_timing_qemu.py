# SPDX-License-Identifier: Apache-2.0
"""The timing plugin in a fake QEMU (timing/qemu.c), whose vCPUs execute instructions on request."""

from __future__ import annotations

import ctypes
import gzip
import re
import shutil
import struct
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
    """A machine with the plugin. Initially, process 1 runs on every vCPU."""

    def __init__(self, library: Path, folder: Path, *, cpus: int = 2, **changes: object) -> None:
        own = shutil.copy(library, folder / "own.so")  # plugin state is per library
        self._qemu = ctypes.CDLL(str(own))
        self.folder = folder
        config = timing_config.write(folder, split=NODE_1, end=1 << 30, **changes)
        assert self._qemu.qemu_start(str(config).encode(), cpus) == 0
        for cpu in range(cpus):
            self.switch_process(cpu, 1)

    def mark(self, cpu: int, name: str) -> None:
        self._qemu.qemu_marker(cpu, MARKERS[name])

    def begin(self, cpu: int = 0) -> None:
        self.mark(cpu, "REGION_BEGIN")

    def end(self, cpu: int = 0) -> None:
        self.mark(cpu, "REGION_END")

    def switch_process(self, cpu: int, process: int) -> None:
        self._qemu.qemu_kernel_marker(cpu, MARKERS["PROCESS"], process)

    def end_process(self, cpu: int, process: int) -> None:
        self._qemu.qemu_kernel_marker(cpu, MARKERS["PROCESS_END"], process)

    def mark_remapped(self, cpu: int, pages: int) -> None:
        self._qemu.qemu_kernel_marker(cpu, MARKERS["REMAPPED"], pages)

    def map(self, address: int, physical: int) -> None:
        self._qemu.qemu_map(ctypes.c_uint64(address), ctypes.c_uint64(physical))

    def access(self, cpu: int, address: int, rw: int, shift: int = 2) -> None:
        self._qemu.qemu_access(cpu, ctypes.c_uint64(address), shift, rw)

    def execute(self, cpu: int, n: int) -> None:
        self._qemu.qemu_execute(cpu, n)

    def run(self, cpu: int, *code: tuple[str, int, int], kernel: bool = False) -> None:
        """Execute a block of instructions: bytes in hex, address of the access, qemu_plugin_mem_rw or 0."""
        for text, address, rw in code:
            data = bytes.fromhex(text)
            self._qemu.qemu_add(data, len(data), ctypes.c_uint64(address), 3, rw)
        self._qemu.qemu_run(cpu, kernel)

    def interrupt(self, cpu: int, *code: tuple[str, int, int]) -> None:
        """Execute a block of the kernel."""
        self.run(cpu, *(code or [("90", 0, 0)]), kernel=True)

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
        """Return (process, cause of end, or None for a begin) for each begin and end of a region."""
        return [(line["process"], line.get("cause")) for line in self.lines() if line["marker"] <= 2]

    def counters(self, cpu: int = 0) -> dict[str, Any]:
        """Return the current counters of a vCPU."""
        self.mark(cpu, "USER")
        vcpu_counters: dict[str, Any] = self.lines()[-1]["vcpus"][cpu]
        return vcpu_counters

    def pages(self, cpu: int = 0) -> list[list[int]]:
        """Return the rows of the page counts."""
        self.mark(cpu, "PAGES")
        header, *rows = (self.folder / self.lines()[-1]["pages"]).read_text().splitlines()
        assert header == "page,reads,writes,misses0,misses1"
        return [[int(word) for word in row.split(",")] for row in rows]


Start = Callable[..., Guest]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("gcc") is None:
        pytest.skip("no gcc")
    target = tmp_path_factory.mktemp("qemu") / "qemu.so"
    flags = ["-DAPI=1", "-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", INCLUDE]
    subprocess.run(["gcc", *flags, "-o", str(target), *sources(), *plugin.LIBRARIES], check=True)
    return target


@pytest.fixture
def start(library: Path, tmp_path: Path) -> Start:
    def start_guest(**changes: Any) -> Guest:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        return Guest(library, folder, **changes)

    return start_guest


# ---------------------------------------------------------------- accesses


@pytest.mark.parametrize("shift", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("node", [0, 1])
def test_an_atomic_read_modify_write_costs_a_read_and_a_write(start: Start, node: int, shift: int) -> None:
    """QEMU reports it as one access if vCPUs run in parallel, and as two otherwise."""
    atomic, plain = start(), start()
    for guest, kinds in ((atomic, [RW]), (plain, [R, W])):
        guest.begin()
        for line in range(4000):
            for rw in kinds * 2:
                guest.access(0, node * NODE_1 + 64 * line, rw, shift)
    names = ("ns", "accesses", "misses", "read", "written", "memory_ns")
    first, second = ({name: guest.counters()[name] for name in names} for guest in (atomic, plain))
    assert first == second
    assert first["misses"][node] == 4000
    assert first["memory_ns"] >= 4000 * LATENCY[node]


def test_a_plain_write_fetches_no_line(start: Start) -> None:
    guest = start()
    guest.begin()
    for line in range(100):
        guest.access(0, 64 * line, W)
    assert guest.counters()["read"] == [0, 0]


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
def test_an_access_across_pages_uses_each_pages_physical_address(
    start: Start, offset: int, shift: int, lines: tuple[int, int], rw: int
) -> None:
    """The pages are in node 0 and node 1, and not physically contiguous."""
    guest = start()
    first, second = NODE_1 - PAGE, NODE_1 + 4 * PAGE
    guest.map(0x10000, first)
    guest.map(0x10000 + PAGE, second)
    guest.begin()
    guest.mark(0, "OBSERVE")
    guest.access(0, 0x10000 + offset, rw, shift)
    assert tuple(guest.counters()["misses"]) == lines
    reads, writes = int(rw != W), int(rw != R)
    assert guest.pages() == [
        [0x10000 + PAGE * node, reads, writes, *((n, 0) if node == 0 else (0, n))]
        for node, n in enumerate(lines)
        if n
    ]
    guest.access(0, 0x10000 + offset, rw, shift)  # hits the cache
    assert tuple(guest.counters()["misses"]) == lines


def test_an_access_at_the_end_of_the_address_space(start: Start) -> None:
    guest = start()
    guest.map(2**64 - PAGE, 0)
    guest.begin()
    guest.access(0, 2**64 - 8, R, 3)
    assert guest.counters()["misses"] == [1, 0]


# ---------------------------------------------------------------- traces


FENCE = 1023  # a source


def words(guest: Guest) -> list[tuple[str, int, int, int, int]]:
    """Return the words of the last trace: kind, line, node, instructions since the word before, source."""
    name = guest.lines()[-1]["trace"]
    data = gzip.decompress((guest.folder / name).read_bytes())
    return [
        (
            ("read", "write", "event", "time")[word >> 62],
            word & 2**42 - 1,
            word >> 42 & 1,
            word >> 43 & 2**9 - 1,
            word >> 52 & FENCE,
        )
        for (word,) in struct.iter_unpack("<Q", data)
    ]


def test_trace_has_accesses_events_nodes_and_instructions(start: Start) -> None:
    guest = start()
    guest.begin()
    guest.access(0, 0, R)  # before the trace
    guest.mark(0, "TRACE_BEGIN")
    guest.execute(0, 5)
    guest.access(0, 64, R)
    guest.mark(0, "TRACE_EVENT")
    guest.mark(1, "TRACE_EVENT")  # another vCPU
    guest.access(1, 640, W)
    guest.execute(0, 3)
    guest.execute(0, 4)
    guest.access(0, NODE_1 + 120, RW, 4)  # two lines
    guest.map(2**64 - PAGE, NODE_1)
    guest.access(0, 2**64 - 8, W, 3)
    guest.mark(0, "TRACE_END")
    guest.access(0, 6400, R)
    line = NODE_1 // 64 + 1
    assert words(guest) == [
        ("read", 1, 0, 6, 0),  # the access is an instruction, too
        ("event", 0, 0, 1, 0),  # so is a marker
        ("read", line, 1, 8, 0),
        ("write", line, 1, 0, 0),
        ("read", line + 1, 1, 0, 0),
        ("write", line + 1, 1, 0, 0),
        ("write", 2**42 - 1, 1, 1, 0),
    ]


def test_paused_trace_has_events_only(start: Start) -> None:
    guest = start()
    guest.begin()
    guest.mark(0, "TRACE_BEGIN")
    guest.execute(0, 10)
    guest.mark(0, "TRACE_PAUSE")
    guest.execute(0, 100)
    guest.access(0, 0, R)
    guest.mark(0, "TRACE_EVENT")
    guest.execute(0, 100)
    guest.mark(0, "TRACE_RESUME")
    guest.execute(0, 1)
    guest.access(0, 64, R)
    guest.mark(0, "TRACE_END")
    assert words(guest) == [("event", 0, 0, 11, 0), ("read", 1, 0, 2, 0)]


def test_trace_has_large_numbers_of_instructions(start: Start) -> None:
    guest = start()
    guest.begin()
    guest.mark(0, "TRACE_BEGIN")
    guest.execute(0, 510)
    guest.access(0, 0, R)
    guest.execute(0, 100_000)
    guest.access(0, 64, R)
    guest.mark(0, "TRACE_END")
    assert words(guest) == [("read", 0, 0, 511, 0), ("time", 100_001, 0, 0, 0), ("read", 1, 0, 0, 0)]


def test_trace_leaves_out_what_any_cache_has(start: Start) -> None:
    guest = start()
    guest.begin()
    guest.mark(0, "TRACE_BEGIN")
    for rw in (R, R, W, R, W):
        guest.access(0, 0, rw)
    guest.access(0, 1024 * 64, R)  # the same entry of the filter
    guest.access(0, 0, R)
    guest.mark(0, "TRACE_END")
    assert [(kind, line) for kind, line, *_ in words(guest)] == [
        ("read", 0),
        ("write", 0),
        ("read", 1024),
        ("read", 0),
    ]


def test_trace_repeats_a_hot_line_from_time_to_time(start: Start) -> None:
    """So that it stays the most recently used one in a replayed cache."""
    guest = start()
    guest.begin()
    guest.mark(0, "TRACE_BEGIN")
    for line in range(10000):
        guest.access(0, 0, R)
        guest.access(0, 64 * (1 + line % 1000 + 1024 * line), R)
    guest.mark(0, "TRACE_END")
    assert len(words(guest)) == 10000 + 3
    assert sum(line == 0 for _, line, *_ in words(guest)) == 3


def test_every_trace_has_a_file_of_its_own(start: Start) -> None:
    guest = start()
    guest.begin()
    for line in range(2):
        guest.mark(0, "TRACE_BEGIN")
        guest.access(0, 64 * line, R)
        guest.mark(0, "TRACE_END")
        assert guest.lines()[-1]["trace"] == f"trace-{line}.gz"
        assert words(guest) == [("read", line, 0, 1, 0)]
    guest.mark(0, "TRACE_END")
    assert guest.lines()[-1]["trace"] is None


# ---------------------------------------------------------------- regions


@pytest.mark.parametrize("process", [1, 7, 32767, 32768, 32769, 4194303])
def test_a_region_ends_with_its_process(start: Start, process: int) -> None:
    guest = start()
    guest.switch_process(0, process)
    guest.begin()
    guest.access(0, 0, R)
    guest.end_process(1, process + 32768)  # same lower half
    assert guest.counters()["accesses"] == 1
    guest.end_process(0, process)
    guest.access(0, PAGE, R)
    guest.switch_process(0, 2)
    guest.access(0, 2 * PAGE, R)
    assert guest.counters()["accesses"] == 1
    guest.begin()
    guest.access(0, 3 * PAGE, R)
    guest.end()
    assert guest.regions() == [(process, None), (process, "process"), (2, None), (2, "marker")]
    assert guest.counters()["accesses"] == 2


def test_a_remapped_window_has_new_addresses_and_its_price(start: Start) -> None:
    guest = start()
    guest.begin()
    guest.access(0, 0, R)
    guest.map(0, NODE_1)
    guest.mark_remapped(1, 40_000)
    guest.access(0, 0, R)
    assert guest.counters()["misses"] == [1, 1]
    assert guest.counters(1)["charged_ns"] == 3000 + 40_000 * 20
    guest.execute(0, 1000)
    assert guest.counters()["charged_ns"] == 700
    guest.end()
    guest.mark_remapped(1, 1)
    assert guest.counters(1)["charged_ns"] == 3000 + 40_000 * 20


def test_helpers_that_run_the_process_do_not_compute(start: Start) -> None:
    """Their interrupts, other processes and other vCPUs do not count."""
    guest = start(instruction=1, cpus=4)
    guest.begin()

    def cost() -> float:
        before = guest.counters()["compute_ns"]
        guest.execute(0, 2400)
        return float(guest.counters()["compute_ns"] - before)

    for cpu, process, expected in (
        (1, 0, 2400),
        (2, 7, 2400),
        (1, 1, 2400 * 24 / 23),
        (3, 1, 2400 * 24 / 22),
    ):
        guest.switch_process(cpu, process)
        assert cost() == pytest.approx(expected, abs=2)
    guest.switch_process(3, 0)
    guest.interrupt(3)
    guest.switch_process(0, 1)
    assert cost() == pytest.approx(2400 * 24 / 23, abs=2)
    guest.end()
    guest.switch_process(0, 2)
    guest.begin()
    assert cost() == pytest.approx(2400, abs=2)


def test_a_region_has_the_requested_dilation(start: Start) -> None:
    guest = start()
    guest.begin()
    guest.end_process(0, 1)
    guest.ask_for_dilation(250)
    guest.switch_process(0, 2)
    guest.begin()
    guest.end()
    ends = [line for line in guest.lines() if line["marker"] == 2]
    assert [line["dilation"] for line in ends] == [0, 250]


def test_regions_of_several_processes_may_overlap(start: Start) -> None:
    """The model runs while any region is open. A process ends only its own region."""
    guest = start()
    guest.begin(0)
    guest.switch_process(1, 2)
    guest.begin(1)
    guest.end(0)
    guest.access(0, 0, R)
    guest.switch_process(0, 3)
    guest.end(0)  # process 3 has no region
    guest.access(0, PAGE, R)
    guest.end(1)
    guest.access(0, 2 * PAGE, R)
    assert guest.counters(0)["accesses"] == 2
    marked = [(line.get("process"), line.get("cause")) for line in guest.lines() if line["marker"] <= 2]
    assert marked == [(1, None), (2, None), (1, "marker"), (None, None), (2, "marker")]


def test_a_second_begin_ends_the_first_region(start: Start) -> None:
    guest = start()
    guest.begin()
    guest.ask_for_dilation(300)
    guest.begin()
    guest.end()
    guest.access(0, 0, R)
    assert guest.regions() == [(1, None), (1, "begin"), (1, None), (1, "marker")]
    assert guest.lines()[-1]["dilation"] == 300
    assert guest.counters()["accesses"] == 0


def test_a_region_can_be_ended_on_another_vcpu(start: Start) -> None:
    guest = start()
    guest.begin(0)
    guest.end(1)
    assert guest.regions() == [(1, None), (1, "marker")]


def test_a_region_beyond_the_limit_is_reported(start: Start, capfd: pytest.CaptureFixture[str]) -> None:
    guest = start()
    for process in range(1, 66):
        guest.switch_process(0, process)
        guest.begin()
    assert "timing: region of process 65 ignored: 64 regions are open" in capfd.readouterr().err
    for process in range(1, 65):
        guest.end_process(0, process)
    guest.access(0, 0, R)
    assert guest.counters()["accesses"] == 0


def test_a_reset_ends_region_counting_and_serial_mode(start: Start) -> None:
    guest = start()
    guest.begin()
    guest.mark(0, "OBSERVE")
    guest.mark(0, "SERIAL_BEGIN")
    guest.ask_for_dilation(500)
    guest.reset()
    guest.access(0, 0, R)
    assert guest.counters()["accesses"] == 0
    guest.switch_process(0, 1)  # same process ID as before
    guest.begin()
    guest.access(0, PAGE, R)
    guest.end()
    assert guest.regions() == [(1, None), (1, "reset"), (1, None), (1, "marker")]
    assert guest.lines()[-1]["dilation"] == 0
    assert guest.pages() == []


def test_a_restore_ends_the_region(start: Start) -> None:
    guest = start()
    guest.begin()
    guest.pause(0)
    saved = guest.clock_page()
    guest.resume(0)
    guest.access(0, 0, R)
    guest.pause(0)
    guest.restore_clock_page(saved)
    guest.resume(0)
    guest.access(0, PAGE, R)
    assert guest.counters()["accesses"] == 1
    guest.begin()  # the process is unknown
    guest.access(0, 2 * PAGE, R)
    guest.switch_process(0, 5)
    guest.end()
    assert guest.regions() == [(1, None), (1, "restore"), (-1, None), (-1, "marker")]
    assert guest.counters()["accesses"] == 2


def test_saving_the_machine_keeps_the_region(start: Start) -> None:
    guest = start()
    guest.begin()
    for _ in range(3):
        guest.pause(0)
        guest.clock_page()
        guest.resume(0)
    guest.end()
    assert guest.regions() == [(1, None), (1, "marker")]


def test_a_region_of_an_unknown_process_ends_with_the_process(start: Start) -> None:
    guest = start()
    guest.reset()
    guest.begin()
    guest.end_process(0, 9)
    assert guest.regions() == [(-1, None), (-1, "process")]


def test_serial_mode_applies_to_one_process(start: Start) -> None:
    """It affects neither other processes on the vCPU nor a later process with the same ID."""
    guest = start(parallelism=10)
    guest.switch_process(1, 2)
    guest.begin(1)
    costs: list[float] = []

    def cost() -> float:
        before = guest.counters()["memory_ns"]
        guest.access(0, NODE_1 + PAGE * len(costs), R)
        return round(float(guest.counters()["memory_ns"] - before), 3)

    guest.mark(0, "SERIAL_BEGIN")
    costs.append(cost())
    guest.switch_process(0, 3)
    costs.append(cost())
    guest.switch_process(0, 1)
    costs.append(cost())
    guest.switch_process(0, 3)
    guest.end_process(1, 1)
    guest.switch_process(0, 1)
    costs.append(cost())
    assert costs == [305.0, 30.5, 305.0, 30.5]


def test_page_counting_ends_with_the_process(start: Start) -> None:
    guest = start()
    guest.switch_process(1, 2)
    guest.begin(1)
    guest.mark(0, "OBSERVE")
    guest.access(0, 0, R)
    guest.end_process(0, 1)
    guest.access(0, 0, R)
    assert guest.pages() == [[0, 1, 0, 1, 0]]
    assert guest.lines()[-1]["process"] == 1


# ---------------------------------------------------------------- dependences

FOLLOW = "48 8b 00"  # mov (%rax),%rax
FOLLOW_RBX = "48 8b 1b"  # mov (%rbx),%rbx
CLEAR = "31 c0"  # xor %eax,%eax
PUSH, POP = "50", "58"  # %rax
LFENCE = "0f ae e8"
CHASED = 1000  # lines
ALONE = 30.5  # ns of a miss on node 1 among others, with a parallelism of 10


@pytest.fixture
def chaser(start: Start) -> Guest:
    guest = start(parallelism=10)
    guest.begin()
    return guest


def far(line: int) -> int:
    return NODE_1 + 64 * line


def ns_for_each(guest: Guest, lines: int = CHASED) -> float:
    return float(guest.counters()["ns"]) / lines


def test_a_chase_takes_the_nodes_latency(chaser: Guest) -> None:
    for line in range(CHASED):
        chaser.run(0, (FOLLOW, far(line), R))
    assert ns_for_each(chaser) == pytest.approx(LATENCY[1], rel=0.01)


def test_a_chase_within_a_block_takes_the_nodes_latency(chaser: Guest) -> None:
    for line in range(0, CHASED, 100):
        chaser.run(0, *((FOLLOW, far(line + i), R) for i in range(100)))
    assert ns_for_each(chaser) == pytest.approx(LATENCY[1], rel=0.01)


def test_two_chases_overlap(chaser: Guest) -> None:
    for line in range(0, CHASED, 2):
        chaser.run(0, (FOLLOW, far(line), R), (FOLLOW_RBX, far(line + 1), R))
    assert ns_for_each(chaser) == pytest.approx(LATENCY[1] / 2, rel=0.01)


def test_a_chase_through_the_stack_takes_the_nodes_latency(chaser: Guest) -> None:
    """The stack is in the cache."""
    for line in range(CHASED):
        chaser.run(0, (FOLLOW, far(line), R), (PUSH, 0x7000, W), (CLEAR, 0, 0))
        chaser.run(0, (POP, 0x7000, R))
    assert ns_for_each(chaser) == pytest.approx(LATENCY[1], rel=0.01)


def test_a_chase_of_lines_that_are_being_fetched(chaser: Guest) -> None:
    """Another access fetches the line that the next address is in."""
    for line in range(CHASED):
        chaser.run(0, ("f2 0f 10 40 08", far(line) + 8, R), (FOLLOW, far(line), R))
    assert ns_for_each(chaser) == pytest.approx(LATENCY[1], rel=0.01)


def test_independent_loads_overlap(chaser: Guest) -> None:
    for line in range(CHASED):
        chaser.run(0, (FOLLOW, far(line), R), (CLEAR, 0, 0))
    assert ns_for_each(chaser) == pytest.approx(ALONE, rel=0.01)


def test_the_address_of_a_store_does_not_matter(chaser: Guest) -> None:
    for line in range(CHASED):
        chaser.run(0, (FOLLOW, far(line), R), ("c7 00 01 00 00 00", far(CHASED + line), W), (CLEAR, 0, 0))
    assert chaser.counters()["memory_ns"] / CHASED == pytest.approx(ALONE, rel=0.15)


def test_a_read_modify_write_waits_for_its_address(chaser: Guest) -> None:
    increment = "ff 00"  # incl (%rax)
    for line in range(0, CHASED, 2):
        chaser.run(0, (FOLLOW, far(line), R), (increment, far(line + 1), R))
    assert ns_for_each(chaser) == pytest.approx(LATENCY[1] / 2, rel=0.02)


@pytest.mark.parametrize("interruption", ["interrupt", "kernel thread"])
def test_interrupts_do_not_disturb_a_chase(chaser: Guest, interruption: str) -> None:
    """They come by real time, far too often in model time."""
    for line in range(CHASED):
        chaser.run(0, (FOLLOW, far(line), R))
        if interruption == "kernel thread":
            chaser.switch_process(0, 2)
        chaser.interrupt(0, (FOLLOW, 0x8000, R))
        if interruption == "kernel thread":
            chaser.switch_process(0, 1)
    assert ns_for_each(chaser) == pytest.approx(LATENCY[1], rel=0.01)


def test_another_process_does_not_wait(chaser: Guest) -> None:
    for line in range(CHASED):
        chaser.switch_process(0, 1 + line % 2)
        chaser.run(0, (FOLLOW, far(line), R))
    assert ns_for_each(chaser) == pytest.approx(ALONE, rel=0.01)


def test_the_kernels_loads_are_independent(chaser: Guest) -> None:
    for line in range(CHASED):
        chaser.interrupt(0, (FOLLOW, far(line), R))
    assert ns_for_each(chaser) == pytest.approx(ALONE, rel=0.01)


def test_the_clock_includes_misses_in_flight(chaser: Guest) -> None:
    """The vCPU runs ahead of its chain of misses, but a fence waits for them, as reading the clock does."""
    for line in range(4):
        chaser.run(0, (FOLLOW, far(line), R))
    first = chaser.counters()["ns"]
    assert first == pytest.approx(4 * LATENCY[1], rel=0.01)
    for line in range(4, 8):
        chaser.run(0, (FOLLOW, far(line), R))
    chaser.run(0, (LFENCE, 0, 0), (CLEAR, 0, 0))
    for line in range(8, 108):
        chaser.run(0, (FOLLOW, far(line), R), (CLEAR, 0, 0))
    assert chaser.counters()["ns"] - 2 * first == pytest.approx(100 * ALONE, rel=0.01)


def test_a_serial_section_counts_a_dependent_miss_once(chaser: Guest) -> None:
    chaser.mark(0, "SERIAL_BEGIN")
    for line in range(CHASED):
        chaser.run(0, (FOLLOW, far(line), R))
    assert ns_for_each(chaser) == pytest.approx(LATENCY[1], rel=0.01)


def traced_sources(guest: Guest) -> list[int]:
    return [source for *_, source in words(guest)]


def test_trace_names_the_word_that_an_address_depends_on(chaser: Guest) -> None:
    chaser.mark(0, "TRACE_BEGIN")
    for line in range(0, 6, 2):
        chaser.run(0, (FOLLOW, far(line), R), (FOLLOW_RBX, far(line + 1), R))
    chaser.run(0, (CLEAR, 0, 0), (FOLLOW, far(6), R))
    chaser.run(0, ("c7 00 01 00 00 00", far(7), W))  # a store waits in the store buffer
    chaser.mark(0, "TRACE_END")
    assert traced_sources(chaser) == [0, 0, 2, 2, 2, 2, 0, 0]


def test_traced_events_do_not_end_a_dependence(chaser: Guest) -> None:
    chaser.mark(0, "TRACE_BEGIN")
    chaser.run(0, (FOLLOW, far(0), R))
    chaser.mark(0, "TRACE_PAUSE")
    chaser.mark(0, "TRACE_EVENT")
    chaser.mark(0, "TRACE_RESUME")
    chaser.run(0, (FOLLOW, far(1), R))
    chaser.mark(0, "TRACE_END")
    assert traced_sources(chaser) == [0, 0, 2]


def test_trace_has_fences_but_no_interrupts(chaser: Guest) -> None:
    chaser.mark(0, "TRACE_BEGIN")
    chaser.run(0, (FOLLOW, far(0), R))
    chaser.interrupt(0)
    chaser.run(0, (FOLLOW, far(1), R), (LFENCE, 0, 0))
    chaser.run(0, (CLEAR, 0, 0), (FOLLOW, far(2), R))
    chaser.mark(0, "TRACE_END")
    assert traced_sources(chaser) == [0, 1, FENCE]


# ---------------------------------------------------------------- time


@pytest.mark.parametrize("dilation", [0, 1000])
def test_a_paused_machine_is_not_idle(start: Start, dilation: float) -> None:
    guest = start(instruction=1)
    guest.set_clock(1e9)
    guest.ask_for_dilation(dilation)
    guest.begin()
    guest.execute(0, 300)
    guest.set_clock(1e9 + 300 * dilation)
    guest.execute(1, 100)
    before = [guest.counters(cpu) for cpu in (0, 1)]
    for cpu in (0, 1):
        guest.pause(cpu)
    for cpu in (0, 1):
        guest.resume(cpu)
    after = [guest.counters(cpu) for cpu in (0, 1)]
    assert [a["idle_ns"] for a in after] == [b["idle_ns"] for b in before] == [0, 0]
    assert [a["ns"] - a["compute_ns"] for a in after] == [0, 0]
    guest.end()
    assert guest.lines()[-1]["behind"] == 0


@pytest.mark.parametrize("dilation", [0, 100])
def test_a_halted_vcpu_is_idle(start: Start, dilation: float) -> None:
    guest = start(instruction=1)
    guest.set_clock(1e9)
    guest.ask_for_dilation(dilation)
    guest.begin()
    guest.execute(1, 1)
    guest.halt(1)
    guest.set_clock(1e9 + 5000 * dilation)
    guest.execute(0, 5000)
    guest.resume(1)
    idle = guest.counters(1)["idle_ns"]
    assert idle == pytest.approx(5000, abs=10)


def test_stopped_time_does_not_hold_a_vcpu_forever(start: Start) -> None:
    """In a pause, the machine's clock stops first; vCPUs stop at the end of a block."""
    guest = start(instruction=1, cpus=1)
    guest.set_clock(1e9)
    guest.ask_for_dilation(1e6)
    guest.begin()
    for _ in range(3):
        guest.execute(0, 1000)
    assert guest.counters()["instructions"] >= 3000


def test_a_vcpu_idle_at_the_begin_does_not_hold_others(start: Start) -> None:
    """Its clock is behind until it executes; the others do not wait for it."""
    guest = start(instruction=1)
    guest.begin()
    guest.execute(0, 1_000_000)
    guest.end()
    held = guest.counters()["held"]
    guest.begin()
    guest.execute(0, 19_000)
    assert guest.counters()["held"] == held
    guest.execute(1, 1)
    assert guest.counters(1)["ns"] >= 1_000_000


# ---------------------------------------------------------------- threads


@pytest.fixture(scope="module")
def races(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return the command that runs the vCPUs in threads, under the thread sanitizer."""
    if shutil.which("gcc") is None:
        pytest.skip("no gcc")
    program = tmp_path_factory.mktemp("races") / "races"
    flags = ["-DAPI=1", "-std=gnu11", "-g", "-O1", "-fsanitize=thread", INCLUDE]
    arguments = [*flags, "-o", str(program), str(HERE / "races.c"), *sources(), *plugin.LIBRARIES]
    subprocess.run(["gcc", *arguments], check=True)
    # The sanitizer does not support the address randomisation of some kernels
    no_aslr = ["setarch", "-R"]
    allowed = shutil.which("setarch") and not subprocess.run([*no_aslr, "true"], check=False).returncode
    return [*(no_aslr if allowed else []), str(program)]


@pytest.mark.parametrize("dilation", [0.0, 50.0])
@pytest.mark.parametrize(
    "mode", [{}, {"cache__shared": 1}, {"memory_mode": 1}], ids=["own", "shared", "near"]
)
def test_vcpus_do_not_race(races: list[str], tmp_path: Path, mode: dict[str, int], dilation: float) -> None:
    for seed in ("1", "2"):
        config = timing_config.write(tmp_path, split=1 << 17, end=1 << 30, instruction=0.25, **mode)
        timing_config.ask_for_dilation(tmp_path, dilation)
        result = subprocess.run([*races, str(config), seed], check=False, capture_output=True, text=True)
        assert (result.returncode, result.stderr) == (0, "")
    assert any(line.get("dilation") == dilation for line in counters.read(tmp_path / "counters.jsonl"))
