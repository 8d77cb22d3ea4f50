# SPDX-License-Identifier: Apache-2.0
"""Figures of a machine: both nodes, the cache, and the cost of migrating a page.

    {"format": "sentinel-figures", "version": 2,
     "nodes": [{"read_latency": 100, "read_bandwidth": 105, "write_bandwidth": 85},
               {"read_latency": 305, "read_bandwidth": 39.4, "write_bandwidth": 13.9}],
     "line": 64, "cache": 1048576, "page": 1500, "compute": 240, "helper": 10, "helpers": 1,
     "remap": 3000, "remap_page": 20, "shootdown": 700, "cores": 24}

A `cache` of 0 never hits. docs/planner.md describes the fields.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .fields import Fields, header

FORMAT, VERSION = "sentinel-figures", 2


@dataclass(frozen=True)
class Memory:
    """One node: latency of a dependent read in ns, bandwidths in GB/s."""

    read_latency: float
    read_bandwidth: float
    write_bandwidth: float


@dataclass(frozen=True)
class Figures:
    """Figures of a machine.

    `page_move_ns` is the kernel's fixed work to migrate a page. `compute_mlp` and `migration_mlp` are the
    misses in flight of the compute vCPU and of a migration core, of which there are `migration_cores`.
    With frames, a migration core needs `remap_ns` to remap a window and `remap_page_ns` for each of its
    pages, and the compute vCPU loses `shootdown_ns`. The compute vCPU stands for `cores` cores; those that
    migrate do not compute.
    """

    nodes: tuple[Memory, Memory]
    line_bytes: int = 64
    cache_bytes: int = 1 << 20
    page_move_ns: float = 1500.0
    compute_mlp: float = 240.0
    migration_mlp: float = 10.0
    migration_cores: int = 1
    remap_ns: float = 3000.0
    remap_page_ns: float = 20.0
    shootdown_ns: float = 700.0
    cores: int = 24

    def read_ns(self, node: int, mlp: float) -> float:
        """Return the time to read a byte with `mlp` misses in flight: bound by latency or by bandwidth."""
        memory = self.nodes[node]
        return max(memory.read_latency / (mlp * self.line_bytes), 1 / memory.read_bandwidth)

    def write_ns(self, node: int) -> float:
        """Return the time to write a byte. No instruction waits for the latency of a write."""
        return 1 / self.nodes[node].write_bandwidth

    def migration_ns(self, to: int, page_bytes: int) -> float:
        """Return the time to migrate a page to node `to`: the kernel's fixed work and the copy.

        A core has few misses in flight, so reads bound most copies; writes overlap with them. The fixed work
        does not depend on the size of the page.
        """
        return self.page_move_ns + page_bytes * max(
            self.read_ns(1 - to, self.migration_mlp), self.write_ns(to)
        )


def parse(value: Any) -> Figures:
    """Return the figures in a JSON value. Raises FormatError that names the first invalid field."""
    document = header(value, FORMAT, VERSION)
    items = document.items("nodes")
    nodes = [Fields(node, f"nodes[{i}]") for i, node in enumerate(items)]
    if len(nodes) != 2:
        raise document.error("nodes", f"must have two items, fast and slow, not {len(nodes)}")
    fast, slow = (
        Memory(*(node.positive(name) for name in ("read_latency", "read_bandwidth", "write_bandwidth")))
        for node in nodes
    )
    return Figures(
        nodes=(fast, slow),
        line_bytes=document.integer("line", minimum=1),
        cache_bytes=document.integer("cache"),
        page_move_ns=document.positive("page"),
        compute_mlp=document.positive("compute"),
        migration_mlp=document.positive("helper"),
        migration_cores=document.integer("helpers", minimum=1),
        remap_ns=document.positive("remap"),
        remap_page_ns=document.positive("remap_page"),
        shootdown_ns=document.positive("shootdown"),
        cores=document.integer("cores", minimum=1),
    )


def encode(figures: Figures) -> dict[str, Any]:
    """Return the JSON value of figures; the inverse of `parse`."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "nodes": [dict(vars(node)) for node in figures.nodes],
        "line": figures.line_bytes,
        "cache": figures.cache_bytes,
        "page": figures.page_move_ns,
        "compute": figures.compute_mlp,
        "helper": figures.migration_mlp,
        "helpers": figures.migration_cores,
        "remap": figures.remap_ns,
        "remap_page": figures.remap_page_ns,
        "shootdown": figures.shootdown_ns,
        "cores": figures.cores,
    }
