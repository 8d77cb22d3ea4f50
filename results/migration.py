# SPDX-License-Identifier: Apache-2.0
"""What the runtime migrated in a measured step, and how long computation waited for it.

The runtime counts over all its steps, and a record may cover several: the growth from one record to the next
is the activity of a step.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

from results.records import Step, is_count
from results.runs import Repeat


@dataclass(frozen=True)
class Migration:
    """Means per measured step: bytes that the runtime moved or failed to move, and the exposed time.

    `late` are promotions unfinished at their wait; `crowded` are groups born on node 1 because they did not
    fit.
    """

    promoted: float
    demoted: float
    late: float
    failed: float
    crowded: float
    exposed_ns: float

    @property
    def moved(self) -> float:
        """Bytes moved in both directions."""
        return self.promoted + self.demoted


_COUNTERS = tuple(field.name for field in fields(Migration))


def migration(repeats: Iterable[Repeat]) -> Migration | None:
    """Return the means over all measured steps, or None if no measured step has a plan's statistics."""
    growths = [growth for repeat in repeats for growth in _growths(repeat.steps)]
    if not growths:
        return None
    return Migration(*(sum(column) / len(growths) for column in zip(*growths, strict=True)))


def grown(before: Step | None, step: Step) -> dict[str, int]:
    """Return by how much each of the runtime's counters has grown in a step; none if it is unknown."""
    now, then = (s.runtime.get("total") if s is not None else None for s in (step, before))
    if not isinstance(now, dict) or not isinstance(then, dict):
        return {}
    return {
        name: value - then[name]
        for name, value in now.items()
        if is_count(value) and is_count(then.get(name)) and value >= then[name]
    }


def _growths(steps: list[Step]) -> Iterable[tuple[int, ...]]:
    """Yield the growth of every counter in each measured step that ran with a plan."""
    before: tuple[int, ...] | None = None
    for step in steps:
        now = _counters(step)
        if now and before and not step.warmup and step.runtime.get("planned") is True:
            growth = tuple(a - b for a, b in zip(now, before, strict=True))
            if min(growth) >= 0:
                yield growth
        before = now


def _counters(step: Step) -> tuple[int, ...] | None:
    """Return the runtime's counters at the end of a step, or None if they are absent or invalid."""
    total = step.runtime.get("total")
    values = [total.get(name) if isinstance(total, dict) else None for name in _COUNTERS]
    numbers = tuple(value for value in values if is_count(value))
    return numbers if len(numbers) == len(_COUNTERS) else None
