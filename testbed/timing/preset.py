# SPDX-License-Identifier: Apache-2.0
"""Presets: schema and checks of `testbed/presets/*.yaml`, the memory systems of the timing model.

A preset describes both nodes, the last-level cache and the vCPUs, because every result depends on the balance
of computation and memory. Figures of the nodes come from the cited source. Those of cache and CPUs are scaled
down with the working sets, which are some hundred times smaller here than on the machines of the sources.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema

from testbed.common.library import Library
from testbed.common.schema import Document, Strict
from testbed.common.sizes import Size, shown_size

_SMALLEST, _LARGEST = 1e-6, 1e9  # of any figure: the model multiplies and divides them
_MAX_CACHE = 1 << 30  # bytes; the model has a tag for each line


def _quantity(unit: str, example: str) -> BeforeValidator:
    def parse(value: object) -> float:
        match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) *(\S+)", value) if isinstance(value, str) else None
        if match is None or match[2] != unit:
            raise ValueError(f"must be a number of {unit}, such as {example}")
        if not _SMALLEST <= float(match[1]) <= _LARGEST:
            raise ValueError(f"must be from {_SMALLEST:g} to {_LARGEST:g} {unit}")
        return float(match[1])

    return BeforeValidator(parse)


def _schema(unit: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": rf"^[0-9]+(\.[0-9]+)? *{unit}$"})


Time = Annotated[
    float,
    _quantity("ns", "300 ns"),
    PlainSerializer(lambda v: f"{v:g} ns", when_used="json"),
    _schema("ns"),
]
Bandwidth = Annotated[
    float,
    _quantity("GB/s", "39.4 GB/s"),
    PlainSerializer(lambda v: f"{v:g} GB/s", when_used="json"),
    _schema("GB/s"),
]


class Memory(Strict):
    """A node. Latencies in ns, bandwidths in GB/s (10^9 bytes per second).

    Latencies are of dependent accesses that miss the cache. Without `write_latency`, writes have that of
    reads.
    """

    read_latency: Time
    write_latency: Time | None = Field(None, exclude_if=lambda n: n is None)
    read_bandwidth: Bandwidth
    write_bandwidth: Bandwidth


class Cache(Strict):
    """The last-level cache. `size` and `line` in bytes; `shared` by all vCPUs, or one for each."""

    size: Size = 1 << 20
    ways: Annotated[int, Field(ge=1, le=64)] = 16
    line: Annotated[int, Field(ge=16, le=4096)] = 64
    shared: bool = False


class Cpu(Strict):
    """A vCPU: the cost of an `instruction` in ns, and its misses in flight (`parallelism`)."""

    instruction: Time
    parallelism: Annotated[float, Field(ge=1, le=1e6)]


class Preset(Strict):
    """A memory system.

    vCPU 0 is the `compute` vCPU, which stands for a socket; the others are `helper` vCPUs, which stand for
    one core. By default a helper's instructions cost as little as the compute vCPU's: timer interrupts come
    by the host's clock, a hundred times too often in model time, and would occupy it fully. Migration has its
    own cost: `page` is the kernel's fixed work in ns for a page of 4 KiB. To remap a window takes `remap` and
    `remap_page` for each of its pages, and costs the compute vCPU a `shootdown` of its TLB. That vCPU stands
    for `cores` cores, and computes less while some of them migrate. With `memory_mode`, node 0 is a
    direct-mapped cache of node 1. `inverted` permits a node 1 that is faster than node 0.
    """

    description: str
    source: str
    nodes: tuple[Memory, Memory]
    cache: Cache = Cache()
    compute: Cpu = Cpu.model_validate({"instruction": "0.002 ns", "parallelism": 240})
    helper: Cpu = Cpu.model_validate({"instruction": "0.002 ns", "parallelism": 10})
    page: Time = 1500
    remap: Time = 13000
    remap_page: Time = 27
    shootdown: Time = 700
    cores: Annotated[int, Field(ge=1, le=1024)] = 24
    memory_mode: bool = False
    inverted: bool = False

    def all_fast(self) -> Preset:
        """Return the same system with the speed of node 0 on node 1, too."""
        return self.model_copy(update={"nodes": (self.nodes[0], self.nodes[0])})


def _check(preset: Preset, document: Document) -> None:
    """Check what involves several fields."""
    fast, slow = preset.nodes
    is_slower = {
        "read_latency": slow.read_latency >= fast.read_latency,
        "read_bandwidth": slow.read_bandwidth <= fast.read_bandwidth,
        "write_bandwidth": slow.write_bandwidth <= fast.write_bandwidth,
    }
    for field, slower in is_slower.items():
        if not slower and not preset.inverted:
            raise document.error(
                ("nodes", 1, field), "node 1 is faster than node 0; if that is intended, set `inverted: true`"
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


PRESETS = Library("preset", Path(__file__).parent.parent / "presets", Preset, _check)
names, load = PRESETS.names, PRESETS.load
