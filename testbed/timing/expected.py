# SPDX-License-Identifier: Apache-2.0
"""What a preset's memory must measure, in closed form. Pure.

Times in ns, rates in bytes per ns, which is GB/s. The formulas are those of docs/timing.md, without the cost
of the instructions around an access, which is a hundredth of the fastest one's.
"""

from __future__ import annotations

from testbed.timing.preset import Cpu, Memory, Preset

PAGE = 4096


def read_latency(preset: Preset, node: int) -> float:
    """Of a read that waits for the one before."""
    return preset.nodes[node].read_latency


def write_latency(preset: Preset, node: int) -> float:
    """Of a write that waits for the one before."""
    memory = preset.nodes[node]
    return memory.read_latency if memory.write_latency is None else memory.write_latency


def read(preset: Preset, node: int) -> float:
    """Rate of a stream of reads by the vCPU that computes."""
    return preset.cache.line / _read_time(preset, node, preset.compute)


def write(preset: Preset, node: int) -> float:
    """Rate of a stream of writes; what is written is not read first."""
    return preset.nodes[node].write_bandwidth


def copy(preset: Preset, source: int, target: int) -> float:
    """Rate of a copy: one node does both one after the other, two do them at once."""
    reading = _read_time(preset, source, preset.compute)
    writing = preset.cache.line / preset.nodes[target].write_bandwidth
    return preset.cache.line / (reading + writing if source == target else max(reading, writing))


def shared(preset: Preset, node: int) -> tuple[float, float]:
    """Rates of two streams of reads on one node: of the vCPU that computes, and of the one that helps."""
    alone = read(preset, node)
    helper = 0.0
    for _ in range(50):  # the more the other leaves over, the less the helper waits
        crowded = _read_time(preset, node, preset.helper, others=(alone - helper) / alone)
        helper = min(preset.cache.line / crowded, alone / 2)
    return alone - helper, helper


def migrate(preset: Preset, source: int, target: int, *, others: float = 0.0) -> float:
    """Time for one page, by the vCPU that helps: the kernel's work and the copy.

    `others` is how much of the source others use, 0 to 1.
    """
    reading = _read_time(preset, source, preset.helper, others=others)
    writing = preset.cache.line / preset.nodes[target].write_bandwidth
    return preset.page + PAGE / preset.cache.line * max(reading, writing)


def migrating(preset: Preset, source: int, target: int) -> tuple[float, float]:
    """Rates while one vCPU reads `source` and the other migrates pages from there: read, migrated."""
    alone = read(preset, source)
    moved = 0.0
    for _ in range(50):
        moved = PAGE / migrate(preset, source, target, others=(alone - moved) / alone)
    return alone - moved, moved


def _read_time(preset: Preset, node: int, cpu: Cpu, *, others: float = 0.0) -> float:
    """Ns a line of a stream of reads takes if `others` use that share of the node."""
    memory: Memory = preset.nodes[node]
    service = preset.cache.line / memory.read_bandwidth
    return max(service, (memory.read_latency + waiting(others) * service) / cpu.parallelism)


def waiting(others: float) -> float:
    """How many services a single request waits for if others use that share of a node (M/D/1)."""
    others = min(others, 0.999)
    return others / (2 * (1 - others))
