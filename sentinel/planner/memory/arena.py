# SPDX-License-Identifier: Apache-2.0
"""The arena of long-lived tensors, and the units that are placed and migrated (paper, IV-B).

Tensors with the same set of layers are adjacent, most accesses per page first. A tensor of at least
`MIN_OWN_PAGES` pages begins on a page and is a unit of its own. Smaller ones share pages; a shared unit is
closed when it has that many pages. Each variable is a unit.

Unlike in the paper, a tensor that is large beside the budget is cut into pieces, so that a part of it can be
in fast memory, or migrate when there is no time for more. Its untouched pages are a piece too, which never
occupies memory.

A unit occupies its pages from its first birth to its last death; this is an upper bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from ..formats.profile import Profile
from .classify import LONG, VARIABLES, layer_sets
from .order import births
from .pool import align

if TYPE_CHECKING:
    from ..formats.fields import Bools, Floats, Ints

MIN_OWN_PAGES = 16  # alignment to a page wastes at most a sixteenth of such a tensor
PIECES_PER_BUDGET = 64  # finer pieces would save little and cost system calls
_MAX_PIECES = 1 << 16  # of all tensors together, however small the budget is


@dataclass(frozen=True)
class Units:
    """The units: groups of the arena in order of offset, then variables.

    Columns by unit: `size` in bytes (whole pages); `birth` and `death`, between which it may occupy memory;
    `ready`, the position after its last birth, from which on it can migrate (see `order`); `variable`;
    `share`, the part of its tensor's accesses (1 except for pieces). `start` is the offset of each group.

    Columns by tensor: `first_unit`, or -1; `pieces`, its number of units; `offset` in the arena of
    `arena_bytes`; `earliest`, the first position at which it may be born.
    """

    size: Ints
    birth: Ints
    ready: Ints
    death: Ints
    variable: Bools
    share: Floats
    start: Ints
    first_unit: Ints
    pieces: Ints
    offset: Ints
    earliest: Ints
    arena_bytes: int

    def __len__(self) -> int:
        return len(self.size)

    def of_tensors(self, tensors: Ints) -> tuple[Ints, Ints]:
        """Return all units of `tensors`, which must have one: the row in `tensors`, and the unit."""
        return enumerate_runs(self.first_unit[tensors], self.pieces[tensors])

    def tensors_with(self, chosen: Bools) -> Bools:
        """Return the tensors that have a unit in `chosen`."""
        members = np.flatnonzero(self.first_unit >= 0)
        row, unit = self.of_tensors(members)
        tensors = np.zeros(len(self.first_unit), dtype=bool)
        tensors[members[row[chosen[unit]]]] = True
        return tensors

    def units_of(self, tensors: Bools) -> Bools:
        """Return the units of `tensors`, all of their pieces."""
        units = np.zeros(len(self), dtype=bool)
        units[self.of_tensors(np.flatnonzero(tensors))[1]] = True
        return units


def enumerate_runs(first: Ints, count: Ints) -> tuple[Ints, Ints]:
    """Return i and each of the numbers `first[i]` to `first[i]` + `count[i]` - 1, for all i."""
    row = np.repeat(np.arange(len(first)), count)
    within = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
    return row, first[row] + within


def max_piece_pages(budget: int, page_bytes: int, tensor_pages: int, pieces: int = PIECES_PER_BUDGET) -> int:
    """Return the largest piece in pages: the budget has `pieces`, all tensors together `tensor_pages`."""
    return max(MIN_OWN_PAGES, budget // (pieces * page_bytes), tensor_pages // _MAX_PIECES)


def form_units(profile: Profile, classes: Ints, max_pages: int) -> Units:
    """Lay out the arena, with pieces of at most `max_pages` pages."""
    t, page_bytes, n = profile.tensors, profile.page_bytes, len(profile.ops)
    first_unit = np.full(len(t), -1, dtype=np.int64)
    pieces = np.ones(len(t), dtype=np.int64)
    offset = np.zeros(len(t), dtype=np.int64)
    starts: list[int] = []
    shares: list[float] = []
    top = 0
    sizes, pages = align(t.size).tolist(), profile.pages.tolist()
    touched_pages = (-(-t.resident_bytes // page_bytes)).tolist()
    born = births(profile)
    for members in _tensors_by_layer_set(profile, classes, born.floats):
        open_bytes = 0  # size of the shared unit that is open
        for i in members:
            own_pages = pages[i] >= MIN_OWN_PAGES
            if own_pages or not open_bytes or open_bytes >= MIN_OWN_PAGES * page_bytes:
                top = -(-top // page_bytes) * page_bytes
                starts.append(top)
                shares.append(1.0)
                open_bytes = 0
            first_unit[i], offset[i] = len(starts) - 1, top
            if own_pages:
                cuts, piece_shares = _cut(pages[i], touched_pages[i], max_pages)
                starts += [top + cut * page_bytes for cut in cuts[1:]]
                shares[-1:] = piece_shares
                pieces[i] = len(cuts)
            top += sizes[i]
            open_bytes = 0 if own_pages else open_bytes + sizes[i]
    arena_bytes = -(-top // page_bytes) * page_bytes
    variables = np.flatnonzero(classes == VARIABLES)
    first_unit[variables] = len(starts) + np.arange(len(variables))
    start = np.array(starts, dtype=np.int64)
    variable_sizes = np.maximum(1, profile.pages[variables]) * page_bytes
    size = np.concatenate((np.diff(start, append=arena_bytes), variable_sizes))

    in_units = np.flatnonzero(first_unit >= 0)
    row, unit = enumerate_runs(first_unit[in_units], pieces[in_units])
    tensor = in_units[row]
    birth = np.full(len(size), n, dtype=np.int64)
    ready = np.zeros(len(size), dtype=np.int64)
    death = np.zeros(len(size), dtype=np.int64)
    np.minimum.at(birth, unit, born.earliest[tensor])
    np.maximum.at(ready, unit, born.ready[tensor])
    np.maximum.at(death, unit, t.death[tensor])
    return Units(
        size=size,
        birth=birth,
        ready=ready,
        death=death,
        variable=np.arange(len(size)) >= len(start),
        share=np.array(shares + [1.0] * len(variables)),
        start=start,
        first_unit=first_unit,
        pieces=pieces,
        offset=offset,
        earliest=born.earliest,
        arena_bytes=arena_bytes,
    )


def _cut(pages: int, touched_pages: int, max_pages: int) -> tuple[list[int], list[float]]:
    """Return the first page of each piece of a tensor, and the share of its accesses.

    Assumes that the touched pages are the first ones, with equal numbers of accesses.
    """
    touched_pages = touched_pages or pages
    count = -(-touched_pages // max_pages)
    bounds = [k * touched_pages // count for k in range(count + 1)]
    shares = [(b - a) / touched_pages for a, b in zip(bounds, bounds[1:])]
    if touched_pages < pages:
        return bounds, [*shares, 0.0]
    return bounds[:-1], shares


def _tensors_by_layer_set(profile: Profile, classes: Ints, floats: Bools) -> list[list[int]]:
    """Return the long-lived tensors by set of layers, sets in order of their first birth.

    Those of a set that float are apart, since they would keep the others from migrating. In a set small
    tensors come first, because they share pages; then the order is by accesses per page.
    """
    t = profile.tensors
    tensors = np.flatnonzero(classes == LONG)
    sets = layer_sets(profile, tensors)
    keys = [key + b"floats" * floating for key, floating in zip(sets, floats[tensors].tolist())]
    set_numbers: dict[bytes, int] = {}
    for i in np.lexsort((tensors, t.birth[tensors])).tolist():
        set_numbers.setdefault(keys[i], len(set_numbers))
    set_number = np.array([set_numbers[key] for key in keys], dtype=np.int64)
    pages = profile.pages[tensors]
    heat = t.accesses[tensors] / np.maximum(1, pages)
    order = np.lexsort((tensors, -heat, pages >= MIN_OWN_PAGES, set_number))
    ordered = zip(set_number[order].tolist(), tensors[order].tolist())
    return [[i for _, i in members] for _, members in groupby(ordered, key=lambda pair: pair[0])]
