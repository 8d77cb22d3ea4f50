# SPDX-License-Identifier: Apache-2.0
"""Which operations a plan with frames watches: those that use windows, and how far they have come."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from sentinel.replay.engine import BEGIN

if TYPE_CHECKING:
    from sentinel.planner.formats.plan import Plan
    from sentinel.replay.trace import Kind

_END = 2**62  # the watermark after the last operation


def positions(plan: Plan) -> dict[tuple[str, int], int]:
    """Return the positions of the plan's `uses` by operation, without those that have none."""
    return {(use.op, use.occurrence): use.position for use in plan.uses if use.position is not None}


def begins(kind: Kind, plan: Plan) -> Iterable[tuple[int, int, int, int, int]]:
    """Return the actions at each operation's begin: the watermark, and whether it is in the plan's `uses`.

    Operations run one after the other, so all earlier ones have ended. One that does not run never ends.
    """
    position = positions(plan)
    uses = {(use.op, use.occurrence) for use in plan.uses}
    traced = {(op.name, op.occurrence) for op in kind.ops}
    watermark = min((p for key, p in position.items() if key not in traced), default=_END)
    actions = []
    for op in reversed(kind.ops):
        key = (op.name, op.occurrence)
        watermark = min(watermark, position.get(key, _END))
        actions.append((op.event, BEGIN, watermark, int(key in uses), 0))
    return reversed(actions)
