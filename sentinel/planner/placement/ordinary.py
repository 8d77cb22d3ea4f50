# SPDX-License-Identifier: Apache-2.0
"""Where tensors are without a plan: the runtime's ordinary pool, of which a budget is in fast memory.

The pool is a first-fit heap (`runtime/core/page_heap.h`): variables have its lowest addresses, since they
were allocated first, and every other tensor has the lowest free one at its birth. `limit_fast` in
`runtime/core/tensor_memory.cc` gives fast memory to the lowest pages, which were touched first, or to every
other page until the budget is used up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..formats.profile import Profile
from ..memory.pool import align
from .layout import first_fit

if TYPE_CHECKING:
    from ..formats.fields import Floats, Ints

_SMALL = 2048  # bytes: larger tensors have pages of their own


def fast_shares(profile: Profile, budget: int, *, interleave: bool = False) -> Floats:
    """Return the share of each tensor's touched bytes that is in fast memory, with `budget` bytes of it.

    First touch, or with `interleave` every other page.
    """
    t = profile.tensors
    size = np.where(t.size > _SMALL, profile.pages * profile.page_bytes, align(t.size))
    offset = first_fit(size, t.birth, t.death)
    touched = t.resident_bytes
    pages = budget * (2 if interleave else 1) // profile.page_bytes
    limit = _end_of_resident(offset, offset + touched, profile.page_bytes, pages)
    below = np.clip(limit - offset, 0, touched) * (0.5 if interleave else 1.0)
    shares: Floats = np.divide(below, touched, out=np.zeros(len(t)), where=touched > 0)
    return shares


def _end_of_resident(begin: Ints, end: Ints, page_bytes: int, pages: int) -> int:
    """Return the address below which `pages` of the pages that the ranges [begin, end) touch lie."""
    first, last = begin // page_bytes, -(-end // page_bytes)
    change = np.zeros(int(last.max(initial=0)) + 1, dtype=np.int64)
    np.add.at(change, first, 1)
    np.add.at(change, last, -1)
    resident = np.flatnonzero(np.cumsum(change) > 0)
    if pages >= len(resident):
        return len(change) * page_bytes
    return int(resident[pages]) * page_bytes
