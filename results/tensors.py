# SPDX-License-Identifier: Apache-2.0
"""Tensor bytes on each node, compared with the budget.

The figures come from the Sentinel runtime, which alone tells tensors from the rest of the process.
`Residency` counts the whole process, including the interpreter and its libraries, and cannot be compared with
a budget.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from results.records import Step, is_count
from results.runs import Repeat
from results.stats import measured


@dataclass(frozen=True)
class Tensors:
    """Tensor bytes by node at the end of the measured step with most of them on node 0.

    `budget` is the limit for node 0 in bytes, or None if the cell has no budget or the records lack it.
    """

    nodes: tuple[int, ...]
    budget: int | None

    @property
    def over(self) -> bool:
        """Whether node 0 holds more tensor bytes than the budget."""
        return self.budget is not None and self.nodes[0] > self.budget


def tensors(repeats: Sequence[Repeat]) -> Tensors | None:
    """Return the tensor bytes of a cell's repeats, or None if no measured step has them."""
    by_step = [nodes for repeat in repeats for step in measured(repeat) if (nodes := by_node(step))]
    budgets = {r.provenance.fast_memory.budget_bytes for r in repeats if r.provenance.fast_memory is not None}
    return Tensors(max(by_step), budgets.pop() if len(budgets) == 1 else None) if by_step else None


def by_node(step: Step) -> tuple[int, ...] | None:
    """Return the resident bytes of the runtime's pools by node, or None without valid statistics."""
    pools = step.runtime.get("pools")
    if not isinstance(pools, dict) or not pools:
        return None
    totals: list[int] = []
    for pool in pools.values():
        resident = pool.get("resident") if isinstance(pool, dict) else None
        if not isinstance(resident, list) or not resident or len(resident) != len(totals or resident):
            return None
        if not all(map(is_count, resident)):
            return None
        totals = [a + b for a, b in zip(totals, resident, strict=True)] if totals else resident
    return tuple(totals)
