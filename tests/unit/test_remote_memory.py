# SPDX-License-Identifier: Apache-2.0
"""Slow memory on a far node of a KVM host: what is chosen, and the XML of it. No such host is needed."""

from __future__ import annotations

from pathlib import Path

import pytest
from lxml import etree

from testbed import machine
from testbed.host import remote_memory
from testbed.host.remote_memory import HostNode, Remote
from testbed.machine import Machine
from testbed.vm import domain
from testbed.vm.domain import Placed

GIB = 1 << 30


def node(number: int, cpus: range, free: int, *distances: int) -> HostNode:
    return HostNode(number, tuple(cpus), free, dict(enumerate(distances)))


# Two sockets; node 2 is memory without CPUs, behind the second one
HOST = [
    node(0, range(8), 32 * GIB, 10, 21, 28),
    node(1, range(8, 16), 32 * GIB, 21, 10, 17),
    node(2, range(0), 64 * GIB, 28, 17, 10),
]


def two_nodes(first: str = "2 GiB", second: str = "2 GiB", vcpus: int = 2) -> Machine:
    nodes = [{"memory": first, "cpus": list(range(vcpus))}, {"memory": second}]
    return Machine.model_validate({"vcpus": vcpus, "nodes": nodes})


def test_the_farthest_memory_is_the_slow_one() -> None:
    assert remote_memory.choose(two_nodes(), HOST) == Remote((0, 1), (0, 2))
    assert remote_memory.choose(two_nodes(), HOST[:2], antagonist=3) == Remote((0, 1), (0, 1), (8, 9, 10))


def test_the_antagonist_takes_spare_cpus_if_the_far_node_has_none() -> None:
    assert remote_memory.choose(two_nodes(), HOST, antagonist=2) == Remote((0, 1), (0, 2), (2, 3))


def test_what_does_not_fit_goes_elsewhere() -> None:
    assert remote_memory.choose(two_nodes(second="48 GiB"), HOST) == Remote((0, 1), (0, 2))
    full = [node(0, range(8), GIB, 10, 21, 28), *HOST[1:]]
    assert remote_memory.choose(two_nodes(), full) == Remote((8, 9), (1, 2))
    assert remote_memory.choose(two_nodes(vcpus=9), HOST) is None
    assert remote_memory.choose(two_nodes(second="100 GiB"), HOST) is None


def test_one_node_is_functional_only() -> None:
    assert remote_memory.choose(two_nodes(), HOST[:1]) is None
    assert remote_memory.choose(two_nodes(), []) is None
    one = Machine.model_validate({"vcpus": 1, "nodes": [{"memory": "1 GiB", "cpus": [0]}]})
    assert remote_memory.choose(one, HOST) is None


def test_the_antagonists_command() -> None:
    assert remote_memory.antagonist_command(Remote((0, 1), (0, 2))) is None
    assert remote_memory.antagonist_command(Remote((0, 1), (0, 2), (2, 3))) == [
        *["numactl", "--physcpubind=2,3", "--membind=2", "stress-ng", "--quiet", "--stream", "2"]
    ]


def test_it_is_described_and_loaded() -> None:
    one = Remote((0, 1), (0, 2), (5,))
    assert remote_memory.load(one.described()) == one


def test_what_sysfs_says(tmp_path: Path) -> None:
    for number, (cpus, distance) in enumerate([("0-1,4\n", "10 20\n"), ("\n", "20 10\n")]):
        folder = tmp_path / f"node{number}"
        folder.mkdir()
        (folder / "cpulist").write_text(cpus)
        (folder / "distance").write_text(distance)
        (folder / "meminfo").write_text(f"\nNode {number} MemTotal: 99 kB\nNode {number} MemFree: 1024 kB\n")
    assert remote_memory.host(tmp_path) == [
        HostNode(0, (0, 1, 4), 1 << 20, {0: 10, 1: 20}),
        HostNode(1, (), 1 << 20, {0: 20, 1: 10}),
    ]


@pytest.mark.parametrize("where", [None, Remote((3, 5), (1, 2))])
def test_the_domain(where: Remote | None, tmp_path: Path) -> None:
    placed = Placed(
        name="m",
        uuid="00000000-0000-0000-0000-000000000000",
        accelerator="kvm",
        emulator=tmp_path,
        kernel=tmp_path,
        disk=tmp_path,
        console=tmp_path,
        public_key="key",
        remote=where,
    )
    tree = etree.fromstring(domain.xml(machine.load("two-node"), placed))
    pins = [(p.get("vcpu"), p.get("cpuset")) for p in tree.findall("cputune/vcpupin")]
    cells = [(c.get("cellid"), c.get("mode"), c.get("nodeset")) for c in tree.findall("numatune/memnode")]
    if where is None:
        assert (pins, cells) == ([], [])
    else:
        assert pins == [("0", "3"), ("1", "5")]
        assert cells == [("0", "strict", "1"), ("1", "strict", "2")]
        assert [c.tag for c in tree].index("numatune") < [c.tag for c in tree].index("os")
