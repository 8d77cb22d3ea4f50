# SPDX-License-Identifier: Apache-2.0
"""Where a node's memory is, by the addresses that a plugin is told. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from testbed.common.errors import UsageError
from testbed.machine import Machine

# QEMU's q35 puts memory below a hole for devices, which ends at 4 GiB, and the rest above
# (hw/i386/pc_q35.c: 2.75 GiB below if all fits there, else 2 GiB).
_HOLE_END = 4 << 30
_ALL_BELOW = 0xB0000000
_BELOW = 0x80000000
# Up to 8.0 a plugin is told no physical address: qemu_plugin_hwaddr_phys_addr() adds where a node's memory
# begins among QEMU's blocks to where it begins in the machine, which is the same figure twice.
_PHYSICAL_SINCE = (8, 1)


@dataclass(frozen=True)
class Layout:
    """Addresses: node 1 begins at `split`, memory ends at `end`, `hole` in between is none."""

    split: int
    end: int
    hole: tuple[int, int]


def of(machine: Machine, qemu: tuple[int, int]) -> Layout:
    """The layout of a machine of two nodes, which is what the timing model knows, under a release of QEMU."""
    if len(machine.nodes) != 2:
        raise UsageError(f"the timing model takes machines of two nodes; this one has {len(machine.nodes)}")
    first, second = (node.memory for node in machine.nodes)
    if qemu < _PHYSICAL_SINCE:
        return Layout(2 * first, 2 * first + second, (first, 2 * first))
    total = machine.memory
    below = total if total < _ALL_BELOW else _BELOW

    def address(offset: int) -> int:
        return offset if offset < below else _HOLE_END + offset - below

    end = below if total == below else _HOLE_END + total - below
    hole = (below, _HOLE_END) if total > below else (0, 0)
    return Layout(address(first), end, hole)
