# SPDX-License-Identifier: Apache-2.0
"""The rule of a schedule: the paper's, and how candidates differ from it."""

from __future__ import annotations

from typing import NamedTuple


class Rule(NamedTuple):
    """Parameters of the scheduler. The defaults are the paper's rule.

    - `retain`: a unit stays in fast memory after a visit if its retain value is at least this.
    - `headroom`: promotions leave memory for births until the end of their interval.
    - `fixed_variables`: variables do not migrate.
    - `pinned`: units that are in fast memory for their whole lifetime, in `pinned_share` of the unit budget.
    """

    layers: int
    retain: float = float("inf")
    headroom: bool = False
    fixed_variables: bool = False
    pinned_share: float = 0.0
    pinned: frozenset[int] = frozenset()

    @property
    def name(self) -> str:
        """The differences from the paper's rule, or `paper`."""
        differences = (
            f"retain {self.retain:.3g}" if self.retain < float("inf") else "",
            f"pinned {self.pinned_share:g}" if self.pinned_share else "",
            "headroom" if self.headroom else "",
            "fixed variables" if self.fixed_variables else "",
        )
        return ", ".join(part for part in differences if part) or "paper"
