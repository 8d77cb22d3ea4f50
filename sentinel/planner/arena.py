# SPDX-License-Identifier: Apache-2.0
"""The arena of long-lived tensors, and the units in which pages are placed and moved (paper, IV-B).

Tensors with the same set of layers lie beside each other, the most accessed per page first. Those of at least
`ALONE` pages begin on a page and are a unit of their own, so that each can be where its own uses want it; the
smaller ones share pages, and a unit of them is closed once it has as many. A variable is a unit where it is.

A unit takes its pages from the first birth in it until the last death. Fewer may be there at times; never
more.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from .classify import LONG, VARIABLES, layer_sets
from .pool import aligned
from .profile import Profile

if TYPE_CHECKING:
    from .fields import Bools, Ints

ALONE = 16  # pages: what page alignment wastes is at most a sixteenth of a tensor


@dataclass(frozen=True)
class Units:
    """What is placed and moved as one; groups of the arena first, in order of offset, then variables.

    `birth` to `death` is the time in which it takes its `size` bytes (whole pages), `ready` the position
    after the last birth in it, from which on it can move. `of` has the unit of each tensor, or -1; `offset`
    of each tensor that is in the arena.
    """

    size: Ints
    birth: Ints
    ready: Ints
    death: Ints
    variable: Bools
    start: Ints
    of: Ints
    offset: Ints
    arena: int

    def __len__(self) -> int:
        return len(self.size)


def units(profile: Profile, classes: Ints) -> Units:
    """Lay the arena out."""
    t, page = profile.tensors, profile.page
    of = np.full(len(t), -1, dtype=np.int64)
    offset = np.zeros(len(t), dtype=np.int64)
    starts: list[int] = []
    top = 0
    taken, pages = aligned(t.size).tolist(), profile.pages.tolist()
    for members in _sets(profile, classes):
        filled = 0  # bytes of the shared unit that is open
        for i in members:
            alone = pages[i] >= ALONE
            if alone or not filled or filled >= ALONE * page:
                top = -(-top // page) * page
                starts.append(top)
                filled = 0
            of[i], offset[i] = len(starts) - 1, top
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
    np.minimum.at(birth, of[inside], np.maximum(t.birth[inside], 0))
    np.maximum.at(ready, of[inside], t.birth[inside] + 1)
    np.maximum.at(death, of[inside], t.death[inside])
    variable = np.arange(len(size)) >= len(start)
    return Units(size, birth, ready, death, variable, start, of, offset, arena)


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
