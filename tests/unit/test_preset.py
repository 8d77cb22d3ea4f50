# SPDX-License-Identifier: Apache-2.0
"""Presets: the shipped ones, and messages for invalid ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from testbed.common.errors import UsageError
from testbed.timing import preset
from testbed.timing.preset import Preset

NODES = """\
nodes:
  - { read_latency: 100 ns, read_bandwidth: 105 GB/s, write_bandwidth: 85 GB/s }
  - { read_latency: 305 ns, read_bandwidth: 39.4 GB/s, write_bandwidth: 13.9 GB/s }
"""
GOOD = "description: mine\nsource: a datasheet\n" + NODES


def load(folder: Path, text: str) -> Preset:
    path = folder / "mine.yaml"
    path.write_text(text)
    return preset.load(str(path))


def test_shipped_presets_match_their_sources() -> None:
    figures = {
        name: tuple((n.read_latency, n.read_bandwidth, n.write_bandwidth) for n in preset.load(name).nodes)
        for name in preset.names()
    }
    assert figures == {
        "cxl-asic": ((106, 270, 272), (192, 83.2, 84.3)),
        "cxl-fpga": ((150, 31.5, 28.5), (407, 21.7, 21.3)),
        "numa-throttled": ((85, 34, 34), (199, 17, 17)),
        "optane-6dimm": ((100, 105, 85), (305, 39.4, 13.9)),
        "optane-nomad": ((64, 116, 85), (276, 40.1, 13.6)),
    }
    assert all(preset.load(name).source for name in preset.names())


def test_preset_from_a_file(tmp_path: Path) -> None:
    mine = load(tmp_path, GOOD + "cache: { size: 2 MiB, shared: true }\npage: 900 ns\n")
    assert (mine.cache.size, mine.cache.ways, mine.cache.shared, mine.page) == (2 << 20, 16, True, 900)
    assert Preset.model_validate(mine.model_dump(mode="json")) == mine


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD.replace("305", "50"), "5:21: nodes[1].read_latency: node 1 is faster than node 0"),
        (GOOD.replace("39.4", "390"), "5:45: nodes[1].read_bandwidth: node 1 is faster than node 0"),
        (GOOD.replace("305 ns", "0 ns"), "nodes[1].read_latency: must be from 1e-06 to 1e+09 ns (got 0 ns)"),
        (GOOD.replace("305 ns", f"{'9' * 400} ns"), "nodes[1].read_latency: must be from 1e-06 to 1e+09 ns"),
        (GOOD + "cache: { size: 2 GiB }\n", "cache.size: must be at most 1 GiB"),
        (GOOD + f"cache: {{ size: {'9' * 400} GiB }}\n", "cache.size: must be at most 4194304 GiB"),
        (GOOD + "cache: { size: 0 KiB }\n", "cache.size: must be a multiple of line x ways"),
        (
            GOOD + "compute: { instruction: 1 ns, parallelism: .inf }\n",
            "parallelism: a number must be finite",
        ),
        (GOOD + "inverted: yes\n", "inverted: must be true or false (got yes)"),
        (GOOD.replace("305 ns", "-3 ns"), "must be a number of ns, such as 300 ns"),
        (GOOD.replace("305 ns", "305"), "must be a number of ns, such as 300 ns (got 305)"),
        (GOOD.replace("39.4 GB/s", "39.4 GiB/s"), "must be a number of GB/s, such as 39.4 GB/s"),
        (GOOD + "cache: { line: 48 }\n", "cache.line: must be a power of two"),
        (GOOD + "cache: { size: 3 KiB, ways: 64 }\n", "cache.size: must be a multiple of line x ways"),
        (GOOD + "speed: 3\n", "speed: unknown key; allowed: description, source, nodes, cache"),
    ],
)
def test_invalid_preset_error_has_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(tmp_path, text)
    assert message in caught.value.message


def test_faster_slow_node_needs_inverted(tmp_path: Path) -> None:
    assert load(tmp_path, GOOD.replace("305", "50") + "inverted: true\n").nodes[1].read_latency == 50


def test_unknown_preset_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match="unknown preset 'optane'; there are: cxl-asic, cxl-fpga, numa"):
        preset.load("optane")
