# SPDX-License-Identifier: Apache-2.0
"""Physical addresses of the memory nodes, as a QEMU plugin sees them. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass

from testbed.common.errors import UsageError
from testbed.machine import Machine

# QEMU's q35 puts memory below a hole for devices, which ends at 4 GiB, and the rest above
# (hw/i386/pc_q35.c: 2.75 GiB below if all fits there, else 2 GiB).
_HOLE_END = 4 << 30
_ALL_BELOW = 0xB0000000
_BELOW = 0x80000000
# Until 8.0, qemu_plugin_hwaddr_phys_addr() returns no physical address: it adds the node's offset in QEMU's
# blocks to its offset in the machine, which counts the same offset twice.
_PHYSICAL_SINCE = (8, 1)


@dataclass(frozen=True)
class Layout:
    """Addresses: node 1 begins at `split`, memory ends at `end`; `hole` has no memory."""

    split: int
    end: int
    hole: tuple[int, int]


def compute(machine: Machine, qemu: tuple[int, int]) -> Layout:
    """Return the layout of a two-node machine under a QEMU release. Raises `UsageError` for others."""
    if len(machine.nodes) != 2:
        raise UsageError(
            f"the timing model needs a machine with two nodes; this one has {len(machine.nodes)}"
        )
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
