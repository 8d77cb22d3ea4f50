# SPDX-License-Identifier: Apache-2.0
"""Expected latency and bandwidth of a preset, in closed form. Pure functions.

Times in ns, rates in GB/s (bytes per ns). The formulas are those of docs/timing.md. They leave out the cost
of the instructions around an access, about 1% of the fastest access.
"""

from __future__ import annotations

from testbed.timing.preset import Cpu, Memory, Preset

PAGE = 4096


def read_latency(preset: Preset, node: int) -> float:
    """Return the latency of a dependent read."""
    return preset.nodes[node].read_latency


def write_latency(preset: Preset, node: int) -> float:
    """Return the latency of a dependent write."""
    memory = preset.nodes[node]
    return memory.read_latency if memory.write_latency is None else memory.write_latency


def read(preset: Preset, node: int) -> float:
    """Return the rate of a stream of reads by the compute vCPU."""
    return preset.cache.line / _read_time(preset, node, preset.compute)


def write(preset: Preset, node: int) -> float:
    """Return the rate of a stream of writes without reads for ownership."""
    return preset.nodes[node].write_bandwidth


def copy(preset: Preset, source: int, target: int) -> float:
    """Return the rate of a copy: within one node reads and writes alternate, between two they overlap."""
    reading = _read_time(preset, source, preset.compute)
    writing = preset.cache.line / preset.nodes[target].write_bandwidth
    return preset.cache.line / (reading + writing if source == target else max(reading, writing))


def shared(preset: Preset, node: int) -> tuple[float, float]:
    """Return the rates of two concurrent streams of reads on a node: compute vCPU, helper vCPU."""
    alone = read(preset, node)
    helper = 0.0
    for _ in range(50):  # fixed point: the helper waits less, the less the other reads
        crowded = _read_time(preset, node, preset.helper, others=(alone - helper) / alone)
        helper = min(preset.cache.line / crowded, alone / 2)
    return alone - helper, helper


def migrate(preset: Preset, source: int, target: int, *, others: float = 0.0) -> float:
    """Return the time to migrate a page on the helper vCPU: kernel work and copy.

    `others` is the share of the source's bandwidth that other vCPUs use, 0 to 1.
    """
    reading = _read_time(preset, source, preset.helper, others=others)
    writing = preset.cache.line / preset.nodes[target].write_bandwidth
    return preset.page + PAGE / preset.cache.line * max(reading, writing)


def migrating(preset: Preset, source: int, target: int) -> tuple[float, float]:
    """Return the rates of reads from `source` and of concurrent page migration from it."""
    alone = read(preset, source)
    moved = 0.0
    for _ in range(50):
        moved = PAGE / migrate(preset, source, target, others=(alone - moved) / alone)
    return alone - moved, moved


def _read_time(preset: Preset, node: int, cpu: Cpu, *, others: float = 0.0) -> float:
    """Return the ns for each line of a stream of reads while `others` use that share of the node."""
    memory: Memory = preset.nodes[node]
    service = preset.cache.line / memory.read_bandwidth
    return max(service, (memory.read_latency + waiting(others) * service) / cpu.parallelism)


def waiting(others: float) -> float:
    """Return the queue length in services at utilisation `others` (M/D/1)."""
    others = min(others, 0.999)
    return others / (2 * (1 - others))
