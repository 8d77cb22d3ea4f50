# SPDX-License-Identifier: Apache-2.0
"""Where the tensors of a cell were: bytes on each node, against the budget of fast memory.

Only the Sentinel runtime tells tensors from the rest of a process. `Residency` cannot: it counts the
interpreter, libraries' data and stacks as well, so it says nothing of a budget.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from results.records import Step
from results.runs import Repeat
from results.stats import measured


@dataclass(frozen=True)
class Tensors:
    """Bytes of tensors by node, at the end of the measured step that had most of them on node 0.

    `budget` is the most they may take there, in bytes; None if there is none, or the record does not say.
    """

    nodes: tuple[int, ...]
    budget: int | None

    @property
    def over(self) -> bool:
        """Whether more were on node 0 than the budget allows."""
        return self.budget is not None and self.nodes[0] > self.budget


def tensors(repeats: Iterable[Repeat]) -> Tensors | None:
    """The tensors of a cell's repeats; None if no measured step has a figure."""
    of = list(repeats)
    found = [nodes for repeat in of for step in measured(repeat) if (nodes := by_node(step)) is not None]
    budgets = {r.provenance.fast_memory.budget_bytes for r in of if r.provenance.fast_memory is not None}
    return Tensors(max(found), budgets.pop() if len(budgets) == 1 else None) if found else None


def by_node(step: Step) -> tuple[int, ...] | None:
    """Bytes of the runtime's pools on each node; None where the runtime did not say."""
    pools = step.runtime.get("pools")
    if not isinstance(pools, dict) or not pools:
        return None
    resident = [pool.get("resident") if isinstance(pool, dict) else None for pool in pools.values()]
    rows = [row for row in resident if isinstance(row, list) and row and all(type(n) is int for n in row)]
    if len(rows) != len(resident) or len({len(row) for row in rows}) != 1:
        return None
    return tuple(sum(column) for column in zip(*rows, strict=True))
