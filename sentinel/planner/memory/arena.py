# SPDX-License-Identifier: Apache-2.0
"""The arena of long-lived tensors, and the units in which pages are placed and moved (paper, IV-B).

Tensors with the same set of layers lie beside each other, the most accessed per page first. Those of at least
`ALONE` pages begin on a page and are units of their own, so that each can be where its own uses want it; the
smaller ones share pages, and a unit of them is closed once it has as many. A variable is a unit where it is.

A tensor that is large beside the budget is cut into pieces, which the paper does not: part of it may be in
fast memory, and part of it be moved while there is time for no more. Pages that nobody touches are a piece
too, which never takes memory.

A unit takes its pages from the first birth in it until the last death. Fewer may be there at times; never
more.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from ..formats.profile import Profile
from .classify import LONG, VARIABLES, layer_sets
from .pool import aligned

if TYPE_CHECKING:
    from ..formats.fields import Bools, Floats, Ints

ALONE = 16  # pages: what page alignment wastes is at most a sixteenth of a tensor
_PIECES = 64  # of the budget; finer ones would save little, and cost system calls
_MOST_PIECES = 1 << 16  # of all tensors together, however small the budget is


@dataclass(frozen=True)
class Units:
    """What is placed and moved as one; groups of the arena first, in order of offset, then variables.

    `birth` to `death` is the time in which it takes its `size` bytes (whole pages), `ready` the position
    after the last birth in it, from which on it can move. `of` has the first unit of each tensor, or -1,
    `pieces` how many it is cut into, and `share` what part of its tensor's accesses each unit has: 1, but for
    pieces. `offset` is of each tensor that is in the arena.
    """

    size: Ints
    birth: Ints
    ready: Ints
    death: Ints
    variable: Bools
    start: Ints
    of: Ints
    pieces: Ints
    share: Floats
    offset: Ints
    arena: int

    def __len__(self) -> int:
        return len(self.size)

    def spread(self, tensor: Ints) -> tuple[Ints, Ints]:
        """For tensors that are units each unit of each: the index in `tensor`, and the unit."""
        return spread(self.of[tensor], self.pieces[tensor])


def spread(first: Ints, count: Ints) -> tuple[Ints, Ints]:
    """For each i the numbers `first[i]`, `first[i]` + 1, ... `count[i]` of them: i, and the number."""
    which = np.repeat(np.arange(len(first)), count)
    within = np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count)
    return which, first[which] + within


def piece(budget: int, page: int, pages: int) -> int:
    """The most pages of a piece; `pages` is what all tensors have."""
    return max(ALONE, budget // (_PIECES * page), pages // _MOST_PIECES)


def units(profile: Profile, classes: Ints, most: int) -> Units:
    """Lay the arena out, with pieces of at most so many pages."""
    t, page = profile.tensors, profile.page
    of = np.full(len(t), -1, dtype=np.int64)
    pieces = np.ones(len(t), dtype=np.int64)
    offset = np.zeros(len(t), dtype=np.int64)
    starts: list[int] = []
    shares: list[float] = []
    top = 0
    taken, pages = aligned(t.size).tolist(), profile.pages.tolist()
    touched = (-(-t.bytes // page)).tolist()
    for members in _sets(profile, classes):
        filled = 0  # bytes of the shared unit that is open
        for i in members:
            alone = pages[i] >= ALONE
            if alone or not filled or filled >= ALONE * page:
                top = -(-top // page) * page
                starts.append(top)
                shares.append(1.0)
                filled = 0
            of[i], offset[i] = len(starts) - 1, top
            if alone:
                cuts, parts = _cut(pages[i], touched[i], most)
                starts += [top + cut * page for cut in cuts[1:]]
                shares[-1:] = parts
                pieces[i] = len(cuts)
            top += taken[i]
            filled = 0 if alone else filled + taken[i]
    arena = -(-top // page) * page
    variables = np.flatnonzero(classes == VARIABLES)
    of[variables] = len(starts) + np.arange(len(variables))
    start = np.array(starts, dtype=np.int64)
    size = np.concatenate((np.diff(start, append=arena), np.maximum(1, profile.pages[variables]) * page))
    n = len(profile.ops)
    birth = np.full(len(size), n, dtype=np.int64)
    ready = np.full(len(size), 0, dtype=np.int64)
    death = np.full(len(size), 0, dtype=np.int64)
    inside = np.flatnonzero(of >= 0)
    which, unit = spread(of[inside], pieces[inside])
    tensor = inside[which]
    np.minimum.at(birth, unit, np.maximum(t.birth[tensor], 0))
    np.maximum.at(ready, unit, t.birth[tensor] + 1)
    np.maximum.at(death, unit, t.death[tensor])
    variable = np.arange(len(size)) >= len(start)
    share = np.array(shares + [1.0] * len(variables))
    return Units(size, birth, ready, death, variable, start, of, pieces, share, offset, arena)


def _cut(pages: int, touched: int, most: int) -> tuple[list[int], list[float]]:
    """The pages at which the pieces of a tensor begin, and their shares of its accesses.

    The first `touched` pages are taken to be those that are accessed, each as often as the others.
    """
    touched = touched or pages
    count = -(-touched // most)
    bounds = [k * touched // count for k in range(count + 1)]
    shares = [(b - a) / touched for a, b in zip(bounds, bounds[1:])]
    if touched < pages:
        return bounds, [*shares, 0.0]
    return bounds[:-1], shares


def _sets(profile: Profile, classes: Ints) -> list[list[int]]:
    """Long-lived tensors by set of layers, sets in order of their first birth; in a set the hottest first.

    The small ones of a set come before the others, for they share pages.
    """
    t = profile.tensors
    chosen = np.flatnonzero(classes == LONG)
    numbers: dict[bytes, int] = {}
    by_birth = np.lexsort((chosen, t.birth[chosen]))
    keys = layer_sets(profile, chosen)
    for i in by_birth.tolist():
        numbers.setdefault(keys[i], len(numbers))
    number = np.array([numbers[key] for key in keys], dtype=np.int64)
    pages = profile.pages[chosen]
    heat = t.accesses[chosen] / np.maximum(1, pages)
    order = np.lexsort((chosen, -heat, pages >= ALONE, number))
    ordered = zip(number[order].tolist(), chosen[order].tolist())
    return [[i for _, i in members] for _, members in groupby(ordered, key=lambda pair: pair[0])]
