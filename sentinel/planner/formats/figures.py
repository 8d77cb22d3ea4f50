# SPDX-License-Identifier: Apache-2.0
"""Figures of the machine that a plan is made for: both nodes, the cache, and what migrating a page costs.

    {"format": "sentinel-figures", "version": 1,
     "nodes": [{"read_latency": 100, "read_bandwidth": 105, "write_bandwidth": 85},
               {"read_latency": 305, "read_bandwidth": 39.4, "write_bandwidth": 13.9}],
     "line": 64, "cache": 1048576, "page": 1500, "compute": 240, "helper": 10, "helpers": 1}

`page` is the kernel's fixed work in ns for each migrated page, `compute` and `helper` are misses in flight of
what computes and of what migrates, `helpers` is how many of the latter there are: with one, both directions
share it. `cache` may be 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .fields import Fields, header

FORMAT, VERSION = "sentinel-figures", 1


@dataclass(frozen=True)
class Memory:
    """One node: latency of a dependent read in ns, bandwidths in GB/s."""

    read_latency: float
    read_bandwidth: float
    write_bandwidth: float


@dataclass(frozen=True)
class Figures:
    """The machine; sizes in bytes, times in ns."""

    nodes: tuple[Memory, Memory]
    line: int = 64
    cache: int = 1 << 20
    page: float = 1500.0
    compute: float = 240.0
    helper: float = 10.0
    helpers: int = 1

    def read_ns(self, node: int, in_flight: float) -> float:
        """To read a byte with so many misses in flight: bound by latency or by bandwidth."""
        memory = self.nodes[node]
        return max(memory.read_latency / (in_flight * self.line), 1 / memory.read_bandwidth)

    def write_ns(self, node: int) -> float:
        """To write a byte: nobody waits for the latency of a write."""
        return 1 / self.nodes[node].write_bandwidth

    def move_ns(self, to: int, page: int) -> float:
        """To migrate a page of `page` bytes to node `to`: the kernel's work, and the copy.

        A core's copy has few misses in flight, so that its reads, one after the other, are most of it; the
        writes overlap with them. Fixed work scales with nothing: it is the same for every size of page.
        """
        return self.page + page * max(self.read_ns(1 - to, self.helper), self.write_ns(to))


def parse(value: Any) -> Figures:
    """The figures in a JSON value. Raises FormatError with the place of the first thing that is wrong."""
    document = header(value, FORMAT, VERSION)
    items = document.items("nodes")
    nodes = [Fields(node, f"nodes[{i}]") for i, node in enumerate(items)]
    if len(nodes) != 2:
        raise document.error("nodes", f"must be two, fast and slow, not {len(nodes)}")
    fast, slow = (
        Memory(*(node.positive(name) for name in ("read_latency", "read_bandwidth", "write_bandwidth")))
        for node in nodes
    )
    return Figures(
        nodes=(fast, slow),
        line=document.integer("line", least=1),
        cache=document.integer("cache"),
        page=document.positive("page"),
        compute=document.positive("compute"),
        helper=document.positive("helper"),
        helpers=document.integer("helpers", least=1, most=2),
    )


def encode(figures: Figures) -> dict[str, Any]:
    """The JSON value of figures; `parse` gives the same again."""
    return {
        "format": FORMAT,
        "version": VERSION,
        **vars(figures),
        "nodes": [dict(vars(node)) for node in figures.nodes],
    }
