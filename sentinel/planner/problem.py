# SPDX-License-Identifier: Apache-2.0
"""What is to be scheduled: units, what each saves when, how long it takes to move, how much room is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .errors import BudgetError
from .formats.figures import Figures
from .formats.profile import Profile
from .memory import arena, pool
from .memory.classify import LONG, SHORT, VARIABLES, classes
from .timing.cost import Costs, costs

if TYPE_CHECKING:
    from .formats.fields import Floats, Ints


@dataclass(frozen=True)
class Problem:
    """A profile in terms of units. `room` is what the reserved pool leaves of the budget, in bytes: it has
    `reserved` addresses, and takes `pool_bytes` of memory.

    Uses of units are merged by operation and sorted by unit, then position; each saves `use_gain` ns if its
    unit is in fast memory. `slot` is the time of each operation with only the reserved pool in fast memory.
    """

    profile: Profile
    figures: Figures
    fast_step_ns: float | None  # measured, if it is known
    budget: int
    classes: Ints
    short_offset: Ints  # of each tensor that is short-lived
    reserved: int
    pool_bytes: int
    units: arena.Units
    costs: Costs
    slot: Floats
    use_unit: Ints
    use_position: Ints
    use_gain: Floats
    move_ns: list[Floats]  # of each unit, to node 0 and to node 1

    @property
    def room(self) -> int:
        return self.budget - self.pool_bytes


def prepare(
    profile: Profile,
    budget: int,
    figures: Figures,
    fast_step_ns: float | None = None,
    *,
    spill: float | None = None,
) -> Problem:
    """Lay out and estimate.

    Raises BudgetError below the floor: the reserved pool and the largest long-lived tensor. With `spill`,
    the pool has this share of the budget at most, and short-lived tensors are taken for long-lived ones
    until it fits; then a piece of the largest tensor is enough for the floor.
    """
    found = classes(profile)
    most = arena.piece(budget, profile.page, int(profile.pages.sum()))
    if spill is not None:
        found = _spilled(profile, found, int(spill * budget))
    held, largest = _floor(profile, found)
    if spill is not None:
        largest = min(largest, most * profile.page)
    if budget < held + largest:
        raise BudgetError(
            f"the budget of {budget} bytes is below the floor of {held + largest}: "
            f"{held} for short-lived tensors and {largest} for the largest long-lived one",
            floor=held + largest,
        )
    short = np.flatnonzero(found == SHORT)
    packed, reserved = pool.pack(profile, short)
    offsets = np.zeros(len(profile.tensors), dtype=np.int64)
    offsets[short] = packed
    units = arena.units(profile, found, most)
    cost = costs(profile, figures, fast_step_ns)
    u, n = profile.uses, len(profile.ops)
    kept = np.bincount(u.position, weights=np.where(found[u.tensor] == SHORT, cost.gain, 0.0), minlength=n)
    moved = np.flatnonzero(units.of[u.tensor] >= 0)
    which, unit = units.spread(u.tensor[moved])
    moved = moved[which]
    merged, inverse = np.unique(unit * n + u.position[moved], return_inverse=True)
    gain = cost.gain[moved] * units.share[unit]
    pages = (units.size // profile.page).astype(np.float64)
    return Problem(
        profile=profile,
        figures=figures,
        fast_step_ns=fast_step_ns,
        budget=budget,
        classes=found,
        short_offset=offsets,
        reserved=reserved,
        pool_bytes=held,
        units=units,
        costs=cost,
        slot=cost.slot - kept,
        use_unit=merged // n,
        use_position=merged % n,
        use_gain=np.bincount(inverse, weights=gain, minlength=len(merged)).astype(np.float64),
        move_ns=[pages * figures.move_ns(to, profile.page) for to in (0, 1)],
    )


def _floor(profile: Profile, found: Ints) -> tuple[int, int]:
    """Bytes of the reserved pool, and of the largest long-lived tensor."""
    short = np.flatnonzero(found == SHORT)
    lasting = profile.pages[(found == LONG) | (found == VARIABLES)]
    held = pool.resident(profile, short, pool.pack(profile, short)[0])
    return held, int(lasting.max(initial=0)) * profile.page


def _spilled(profile: Profile, found: Ints, limit: int) -> Ints:
    """The classes with as few short-lived tensors as will do taken for long-lived ones, the largest first,
    so that the pool takes no more than `limit` bytes.
    """
    chosen = np.flatnonzero(found == SHORT)
    chosen = chosen[np.lexsort((chosen, -profile.tensors.bytes[chosen]))]
    low, high = 0, len(chosen)
    while low < high:
        middle = (low + high) // 2
        held, _ = _floor(profile, _taken_for_long(found, chosen[:middle]))
        low, high = (low, middle) if held <= limit else (middle + 1, high)
    return _taken_for_long(found, chosen[:low])


def _taken_for_long(found: Ints, chosen: Ints) -> Ints:
    changed = found.copy()
    changed[chosen] = LONG
    return changed
