# SPDX-License-Identifier: Apache-2.0
"""Slow memory on a far node of a KVM host: choice of nodes and XML. Needs no such host."""

from __future__ import annotations

from pathlib import Path

import pytest
from lxml import etree

from testbed import machine
from testbed.host import remote_memory
from testbed.host.remote_memory import HostNode, RemoteMemory
from testbed.machine import Machine
from testbed.vm import domain
from testbed.vm.domain import HostResources

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


def test_slow_node_is_the_farthest() -> None:
    assert remote_memory.choose(two_nodes(), HOST) == RemoteMemory((0, 1), (0, 2))
    assert remote_memory.choose(two_nodes(), HOST[:2], antagonist=3) == RemoteMemory(
        (0, 1), (0, 1), (8, 9, 10)
    )


def test_antagonist_uses_spare_cpus_if_the_slow_node_has_none() -> None:
    assert remote_memory.choose(two_nodes(), HOST, antagonist=2) == RemoteMemory((0, 1), (0, 2), (2, 3))


def test_full_nodes_are_skipped() -> None:
    assert remote_memory.choose(two_nodes(second="48 GiB"), HOST) == RemoteMemory((0, 1), (0, 2))
    full = [node(0, range(8), GIB, 10, 21, 28), *HOST[1:]]
    assert remote_memory.choose(two_nodes(), full) == RemoteMemory((8, 9), (1, 2))
    assert remote_memory.choose(two_nodes(vcpus=9), HOST) is None
    assert remote_memory.choose(two_nodes(second="100 GiB"), HOST) is None


def test_one_host_node_gives_no_remote_memory() -> None:
    assert remote_memory.choose(two_nodes(), HOST[:1]) is None
    assert remote_memory.choose(two_nodes(), []) is None
    one = Machine.model_validate({"vcpus": 1, "nodes": [{"memory": "1 GiB", "cpus": [0]}]})
    assert remote_memory.choose(one, HOST) is None


def test_antagonist_command() -> None:
    assert RemoteMemory((0, 1), (0, 2)).antagonist_command() is None
    assert RemoteMemory((0, 1), (0, 2), (2, 3)).antagonist_command() == [
        *["numactl", "--physcpubind=2,3", "--membind=2", "stress-ng", "--quiet", "--stream", "2"]
    ]


def test_remote_memory_survives_json() -> None:
    memory = RemoteMemory((0, 1), (0, 2), (5,))
    assert RemoteMemory.from_json(memory.to_json()) == memory


def test_host_nodes_are_read_from_sysfs(tmp_path: Path) -> None:
    for number, (cpus, distance) in enumerate([("0-1,4\n", "10 20\n"), ("\n", "20 10\n")]):
        folder = tmp_path / f"node{number}"
        folder.mkdir()
        (folder / "cpulist").write_text(cpus)
        (folder / "distance").write_text(distance)
        (folder / "meminfo").write_text(f"\nNode {number} MemTotal: 99 kB\nNode {number} MemFree: 1024 kB\n")
    assert remote_memory.host_nodes(tmp_path) == [
        HostNode(0, (0, 1, 4), 1 << 20, {0: 10, 1: 20}),
        HostNode(1, (), 1 << 20, {0: 20, 1: 10}),
    ]


@pytest.mark.parametrize("where", [None, RemoteMemory((3, 5), (1, 2))])
def test_domain_pins_vcpus_and_nodes(where: RemoteMemory | None, tmp_path: Path) -> None:
    placed = HostResources(
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
