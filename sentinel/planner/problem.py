# SPDX-License-Identifier: Apache-2.0
"""The planning problem: a profile in terms of units, their savings and migration times, and their budget."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Callable, TypeVar

import numpy as np

from .errors import BudgetError
from .formats.figures import Figures
from .formats.profile import Profile
from .memory import pool
from .memory.arena import PIECES_PER_BUDGET, Units, form_units, max_piece_pages
from .memory.classify import LONG, RESIDENT, SHORT, VARIABLES, classify
from .timing.cost import Costs, estimate_costs

if TYPE_CHECKING:
    from .formats.fields import Bools, Floats, Ints

_SPILL_SHARES = (1.0, 0.75, 0.5, 0.25, 0.1, 0.0)  # of the budget: limits of the reserved pool
_T = TypeVar("_T")
LARGE_PROFILE = 100_000  # operations and uses, from which on planning time matters


@dataclass(frozen=True)
class Problem:
    """A profile, a budget and a machine, in terms of units.

    The reserved pool has `reserved` bytes of addresses and occupies `pool_bytes` of memory; `pool_offset` is
    the offset of each short-lived tensor. If the variables' nodes are given, they are no units: those in
    `resident` (by tensor) stay in fast memory and occupy `resident_bytes`.

    Uses are merged by unit and operation, and sorted by unit and position. Each saves `use_saved_ns` if its
    unit is in fast memory; `use_writes` tells those that write. `op_ns` is the time of each operation with
    only the reserved pool and the resident variables in fast memory.
    `move_ns` is the migration time of each unit to node 0 and to node 1.
    """

    profile: Profile
    figures: Figures
    fast_step_ns: float | None
    budget: int
    classes: Ints
    pool_offset: Ints
    reserved: int
    pool_bytes: int
    resident: Bools
    resident_bytes: int
    units: Units
    costs: Costs
    op_ns: Floats
    use_unit: Ints
    use_position: Ints
    use_saved_ns: Floats
    use_writes: Bools
    move_ns: list[Floats]

    @property
    def unit_budget(self) -> int:
        """The part of the budget that the reserved pool and resident variables leave to units, in bytes."""
        return self.budget - self.pool_bytes - self.resident_bytes


def is_large(profile: Profile) -> bool:
    """Return whether planning tries less, so that it takes less time."""
    return len(profile.ops) + len(profile.uses.tensor) > LARGE_PROFILE


def problems(
    profile: Profile,
    budget: int,
    figures: Figures,
    fast_step_ns: float | None,
    *,
    spill: bool,
    resident: Set[str] | None = None,
) -> Iterator[Problem]:
    """Yield the paper's problem and, with `spill`, variants of it with a smaller reserved pool.

    A large profile has one problem: the first one above the floor. Raises BudgetError if there is none.
    """
    shares = (None, *_SPILL_SHARES) if spill else (None,)
    floors: dict[int, tuple[int, int]] = {}
    found = above_floor(
        lambda pool_share: prepare(
            profile,
            budget,
            figures,
            fast_step_ns,
            pool_share=pool_share,
            resident=resident,
            spilled_floors=floors,
        ),
        shares,
    )
    return (problem for _, problem in islice(found, 1 if is_large(profile) else None))


def above_floor(preparation: Callable[[_T], Problem], options: Iterable[_T]) -> Iterator[tuple[_T, Problem]]:
    """Yield options and their problems if the budget reaches the floor. Raises BudgetError if none does."""
    error: BudgetError | None = None
    found = False
    for option in options:
        try:
            problem = preparation(option)
        except BudgetError as e:
            error = e
            continue
        found = True
        yield option, problem
    if error is not None and not found:
        raise error


def prepare(
    profile: Profile,
    budget: int,
    figures: Figures,
    fast_step_ns: float | None = None,
    *,
    pool_share: float | None = None,
    resident: Set[str] | None = None,
    spilled_floors: dict[int, tuple[int, int]] | None = None,
    pieces: int = PIECES_PER_BUDGET,
) -> Problem:
    """Classify tensors, lay out pool and arena, and estimate costs.

    Raises BudgetError below the floor: the reserved pool plus the largest long-lived tensor. With
    `pool_share`, the largest short-lived tensors are reclassified as long-lived until the pool occupies at
    most that share of the budget; then a piece of the largest tensor is enough for the floor. With
    `resident`, these variables stay in fast memory, and all others in slow memory. `spilled_floors` is for
    calls that differ in `pool_share` only: it keeps what takes long. The budget is that of at least `pieces`.
    """
    classes = classify(profile)
    in_fast = np.zeros(len(classes), dtype=bool)
    if resident is not None:
        variable = classes == VARIABLES
        in_fast = variable & np.array([name in resident for name in profile.tensors.name], dtype=bool)
        classes = np.where(variable, RESIDENT, classes)
    resident_bytes = int(np.maximum(1, profile.pages[in_fast]).sum()) * profile.page_bytes
    max_pages = max_piece_pages(budget, profile.page_bytes, int(profile.pages.sum()), pieces)
    if pool_share is not None:
        floors = spilled_floors if spilled_floors is not None else {}
        classes = _spill(profile, classes, int(pool_share * budget), floors)
    pool_bytes, largest = _floor(profile, classes)
    if pool_share is not None:
        largest = min(largest, max_pages * profile.page_bytes)
    floor = pool_bytes + resident_bytes + largest
    if budget < floor:
        variables = f"{resident_bytes} for variables, " if resident_bytes else ""
        raise BudgetError(
            f"the budget of {budget} bytes is below the floor of {floor} bytes: {variables}"
            f"{pool_bytes} for short-lived tensors and {largest} for the largest long-lived one",
            floor=floor,
        )
    short = np.flatnonzero(classes == SHORT)
    pool_offset = np.zeros(len(profile.tensors), dtype=np.int64)
    pool_offset[short], reserved = pool.pack(profile, short)
    units = form_units(profile, classes, max_pages)
    costs = estimate_costs(profile, figures, fast_step_ns)
    u, n = profile.uses, len(profile.ops)
    always_fast = (classes == SHORT) | in_fast
    saved_always = np.bincount(
        u.position, weights=np.where(always_fast[u.tensor], costs.saved_ns, 0.0), minlength=n
    )
    use = np.flatnonzero(units.first_unit[u.tensor] >= 0)
    row, unit = units.of_tensors(u.tensor[use])
    use = use[row]
    unit_uses, inverse = np.unique(unit * n + u.position[use], return_inverse=True)
    saved_ns = costs.saved_ns[use] * units.share[unit]
    pages = (units.size // profile.page_bytes).astype(np.float64)
    return Problem(
        profile=profile,
        figures=figures,
        fast_step_ns=fast_step_ns,
        budget=budget,
        classes=classes,
        pool_offset=pool_offset,
        reserved=reserved,
        pool_bytes=pool_bytes,
        resident=in_fast,
        resident_bytes=resident_bytes,
        units=units,
        costs=costs,
        op_ns=costs.op_ns - saved_always,
        use_unit=unit_uses // n,
        use_position=unit_uses % n,
        use_saved_ns=np.bincount(inverse, weights=saved_ns, minlength=len(unit_uses)).astype(np.float64),
        use_writes=np.bincount(inverse, weights=u.writes[use] > 0, minlength=len(unit_uses)) > 0,
        move_ns=[pages * figures.migration_ns(to, profile.page_bytes) for to in (0, 1)],
    )


def _floor(profile: Profile, classes: Ints) -> tuple[int, int]:
    """Return the bytes of the reserved pool and of the largest long-lived tensor."""
    short = np.flatnonzero(classes == SHORT)
    long_lived_pages = profile.pages[(classes == LONG) | (classes == VARIABLES)]
    pool_bytes = pool.pool_bytes(profile, short, pool.pack(profile, short)[0])
    return pool_bytes, int(long_lived_pages.max(initial=0)) * profile.page_bytes


def _spill(profile: Profile, classes: Ints, limit: int, floors: dict[int, tuple[int, int]]) -> Ints:
    """Reclassify the fewest short-lived tensors, largest first, until the pool occupies `limit` bytes.

    `floors` keeps the floor by the number of reclassified tensors.
    """
    short = np.flatnonzero(classes == SHORT)
    short = short[np.lexsort((short, -profile.tensors.resident_bytes[short]))]
    low, high = 0, len(short)
    while low < high:
        middle = (low + high) // 2
        if middle not in floors:
            floors[middle] = _floor(profile, _reclassify_as_long_lived(classes, short[:middle]))
        low, high = (low, middle) if floors[middle][0] <= limit else (middle + 1, high)
    return _reclassify_as_long_lived(classes, short[:low])


def _reclassify_as_long_lived(classes: Ints, tensors: Ints) -> Ints:
    changed = classes.copy()
    changed[tensors] = LONG
    return changed
