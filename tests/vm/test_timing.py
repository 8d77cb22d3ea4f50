# SPDX-License-Identifier: Apache-2.0
"""The timing model in a real guest: memory costs what the preset says, by the model's clock."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments import boot, job
from testbed import machine, preset, vm
from testbed.vm import Vm

PRESET = "optane-6dimm"
MIB = 1 << 20
# Streams through memory of one node inside a region, and prints what they took
STREAMS = """
import sys, json, numpy
from guest import memory, model
memory.place(sys.argv[1])
array = numpy.ones(32 << 17)  # 32 MiB
model.region_begin()
times = {}
for name, work in (("read", lambda: array.sum()), ("write", lambda: array.fill(2))):
    work()
    model.step_begin()
    before = model.now_ns()
    work()
    times[name] = model.now_ns() - before
    model.step_end()
model.region_end()
outside = model.now_ns()
array.sum()
print(json.dumps({"modelled": model.modelled(), "outside": model.now_ns() - outside, **times}))
"""


@pytest.fixture(scope="module")
def guest(any_kernel: str) -> Iterator[Vm]:
    made = boot.make(machine.load("two-node"), preset=preset.load(PRESET), kernel=any_kernel)
    with vm.running("timing", made.boot) as started:
        started.wait_ready()
        with started.shell() as shell:
            shell.put(job.GUEST_CODE, "/opt/sentinel/guest")
        yield started


@pytest.mark.parametrize(("node", "placement"), [(0, "fast-only"), (1, "slow-only")])
def test_streams_have_the_nodes_bandwidth(guest: Vm, tmp_path: Path, node: int, placement: str) -> None:
    script = tmp_path / "streams.py"
    script.write_text(STREAMS)
    with guest.shell() as shell:
        shell.put(script, "/root/streams.py")
        said = shell.run(
            f"PYTHONPATH=/opt/sentinel taskset -c 0 python3 /root/streams.py {placement}", timeout=600
        ).out
    result = json.loads(said)
    memory = preset.load(PRESET).nodes[node]
    assert result["modelled"] is True
    assert result["outside"] == 0
    assert 32 * MIB / result["read"] == pytest.approx(memory.read_bandwidth, rel=0.1)
    assert 32 * MIB / result["write"] == pytest.approx(memory.write_bandwidth, rel=0.1)

    lines = [json.loads(line) for line in (guest.folder / "counters.jsonl").read_text().splitlines()]
    assert [line["marker"] for line in lines[-6:]] == [1, 3, 4, 3, 4, 2]
    before, after = lines[-5], lines[-4]
    read = sum(v["read"][node] for v in after["vcpus"]) - sum(v["read"][node] for v in before["vcpus"])
    assert read == pytest.approx(32 * MIB, rel=0.05)


def test_markers_do_nothing_outside_a_region(guest: Vm) -> None:
    marks = "from guest import model; model.user(3); model.layer(2)"
    with guest.shell() as shell:
        shell.run(f"PYTHONPATH=/opt/sentinel python2.7 -c '{marks}'")
    last = [json.loads(line) for line in (guest.folder / "counters.jsonl").read_text().splitlines()[-2:]]
    assert [line["marker"] for line in last] == [0x8003, 0x1002]
    assert last[0]["vcpus"] == last[1]["vcpus"]
