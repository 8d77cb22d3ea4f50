# SPDX-License-Identifier: Apache-2.0
"""Presets: what `testbed/presets/*.yaml` may say of the machine that the timing model stands for.

A preset describes a whole machine, for the balance between computing and memory decides every result: both
nodes, the last-level cache, and what vCPUs stand for. Figures of the nodes have a source; those of cache and
CPUs are scaled with the working sets here, which are some hundred times smaller than those of the machines
that the sources describe.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, PlainSerializer

from testbed.common.schema import Document, Strict, named
from testbed.common.sizes import Size, shown_size

PRESETS = Path(__file__).parent.parent / "presets"
_SMALLEST, _LARGEST = 1e-6, 1e9  # of any figure: the model divides and multiplies them
_MAX_CACHE = 1 << 30  # bytes; the model keeps a tag for each line


def _quantity(unit: str, example: str) -> BeforeValidator:
    def parse(value: object) -> float:
        match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) *(\S+)", value) if isinstance(value, str) else None
        if match is None or match[2] != unit:
            raise ValueError(f"must be a figure in {unit}, such as {example}")
        if not _SMALLEST <= float(match[1]) <= _LARGEST:
            raise ValueError(f"must be from {_SMALLEST:g} to {_LARGEST:g} {unit}")
        return float(match[1])

    return BeforeValidator(parse)


Time = Annotated[float, _quantity("ns", "300 ns"), PlainSerializer(lambda v: f"{v:g} ns", when_used="json")]
Bandwidth = Annotated[
    float, _quantity("GB/s", "39.4 GB/s"), PlainSerializer(lambda v: f"{v:g} GB/s", when_used="json")
]


class Memory(Strict):
    """One node. Latencies in ns, bandwidths in GB/s (10^9 bytes).

    Latencies are of accesses that miss the cache and wait for each other. A source that says nothing of the
    writes' leaves `write_latency` out: it is the reads' then.
    """

    read_latency: Time
    write_latency: Time | None = Field(None, exclude_if=lambda n: n is None)
    read_bandwidth: Bandwidth
    write_bandwidth: Bandwidth


class Cache(Strict):
    """The last-level cache. `size` and `line` in bytes; each vCPU has its own, or all share one."""

    size: Size = 1 << 20
    ways: Annotated[int, Field(ge=1, le=64)] = 16
    line: Annotated[int, Field(ge=16, le=4096)] = 64
    shared: bool = False


class Cpu(Strict):
    """What a vCPU stands for: `instruction` is the cost of one in ns, `parallelism` its misses in flight."""

    instruction: Time
    parallelism: Annotated[float, Field(ge=1, le=1e6)]


class Preset(Strict):
    """A whole machine.

    `compute` is a vCPU that stands for a socket, `helper` one that stands for a single core; vCPU 0 computes,
    the others help. A helper's instructions cost no more by default: it takes timer interrupts by the host's
    clock, a hundred times too many by the model's, and would do nothing else. Its real work, migrating, has a
    price of its own: `page` is the kernel's fixed work in ns for one page of 4 KiB. With `memory_mode` node 0
    is a direct-mapped cache of node 1.
    """

    description: str
    source: str
    nodes: tuple[Memory, Memory]
    cache: Cache = Cache()
    compute: Cpu = Cpu.model_validate({"instruction": "0.002 ns", "parallelism": 240})
    helper: Cpu = Cpu.model_validate({"instruction": "0.002 ns", "parallelism": 10})
    page: Time = 1500
    memory_mode: bool = False
    inverted: bool = False  # node 1 may be the faster one


def names() -> list[str]:
    """The presets that come with the testbed."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def load(name_or_path: str, *, relative_to: Path | None = None) -> Preset:
    """A preset by name, or from a YAML file (relative to the folder of the file that names it)."""
    document = named("preset", name_or_path, folder=PRESETS, relative_to=relative_to)
    preset = document.parse(Preset)
    _check(preset, document)
    return preset


def _check(preset: Preset, document: Document) -> None:
    """What one field alone cannot know."""
    fast, slow = preset.nodes
    slower = {
        "read_latency": slow.read_latency >= fast.read_latency,
        "read_bandwidth": slow.read_bandwidth <= fast.read_bandwidth,
        "write_bandwidth": slow.write_bandwidth <= fast.write_bandwidth,
    }
    for field, right in slower.items():
        if not right and not preset.inverted:
            raise document.error(
                ("nodes", 1, field), "node 1 is faster than node 0; say `inverted: true` if that is meant"
            )
    cache = preset.cache
    if cache.line & (cache.line - 1):
        raise document.error(("cache", "line"), "must be a power of two")
    if cache.size > _MAX_CACHE:
        raise document.error(("cache", "size"), f"must be at most {shown_size(_MAX_CACHE)}")
    if cache.size == 0 or cache.size % (cache.line * cache.ways):
        raise document.error(
            ("cache", "size"), f"must be a multiple of line x ways, {cache.line * cache.ways} bytes"
        )
