# SPDX-License-Identifier: Apache-2.0
"""The timing model in a real guest: memory costs what the preset says, by the model's clock."""

from __future__ import annotations

import json
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from experiments import boot, guest_code
from testbed import machine, vm
from testbed.common import files, processes
from testbed.common.cache import Cache
from testbed.common.errors import InfrastructureError
from testbed.timing import calibration, counters, measurement, plugin, preset
from testbed.timing.calibration import Calibration
from testbed.vm import Vm

pytestmark = pytest.mark.usefixtures("quiet_host")

PRESET = "optane-6dimm"
MIB = 1 << 20
TIMEOUT = 3600.0  # seconds
# Stream through memory of one node inside a region. Print the shortest time of each stream by the model clock
# and the guest clock: interrupts only prolong it.
STREAMS = """
import sys, json, numpy
import timing_client
from guest.bindings import memory
memory.place("bind", [int(sys.argv[1])])
array = numpy.ones(32 << 17)  # 32 MiB
timing_client.region_begin()
times = {}
for name, work in (("read", lambda: array.sum()), ("write", lambda: array.fill(2))):
    work()
    for _ in range(3):
        timing_client.step_begin()
        before, guest_before = timing_client.now_ns(), timing_client.monotonic_ns()
        work()
        took = timing_client.now_ns() - before, timing_client.monotonic_ns() - guest_before
        timing_client.step_end()
        times[name] = min(took, times.get(name, took))
timing_client.region_end()
outside = timing_client.now_ns()
array.sum()
outside = timing_client.now_ns() - outside
print(json.dumps({"modelled": timing_client.modelled(), "outside": outside, **times}))
"""


@pytest.fixture(scope="module")
def guest(kernel: str) -> Iterator[Vm]:
    artifacts = boot.prepare(machine.load("two-node"), preset=preset.load(PRESET), kernel=kernel)
    with vm.running("timing", artifacts.boot) as started:
        started.wait_ready()
        with started.shell() as shell:
            guest_code.deploy(shell)
        yield started


@pytest.mark.parametrize("node", [0, 1])
def test_streams_reach_the_nodes_bandwidth(guest: Vm, tmp_path: Path, node: int) -> None:
    script = tmp_path / "streams.py"
    script.write_text(STREAMS)
    with guest.shell() as shell:
        shell.put(script, "/root/streams.py")
        output = shell.run(
            f"PYTHONPATH=/opt/sentinel taskset -c 0 python3 /root/streams.py {node}", timeout=TIMEOUT
        ).out
    result = json.loads(output)
    memory = preset.load(PRESET).nodes[node]
    assert result["modelled"] is True
    assert result["outside"] == 0
    for access, bandwidth in (("read", memory.read_bandwidth), ("write", memory.write_bandwidth)):
        took, guest_took = result[access]
        slack = 0.1 + calibration.INTERRUPTS * guest_took / took
        assert 32 * MIB / took == pytest.approx(bandwidth, rel=slack)

    assert [line["marker"] for line in lines(guest)[-14:]] == [1, *6 * [3, 4], 2]
    reading = list(counters.steps(guest.counters_path))[-6:-3]
    assert min(step["read"][node] for step in reading) == pytest.approx(32 * MIB, rel=0.1)


def test_plugin_in_use_is_not_pruned(guest: Vm) -> None:
    key = files.read_json(guest.folder / "config.json")["plugin"]
    assert [entry.key for entry in Cache().prune(kinds=(plugin.KIND,), keys=(key,)).busy] == [key]


def evaluated(guest: Vm, mode: str) -> Calibration:
    memory = preset.load(PRESET)
    rows = measurement.measure(guest, mode, memory.cache.size, 48 * MIB, cache=Cache())
    return calibration.evaluate(memory, rows, key="", created="")


def unreliable(measured: Calibration) -> str:
    """Return why wrong figures do not concern the model, or "" if all are right.

    Fails if a figure is wrong although the host was fast enough.
    """
    bad = [figure for figure in measured.figures if not figure.good]
    assert [figure for figure in bad if figure.reliable] == []
    if not bad:
        return ""
    share = max(figure.behind + figure.disturbed for figure in bad)
    count = len(measured.figures)
    return f"unreliable: {count - len(bad)} of {count} figures are right; this host was {share:.0%} too slow"


def test_every_figure_matches_the_preset(guest: Vm) -> None:
    measured = evaluated(guest, "full")
    assert len(measured.figures) == 28
    if reason := unreliable(measured):
        pytest.skip(reason)
    for node in (0, 1):
        sizes = [size for size, _ in measured.latency_by_size(node)]
        assert (min(sizes), max(sizes)) == (MIB // 16, 48 * MIB)
        idle, *_, (rate, loaded) = measured.latency_by_load(node)
        assert idle[1] == pytest.approx(read_latency(measured, node), rel=0.03)
        # On a busy host the vCPUs seldom run at once, and the other one loads the node less, or not
        if rate > 0.93 * preset.load(PRESET).nodes[node].read_bandwidth:
            assert loaded > idle[1]


def read_latency(measured: Calibration, node: int) -> float:
    return next(f.measured for f in measured.figures if f.name == f"node {node} read latency")


def test_paced_guest_clock_matches_the_preset(guest: Vm) -> None:
    measured = evaluated(guest, "paced")
    assert measured.dilation > 1
    if reason := unreliable(measured):
        pytest.skip(reason)


@pytest.mark.parametrize(("dilation", "code"), [("2000", (0, 75)), ("1", (75,))])
def test_program_can_pace_its_child(guest: Vm, dilation: str, code: tuple[int, ...]) -> None:
    """The first dilation is one that a host may sustain, the second one that no host sustains."""
    work = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done"
    with guest.shell() as shell:
        result = shell.run(
            f"PYTHONPATH=/opt/sentinel python3 -m paced --dilation {dilation} sh -c '{work}'",
            check=False,
            timeout=TIMEOUT,
        )
    assert result.code in code
    assert f"paced: dilation {dilation}, behind for" in result.err
    assert ("UNRELIABLE" in result.err) is (result.code == 75)


def test_page_migration_has_its_cost(guest: Vm, tmp_path: Path) -> None:
    """The test migrates with migrate_pages(2); the kernel copies all migrated pages in one function."""
    script = tmp_path / "migrate.py"
    script.write_text(MIGRATE)
    with guest.shell() as shell:
        shell.put(script, "/root/migrate.py")
        moved = json.loads(shell.run("PYTHONPATH=/opt/sentinel taskset -c 0 python3 /root/migrate.py").out)
    before, after = lines(guest)[-2:]
    old, new = before["vcpus"][0], after["vcpus"][0]
    pages = [b - a for a, b in zip(old["pages"], new["pages"], strict=True)]
    assert moved["bytes"] >= 32 * MIB
    assert sum(pages) == moved["pgmigrate_success"] >= 32 * MIB // 4096
    assert pages[1] == sum(pages)
    assert new["charged_ns"] - old["charged_ns"] == pytest.approx(
        sum(pages) * preset.load(PRESET).page, abs=1
    )


MIGRATE = """
import json
import timing_client
from guest.bindings import memory
block = bytearray(32 << 20)
def on_node_1():
    return memory.residency()["anon"].get("1", 0)
memory.place("bind", [0])
bytes_before, before = on_node_1(), memory.vmstat()
timing_client.region_begin()
memory.move_all(1)
timing_client.region_end()
after = memory.vmstat()
name = "pgmigrate_success"
print(json.dumps({"bytes": on_node_1() - bytes_before, name: after[name] - before[name]}))
"""


def test_oracle_counts_only_the_process(guest: Vm, tmp_path: Path) -> None:
    with guest.shell() as shell:
        shell.put(compiled("counted", tmp_path), "/root/counted")
        shell.run(
            "for cpu in 0 1; do taskset -c $cpu /root/counted for ever & done;"
            "sleep 1; taskset -c 0 /root/counted; kill %1 %2"
        )
    dump = next(line for line in reversed(lines(guest)) if line["marker"] == 10)
    header, *rows = (guest.folder / dump["pages"]).read_text().splitlines()
    assert header == "page,reads,writes,misses0,misses1"
    counted = {page: (reads, writes) for page, reads, writes, *_ in (map(int, r.split(",")) for r in rows)}
    first = 0x100000000000
    ours = {page: counts for page, counts in counted.items() if first <= page < first + 256 * 4096}
    assert ours == {first + i * 4096: (100 * (i % 7 + 1), 100 * (i % 3)) for i in range(256)}


def test_atomic_instructions_fetch_their_line(guest: Vm, tmp_path: Path) -> None:
    """Interrupts may add a few lines."""
    with guest.shell() as shell:
        shell.put(compiled("atomics", tmp_path), "/root/atomics")
        size, *kinds = shell.run("/root/atomics").out.splitlines()
    fetched = [step["read"][1] / 64 for step in counters.steps(guest.counters_path)][-len(kinds) :]
    assert dict(zip(kinds, fetched, strict=True)) == {
        kind: pytest.approx(int(size), rel=0.05) for kind in kinds
    }


def test_region_ends_with_its_process(guest: Vm, tmp_path: Path) -> None:
    ways = 6
    before = len(lines(guest))
    with guest.shell() as shell:
        shell.put(compiled("regions", tmp_path), "/root/regions")
        shell.run("/root/regions")
    logged = lines(guest)[before:]
    parent = logged[-1]["process"]
    for way in range(ways):
        outlived = [(0x8100, None)] if way == ways - 1 else []
        expected = [(1, None), *outlived, (2, "process"), (0x8000 + way, None), (1, None), (2, "marker")]
        these, logged = logged[: len(expected)], logged[len(expected) :]
        assert [(line["marker"], line.get("cause")) for line in these] == expected
        begun, *_, ended, _, parents, parents_end = these
        assert begun["process"] == ended["process"] != parent
        assert parents["process"] == parents_end["process"] == parent
        assert parents_end["dilation"] == 2000 + way
    assert logged == []


def test_unknown_marker_is_reported_once(guest: Vm) -> None:
    marks = "import timing_client; timing_client.mark(0x2345); timing_client.mark(0x2346)"
    before = len(lines(guest))
    with guest.shell() as shell:
        shell.run(f"PYTHONPATH=/opt/sentinel python3 -c '{marks}'")
    log = (guest.folder / "qemu.log").read_text()
    assert log.count("timing: unknown marker") == log.count("timing: unknown marker 9029 ignored") == 1
    assert len(lines(guest)) == before


def test_unwritable_counters_are_reported(kernel: str, tmp_path: Path) -> None:
    artifacts = boot.prepare(machine.load("two-node"), preset=preset.load(PRESET), kernel=kernel)
    with vm.running("full", artifacts.boot) as started:
        started.wait_ready()
        with started.shell() as shell:
            guest_code.deploy(shell)
            shell.run("mount -o remount,ro /")  # the machine's disk is a file too
            qemu = processes.find_qemu(str(started.folder / "disk.qcow2"))[0]
            size = started.counters_path.stat().st_size
            # As on a full disk, none of QEMU's files can grow
            resource.prlimit(qemu, resource.RLIMIT_FSIZE, (size, size))
            marks = "import timing_client; timing_client.region_begin(); timing_client.region_end()"
            assert shell.run(f"PYTHONPATH=/opt/sentinel python3 -c '{marks}; print(7)'").out == "7\n"
        with pytest.raises(InfrastructureError, match="counters are incomplete"):
            counters.check(started.counters_path)


def test_memory_mode(kernel: str) -> None:
    """The first read of a line comes from node 1, the second one from node 0."""
    small = machine.Machine.model_validate(
        {"vcpus": 1, "nodes": [{"memory": "256 MiB", "cpus": [0]}, {"memory": "512 MiB"}]}
    )
    near = preset.load(PRESET).model_copy(update={"memory_mode": True})
    artifacts = boot.prepare(small, preset=near, kernel=kernel)
    with vm.running("near", artifacts.boot) as started:
        started.wait_ready()
        with started.shell() as shell:
            guest_code.deploy(shell)
            shell.run(f"PYTHONPATH=/opt/sentinel python3 -c '{NEAR}'", timeout=TIMEOUT)
        steps = list(counters.steps(started.counters_path))
    size = 32 * MIB
    assert steps[0]["read"] == pytest.approx([0, size], rel=0.1, abs=size * 0.1)
    assert steps[1]["read"] == pytest.approx([size, 0], rel=0.1, abs=size * 0.1)


NEAR = """
import numpy
import timing_client
from guest.bindings import memory
memory.place("bind", [1])
array = numpy.ones(32 << 17)
timing_client.region_begin()
for _ in range(2):
    timing_client.step_begin()
    array.sum()
    timing_client.step_end()
timing_client.region_end()
"""


def test_sleeper_wakes_at_its_wakers_time(guest: Vm, tmp_path: Path) -> None:
    """A vCPU resumes at the model time of the one that wakes it, so turns add up at any speed of the host."""
    with guest.shell() as shell:
        shell.put(compiled("handover", tmp_path), "/root/handover")
        results = [json.loads(shell.run("/root/handover").out) for _ in range(3)]
    least = min(results, key=lambda result: result["ns"])  # interrupts only prolong it
    expected = least["reads"] * preset.load(PRESET).nodes[1].read_latency
    assert least["ns"] == pytest.approx(expected, rel=0.05)


def compiled(name: str, folder: Path) -> Path:
    """Compile a static test program."""
    program, source = folder / name, Path(__file__).parent / f"{name}.c"
    markers = guest_code.TIMING_CLIENT
    flags = ["-O1", "-static", f"-I{markers}"]
    subprocess.run(["gcc", *flags, "-o", str(program), str(source), "-lpthread"], check=True)
    return program


def lines(guest: Vm) -> list[dict[str, Any]]:
    return list(counters.read(guest.counters_path))


def test_markers_outside_a_region_do_nothing(guest: Vm) -> None:
    marks = "import timing_client; timing_client.user(3); timing_client.layer(2)"
    with guest.shell() as shell:
        shell.run(f"PYTHONPATH=/opt/sentinel python2.7 -c '{marks}'")
    last = lines(guest)[-2:]
    assert [line["marker"] for line in last] == [0x8003, 0x1002]
    assert last[0]["vcpus"] == last[1]["vcpus"]
