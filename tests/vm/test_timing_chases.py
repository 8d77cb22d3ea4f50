# SPDX-License-Identifier: Apache-2.0
"""Programs that do not announce dependent misses, in a real QEMU without an operating system (chases.c)."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from testbed.timing import expected, preset
from tests.vm import test_timing_bare as bare

LINES, LINE = 8192, 64
PRESET = preset.load("optane-6dimm")
# Kinds of accesses in their order in chases.c; how many chains of dependent misses each follows
CHAINS = {
    "unrolled": 1,
    "strided": 1,
    "random": 1,
    "two": 2,
    "four": 4,
    "sum of a list": 1,
    "not optimised": 1,
    "without a branch": 1,
}
KINDS = (*CHAINS, "read", "gather", "write", "copy")
Times = dict[tuple[str, int], float]


@pytest.fixture(scope="module")
def times(tmp_path_factory: pytest.TempPathFactory) -> Times:
    """Return the model ns for each line, by kind of access and node."""
    folder = tmp_path_factory.mktemp("chases")
    program = folder / "chases"
    flags = [flag for flag in bare.FLAGS if flag != "-O1"]
    source = Path(__file__).parent / "chases.c"
    subprocess.run(["gcc", *flags, "-O2", "-o", str(program), str(source)], check=True)
    changes: dict[str, object] = {"parallelism": PRESET.compute.parallelism, "cache__size": 128 << 10}
    for number, node in enumerate(PRESET.nodes):
        changes |= {f"node{number}__{name}": value for name, value in node if value is not None}
    with bare.running(program, folder, vcpus=1, **changes) as machine:
        lines = machine.wait_for("marker")
    ns = {line["marker"]: line["vcpus"][0]["ns"] for line in lines}
    return {
        (kind, node): (ns[first + 1] - ns[first]) / LINES
        for i, kind in enumerate(KINDS)
        for node in (0, 1)
        for first in [bare.USER + 0x100 * node + 2 * i]
    }


@pytest.mark.parametrize("node", [0, 1])
@pytest.mark.parametrize("kind", CHAINS)
def test_a_chase_without_markers_takes_the_nodes_latency(times: Times, kind: str, node: int) -> None:
    latency = PRESET.nodes[node].read_latency / CHAINS[kind]
    assert times[kind, node] == pytest.approx(latency, rel=0.01)


@pytest.mark.parametrize("node", [0, 1])
def test_streams_keep_the_nodes_bandwidth(times: Times, node: int) -> None:
    measured = {kind: LINE / times[kind, node] for kind in ("read", "write", "copy")}
    assert measured == {
        "read": pytest.approx(expected.read(PRESET, node), rel=0.01),
        "write": pytest.approx(expected.write(PRESET, node), rel=0.01),
        "copy": pytest.approx(expected.copy(PRESET, node, node), rel=0.05),
    }


@pytest.mark.parametrize("node", [0, 1])
def test_addresses_from_a_stream_leave_most_misses_overlapping(times: Times, node: int) -> None:
    """A miss takes up to twice as long with the one that its address comes from, but they overlap."""
    memory, cpu = PRESET.nodes[node], PRESET.compute
    assert times["read", node] < times["gather", node] < 2.2 * memory.read_latency / cpu.parallelism
