# SPDX-License-Identifier: Apache-2.0
"""Machine specs: properties of valid ones, and messages for invalid ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lxml.etree
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from testbed import machine
from testbed.common.errors import InfrastructureError, UsageError
from testbed.common.sizes import parse_size, shown_size
from testbed.host import memory
from testbed.machine import GRANULE, MIN_NODE, Machine
from testbed.vm import domain
from tests.fakes.host_resources import PLACED

few = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def specs(draw: st.DrawFn) -> dict[str, Any]:
    """What a valid file may hold."""
    vcpus = draw(st.integers(1, 8))
    count = draw(st.integers(1, 4))
    owner = [draw(st.integers(0, count - 1)) for _ in range(vcpus)]
    nodes: list[dict[str, Any]] = []
    distances, hmat = draw(st.booleans()), draw(st.booleans())
    for i in range(count):
        size = MIN_NODE + GRANULE * draw(st.integers(0, 2000))
        node: dict[str, Any] = {
            "memory": shown_size(size),
            "cpus": [c for c in range(vcpus) if owner[c] == i],
        }
        if distances:
            node["distance"] = [10 if i == j else draw(st.integers(11, 254)) for j in range(count)]
        if hmat:
            figure = st.integers(1, 200_000)
            names = ("read_latency_ns", "write_latency_ns", "read_bandwidth_mib", "write_bandwidth_mib")
            node["hmat"] = {name: draw(figure) for name in names}
        nodes.append(node)
    return {
        "vcpus": vcpus,
        "nodes": nodes,
        "accelerator": draw(st.sampled_from(["auto", "kvm", "tcg"])),
        "cmdline": draw(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)),
    }


def load(folder: Path, spec: object) -> Machine:
    path = folder / "m.yaml"
    path.write_text(spec if isinstance(spec, str) else yaml.safe_dump(spec))
    return machine.load(str(path))


@few
@given(specs())
def test_xml_matches_the_machine(tmp_path: Path, spec: dict[str, Any]) -> None:
    loaded = load(tmp_path, spec)
    tree = lxml.etree.fromstring(domain.xml(loaded, PLACED).encode())
    cells = tree.findall("cpu/numa/cell")
    assert [int(cell.get("id")) for cell in cells] == list(range(len(spec["nodes"])))
    sizes = [int(cell.get("memory")) << 10 for cell in cells]
    assert sizes == [parse_size(node["memory"]) for node in spec["nodes"]]
    assert sum(sizes) == loaded.memory == int(tree.findtext("memory")) << 10
    cpus = [int(c) for cell in cells for c in (cell.get("cpus") or "").split(",") if c]
    assert sorted(cpus) == list(range(spec["vcpus"]))
    assert int(tree.findtext("vcpu")) == spec["vcpus"]
    for node, cell in zip(spec["nodes"], cells, strict=True):
        distances = [int(s.get("value")) for s in cell.findall("distances/sibling")]
        assert distances == node.get("distance", [])
    with_cpus = sum(bool(node["cpus"]) for node in spec["nodes"])
    expected = with_cpus * len(cells) if "hmat" in spec["nodes"][0] else 0
    for kind in ("latency", "bandwidth"):
        assert len(tree.findall(f"cpu/numa/interconnects/{kind}[@type='read']")) == expected
    assert tree.findtext("os/cmdline").endswith(spec["cmdline"])


@few
@given(specs())
def test_machine_survives_json(tmp_path: Path, spec: dict[str, Any]) -> None:
    loaded = load(tmp_path, spec)
    assert Machine.model_validate(json.loads(json.dumps(loaded.model_dump(mode="json")))) == loaded


@given(st.integers(0, 1 << 42).map(lambda n: n << 10))
def test_size_round_trips(size: int) -> None:
    assert parse_size(shown_size(size)) == size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512 MiB", 512 << 20),
        ("2GiB", 2 << 30),
        ("1.5 GiB", 3 << 29),
        ("64 KiB", 64 << 10),
        ("0 KiB", 0),
    ],
)
def test_size_is_parsed_with_its_unit(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("size", "text"),
    [(2 << 30, "2 GiB"), (3 << 29, "1536 MiB"), ((1 << 30) + 1024, "1048577 KiB"), (0, "0 GiB")],
)
def test_size_is_shown_in_the_largest_exact_unit(size: int, text: str) -> None:
    assert shown_size(size) == text


@pytest.mark.parametrize("value", ["512", "512 MB", "-1 GiB", "GiB", "1,5 GiB", " 1 GiB", "", 512, None, 1.5])
def test_invalid_size_names_the_allowed_form(value: object) -> None:
    with pytest.raises(ValueError, match=r"such as 512 MiB or 2 GiB \(units KiB, MiB, GiB\)"):
        parse_size(value)


@pytest.mark.parametrize("name", machine.names())
def test_every_shipped_machine_is_valid(name: str) -> None:
    loaded = machine.load(name)
    assert loaded.description
    assert len(loaded.nodes) == 2


def test_shipped_machines_are_listed() -> None:
    assert machine.names() == ["two-node", "two-node-4-migration-cores", "two-node-hmat"]


def test_unknown_machine_lists_the_known_ones() -> None:
    with pytest.raises(UsageError) as caught:
        machine.load("tow-node")
    assert caught.value.message == (
        "unknown machine 'tow-node'; there are: two-node, two-node-4-migration-cores, "
        "two-node-hmat, or a path to a YAML file"
    )


def test_path_is_relative_to_the_naming_file(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "m.yaml").write_text("vcpus: 1\nnodes: [{memory: 64 MiB, cpus: [0]}]\n")
    assert machine.load("m.yaml", relative_to=tmp_path / "sub").vcpus == 1
    assert machine.load("./sub/m.yaml", relative_to=tmp_path).vcpus == 1
    with pytest.raises(UsageError, match=r"m\.yaml: cannot be read: No such file"):
        machine.load("m.yaml", relative_to=tmp_path)


TWO = "vcpus: 2\nnodes:\n  - memory: 1 GiB\n    cpus: [0, 1]\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(
            "vcpus: 1\nnodes:\n  - memory: 62 MiB\n    cpus: [0]\n",
            "3:13: nodes[0].memory: must be at least 64 MiB",
            id="node too small",
        ),
        pytest.param(
            "vcpus: 1\nnodes:\n  - memory: 65 MiB\n    cpus: [0]\n",
            "3:13: nodes[0].memory: must be a multiple of 2 MiB",
            id="node not on a border",
        ),
        pytest.param(
            TWO + "  - memory: 1 GiB\n    cpus: [1]\n",
            "6:11: nodes[1].cpus: CPU 1 is already in node 0",
            id="CPU in two nodes",
        ),
        pytest.param(
            "vcpus: 2\nnodes:\n  - memory: 1 GiB\n    cpus: [0, 0, 1]\n",
            "4:11: nodes[0].cpus: CPU 0 is already in node 0",
            id="CPU twice in a node",
        ),
        pytest.param(
            "vcpus: 4\nnodes:\n  - memory: 1 GiB\n    cpus: [1, 3]\n",
            "3:3: nodes: no node has the CPUs 0, 2",
            id="CPU in no node",
        ),
        pytest.param(
            "vcpus: 2\nnodes:\n  - memory: 1 GiB\n    cpus: [0, 1, 2]\n",
            "4:11: nodes[0].cpus: no CPU 2; allowed: 0 to 1",
            id="CPU out of range",
        ),
        pytest.param(
            TWO + "    distance: [10, 20]\n",
            "5:15: nodes[0].distance: must have 1 values, one for each node",
            id="too many distances",
        ),
        pytest.param(
            TWO + "    distance: [20, 10]\n  - memory: 1 GiB\n    distance: [10, 20]\n",
            "5:15: nodes[0].distance: must be 10 for the node itself and more for every other",
            id="distance to itself",
        ),
        pytest.param(
            TWO + "    distance: [10, 10]\n  - memory: 1 GiB\n    distance: [20, 10]\n",
            "5:15: nodes[0].distance: must be 10 for the node itself and more for every other",
            id="another node as near as itself",
        ),
        pytest.param(
            TWO + "    distance: [10, 20]\n  - memory: 1 GiB\n",
            "6:5: nodes[1]: distance: give it for every node or none",
            id="distances on one node only",
        ),
        pytest.param(
            TWO + "  - memory: 1 GiB\n    hmat: {read_latency_ns: 1, write_latency_ns: 1, "
            "read_bandwidth_mib: 1, write_bandwidth_mib: 1}\n",
            "3:5: nodes[0]: hmat: give it for every node or none",
            id="hmat on one node only",
        ),
        pytest.param(
            TWO + "    distance: [10, 9]\n",
            "5:20: nodes[0].distance[1]: must be at least 10 (got 9)",
            id="distance too small",
        ),
        pytest.param(
            "vcpus: 1\nnodes:\n  - memory: 1024\n    cpus: [0]\n",
            "3:13: nodes[0].memory: must be a size such as 512 MiB or 2 GiB (units KiB, MiB, GiB) (got 1024)",
            id="size without a unit",
        ),
        pytest.param(
            "vcpus: 0\nnodes: []\n",
            "1:8: vcpus: must be at least 1 (got 0)",
            id="no CPU",
        ),
        pytest.param(
            "nodes: []\n",
            "1:8: nodes: must not be empty",
            id="no node",
        ),
        pytest.param(
            "accelerator: xen\n" + TWO,
            "1:14: accelerator: must be one of auto, kvm, tcg (got xen)",
            id="unknown accelerator",
        ),
        pytest.param(
            "ram: 3\n" + TWO,
            "1:1: ram: unknown key; allowed: description, vcpus, nodes, accelerator, cpu, address_bits, "
            "cmdline, shared_folder, devices",
            id="unknown key",
        ),
        pytest.param(
            TWO + "    cpu: 3\n",
            "5:5: nodes[0].cpu: unknown key; allowed: memory, cpus, distance, hmat",
            id="unknown key of a node",
        ),
        pytest.param(
            TWO + "    hmat: {read_latency: 1}\n",
            "5:12: nodes[0].hmat.read_latency: unknown key; allowed: read_latency_ns, write_latency_ns, "
            "read_bandwidth_mib, write_bandwidth_mib",
            id="unknown key of hmat",
        ),
    ],
)
def test_invalid_machine_error_has_place_and_allowed_values(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(tmp_path, text)
    assert f"{tmp_path}/m.yaml:{message}" in caught.value.message.splitlines()


def test_machine_larger_than_the_host_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    four_gib = machine.load("two-node")
    monkeypatch.setattr(memory, "available", lambda: 4 << 30)
    memory.check_capacity(four_gib)
    monkeypatch.setattr(memory, "available", lambda: 3 << 29)
    with pytest.raises(InfrastructureError) as caught:
        memory.check_capacity(four_gib)
    assert caught.value.message == "the machine needs 4 GiB of memory; this host has 1.5 GiB available"
    assert caught.value.hint is not None


def test_available_memory_is_memavailable() -> None:
    meminfo = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    total = int(meminfo["MemTotal"].split()[0]) << 10
    available = int(meminfo["MemAvailable"].split()[0]) << 10
    assert memory.available() == pytest.approx(available, abs=total // 4)
