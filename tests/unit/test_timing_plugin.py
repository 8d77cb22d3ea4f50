# SPDX-License-Identifier: Apache-2.0
"""The timing plugin: builds for QEMU's interfaces, and its configuration."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest

from experiments.guest_code import TIMING_CLIENT
from testbed import machine
from testbed.common.errors import InfrastructureError, UsageError
from testbed.machine import Machine
from testbed.timing import layout, plugin, preset
from testbed.timing.layout import Layout
from tests.fakes import guest

GIB = 1 << 30
PLACES: dict[str, Any] = {"qemu": (10, 0), "log": Path("/log"), "clock": Path("/clock")}


def two_nodes(first: int, second: int, vcpus: int = 2) -> Machine:
    sizes = [f"{size >> 20} MiB" for size in (first, second)]
    nodes = [{"memory": sizes[0], "cpus": list(range(vcpus))}, {"memory": sizes[1]}]
    return Machine.model_validate({"vcpus": vcpus, "nodes": nodes})


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (GIB, GIB, Layout(GIB, 2 * GIB, (0, 0))),
        (2 * GIB, 2 * GIB, Layout(4 * GIB, 6 * GIB, (2 * GIB, 4 * GIB))),
        (GIB, 4 * GIB, Layout(GIB, 7 * GIB, (2 * GIB, 4 * GIB))),
        (3 * GIB, GIB, Layout(5 * GIB, 6 * GIB, (2 * GIB, 4 * GIB))),
    ],
)
def test_node_addresses(first: int, second: int, expected: Layout) -> None:
    assert layout.compute(two_nodes(first, second), (10, 0)) == expected


def test_old_qemu_counts_the_nodes_offset_twice() -> None:
    assert layout.compute(two_nodes(GIB, 2 * GIB), (7, 2)) == Layout(2 * GIB, 4 * GIB, (GIB, 2 * GIB))
    assert layout.compute(two_nodes(2 * GIB, 2 * GIB), (7, 2)) == layout.compute(
        two_nodes(2 * GIB, 2 * GIB), (10, 0)
    )


def test_layout_needs_two_nodes() -> None:
    one = Machine.model_validate({"vcpus": 1, "nodes": [{"memory": "1 GiB", "cpus": [0]}]})
    with pytest.raises(UsageError, match="needs a machine with two nodes; this one has 1"):
        layout.compute(one, (10, 0))


@pytest.mark.parametrize(
    ("version", "api"),
    [((3, 1), None), ((7, 2), 1), ((8, 2), 1), ((9, 0), 2), ((9, 1), 3), ((10, 0), 4)],
)
def test_qemu_release_selects_the_interface(version: tuple[int, int], api: int | None) -> None:
    assert plugin.api_of(version) == api


def test_configuration_has_every_key_of_the_plugin() -> None:
    text = plugin.configuration(
        preset.load("optane-6dimm"),
        machine.load("two-node"),
        qemu=(10, 0),
        log=Path("/log"),
        clock=Path("/clock"),
    )
    told = dict(line.split(" ", 1) for line in text.splitlines())
    source = (plugin.SOURCES / "options.c").read_text()
    assert set(told) == set(re.findall(r'\{"([\w.]+)", offsetof', source))
    assert told["node1.read_latency"] == "305.0"
    assert told["instruction"] == "0.002,0.002"
    assert told["parallelism"] == "240,10"
    assert (told["split"], told["hole.end"]) == (str(4 * GIB), str(4 * GIB))


def test_cache_larger_than_memory_is_refused() -> None:
    large = preset.load("optane-6dimm").model_copy(update={"cache": preset.Cache(size="8 GiB")})
    with pytest.raises(UsageError, match="cache of the preset is larger than the memory"):
        plugin.configuration(large, machine.load("two-node"), **PLACES)


@pytest.mark.parametrize("api", [1, 2, 3, 4])
def test_plugin_compiles_for_every_interface(api: int, tmp_path: Path) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("no gcc")
    sources = [str(plugin.SOURCES / name) for name in plugin._FILES if name.endswith(".c")]
    command = ["gcc", f"-DAPI={api}", "-Werror", *plugin._FLAGS, "-o", str(tmp_path / "p.so"), *sources]
    subprocess.run([*command, *plugin.LIBRARIES], check=True)


def test_unsuitable_qemu_is_an_error(tmp_path: Path) -> None:
    qemu = tmp_path / "qemu"
    qemu.write_text("#!/bin/sh\necho 'qemu: -plugin: invalid option' >&2; exit 1\n")
    qemu.chmod(0o755)
    with pytest.raises(InfrastructureError, match="was built without plugins") as caught:
        plugin.build(str(qemu))
    assert "apt-get install qemu-system-x86" in str(caught.value.hint)
    qemu.write_text("#!/bin/sh\necho 'QEMU emulator version 3.1.0'\n")
    with pytest.raises(InfrastructureError, match=r"3\.1\.0 is too old for the timing model"):
        plugin.build(str(qemu))


def test_guest_and_plugin_agree_on_markers() -> None:
    model = guest.load("timing_client")
    header = (plugin.SOURCES / "markers.h").read_text()
    numbers = {name: int(value, 0) for name, value in re.findall(r"MARKER_(\w+) = (\w+),", header)}
    assert {name: getattr(model, name) for name in numbers} == numbers
    opcode, tag = (
        bytes(int(b, 16) for b in re.findall(r"0x(\w\w)", line))
        for line in re.findall(r"#define MARKER_(?:OPCODE|TAG)\s.*", header)
    )
    assert model.code(0x1234) == opcode + struct.pack("<H", 0x1234) + tag + b"\xc3"


PROGRAM = """
#include "sentinel_markers.h"
int main(void)
{
	uint64_t before = sentinel_now_ns();
	sentinel_mark(SENTINEL_REGION_BEGIN);
	sentinel_mark(SENTINEL_USER(0x123));
	sentinel_remapped(256);
	sentinel_mark(SENTINEL_REGION_END);
	return sentinel_clock_page() != NULL || sentinel_now_ns() < before;
}
"""


@pytest.mark.parametrize("language", ["c", "c++"])
def test_c_markers_match_the_python_ones(language: str, tmp_path: Path) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("no gcc")
    if (
        language == "c++"
        and subprocess.run(["gcc", "-xc++", "-E", "/dev/null"], check=False, stdout=-3).returncode
    ):
        pytest.skip("no C++ compiler")
    source, program = tmp_path / "program", tmp_path / "out"
    source.write_text(PROGRAM)
    flags = ["-Wall", "-Wextra", "-Werror", f"-I{TIMING_CLIENT}", "-x", language]
    subprocess.run(["gcc", *flags, "-o", str(program), str(source)], check=True)
    subprocess.run([str(program)], check=True)
    code = guest.load("timing_client").code
    text = program.read_bytes()
    assert all(code(number)[:-1] in text for number in (1, 2, 8, 18, 0x8123))
    header = (TIMING_CLIENT / "sentinel_markers.h").read_text()
    for name, value in re.findall(r"MARKER_(\w+) = (\w+),", (plugin.SOURCES / "markers.h").read_text()):
        assert re.search(rf"#define SENTINEL_{name}\b.*{value}", header), name


def test_markers_and_clock_do_nothing_on_a_host() -> None:
    model = guest.load("timing_client")
    model.region_begin()
    for number in range(3):
        model.layer(number)
    model.user(7)
    model.region_end()
    assert not model.modelled()
    assert model.now_ns() <= model.now_ns()
    with pytest.raises(ValueError, match="a layer must be 0 to 4095"):
        model.layer(4096)
