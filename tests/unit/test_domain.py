# SPDX-License-Identifier: Apache-2.0
"""Domain XML: golden files, libvirt's own schema, and escaping.

UPDATE_GOLDEN=1 rewrites the golden files; review the difference before committing it.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Literal

import lxml.etree
import pytest

from testbed import machine
from testbed.machine import Hmat, Machine, Node
from testbed.vm import domain
from testbed.vm.domain import HostResources, TimingFiles
from tests.fakes.host_resources import PLACED

GOLDEN = Path(__file__).parent / "golden"
SCHEMA = Path("/usr/share/libvirt/schemas/domain.rng")
GIB = 1 << 30
UPDATE = "UPDATE_GOLDEN=1 pytest tests/unit/test_domain.py rewrites it"


def _node(memory: int, *cpus: int, distance: tuple[int, ...] | None = None, hmat: Hmat | None = None) -> Node:
    return Node.model_construct(memory=memory, cpus=cpus, distance=distance, hmat=hmat)


def _hmat(latency: int, bandwidth: int) -> Hmat:
    return Hmat(
        read_latency_ns=latency,
        write_latency_ns=latency + 1,
        read_bandwidth_mib=bandwidth,
        write_bandwidth_mib=bandwidth // 2,
    )


ODD = Machine.model_construct
CASES: dict[str, tuple[Machine, Literal["kvm", "tcg"]]] = {
    **{name: (machine.load(name), "tcg") for name in machine.names()},
    "two-node-kvm": (machine.load("two-node"), "kvm"),
    "one-node": (ODD(vcpus=1, nodes=(_node(64 << 20, 0),)), "tcg"),
    "four-nodes": (
        ODD(
            vcpus=4,
            nodes=(
                _node(GIB, 0, 2, distance=(10, 20, 30, 40)),
                _node(2 * GIB, 1, distance=(20, 10, 20, 30)),
                _node(512 << 20, 3, distance=(30, 20, 10, 20)),
                _node(66 << 20, distance=(40, 30, 20, 10)),
            ),
        ),
        "tcg",
    ),
    "two-initiators-hmat": (
        ODD(vcpus=2, nodes=(_node(GIB, 0, hmat=_hmat(80, 100_000)), _node(GIB, 1, hmat=_hmat(300, 13_000)))),
        "tcg",
    ),
    "custom-cpu": (ODD(vcpus=1, nodes=(_node(GIB, 0),), cpu="Haswell"), "kvm"),
    "shared-folder": (
        ODD(vcpus=1, nodes=(_node(GIB, 0),), shared_folder=Path("/home/a b/shared"), devices=()),
        "tcg",
    ),
    "address-bits": (ODD(vcpus=1, nodes=(_node(GIB, 0),), address_bits=52), "tcg"),
    "own-cmdline": (ODD(vcpus=1, nodes=(_node(GIB, 0),), cmdline="numa_balancing=enable quiet"), "tcg"),
}


def xml_of(name: str) -> str:
    spec, accelerator = CASES[name]
    return domain.xml(spec, dataclasses.replace(PLACED, accelerator=accelerator))


@pytest.mark.parametrize("name", CASES)
def test_domain_matches_the_golden_file(name: str) -> None:
    golden = GOLDEN / f"{name}.xml"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(xml_of(name))
    assert golden.exists(), f"no golden file: {UPDATE}"
    assert xml_of(name) == golden.read_text(), UPDATE


def test_every_golden_file_has_a_case() -> None:
    assert {path.stem for path in GOLDEN.glob("*.xml")} == set(CASES)


@pytest.fixture(scope="module")
def libvirt_schema() -> lxml.etree.RelaxNG:
    if not SCHEMA.exists():
        pytest.skip(f"no {SCHEMA}: apt-get install libvirt0")
    return lxml.etree.RelaxNG(lxml.etree.parse(str(SCHEMA)))


@pytest.mark.parametrize("name", CASES)
def test_domain_fits_libvirts_schema(name: str, libvirt_schema: lxml.etree.RelaxNG) -> None:
    libvirt_schema.assertValid(lxml.etree.fromstring(xml_of(name).encode()))


def test_timing_model_adds_a_plugin_and_a_device(libvirt_schema: lxml.etree.RelaxNG) -> None:
    timing = TimingFiles(Path("/cache/timing.so"), Path("/vms/a,b/timing.conf"), Path("/vms/a,b/clock"))
    spec, _ = CASES["two-node"]
    tree = lxml.etree.fromstring(domain.xml(spec, dataclasses.replace(PLACED, timing=timing)).encode())
    libvirt_schema.assertValid(tree)
    arguments = [a.get("value") for a in tree.iter("{http://libvirt.org/schemas/domain/qemu/1.0}arg")]
    assert arguments[::2] == ["-object", "-device", "-plugin"]
    assert "mem-path=/vms/a,,b/clock" in arguments[1]
    assert arguments[5] == "file=/cache/timing.so,config=/vms/a,,b/timing.conf"


def test_schema_rejects_a_wrong_domain(libvirt_schema: lxml.etree.RelaxNG) -> None:
    for old, new in (("<vcpu>2<", "<vcpu>two<"), ("<apic/>", "<apik/>"), ('type="file"', 'type="fyle"')):
        wrong = xml_of("two-node").replace(old, new, 1)
        assert wrong != xml_of("two-node")
        assert not libvirt_schema.validate(lxml.etree.fromstring(wrong.encode()))


HOSTILE = """a"b'c<d>&e;</name><![CDATA[--> é ]]>{{ 1 + 1 }}{% raw %}"""


def test_special_characters_are_escaped() -> None:
    spec = ODD(
        vcpus=1, nodes=(_node(GIB, 0),), cmdline=HOSTILE, shared_folder=Path("/x") / HOSTILE.replace("/", "")
    )
    placed = HostResources(
        name=HOSTILE,
        uuid=PLACED.uuid,
        accelerator="tcg",
        emulator=Path("/e") / HOSTILE,
        kernel=Path("/k") / HOSTILE,
        disk=Path("/d") / HOSTILE,
        console=Path("/c") / HOSTILE,
        public_key="A+/=",
    )
    tree = lxml.etree.fromstring(domain.xml(spec, placed).encode())
    assert tree.findtext("name") == HOSTILE
    assert tree.findtext("os/kernel") == str(placed.kernel)
    assert tree.findtext("devices/emulator") == str(placed.emulator)
    assert tree.find("devices/disk/source").get("file") == str(placed.disk)
    assert tree.find("devices/serial/source").get("path") == str(placed.console)
    assert tree.find("devices/filesystem/source").get("dir") == str(spec.shared_folder)
    assert tree.findtext("os/cmdline") == domain.cmdline(spec, placed)
    assert domain.cmdline(spec, placed).endswith(f"sentinel.key=A+/= sentinel.host={HOSTILE} {HOSTILE}")


def test_kernel_command_line() -> None:
    line = domain.cmdline(machine.load("two-node"), PLACED)
    words = line.split(" ")
    assert "" not in words
    for word in ("console=ttyS0", "root=/dev/vda", "panic=-1", f"sentinel.key={PLACED.public_key}"):
        assert word in words
    assert words[-1] == "sentinel.host=sentinel-default"


def test_undefined_template_variable_is_an_error() -> None:
    with pytest.raises(Exception, match="undefined"):
        domain._environment.from_string("{{ nothing }}").render()
