# SPDX-License-Identifier: Apache-2.0
"""The reserved pool: places for short-lived tensors; those that live at the same time do not overlap."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..formats.profile import Profile

if TYPE_CHECKING:
    from ..formats.fields import Ints

ALIGNMENT = 64  # what TensorFlow asks of every allocation: Eigen's vectors


def aligned(size: Ints) -> Ints:
    """Sizes rounded up to the alignment; a tensor of no bytes has an address of its own too."""
    return np.maximum(ALIGNMENT, -(-size // ALIGNMENT) * ALIGNMENT)


def pack(profile: Profile, short: Ints) -> tuple[Ints, int]:
    """Offsets of the tensors `short` (indices) in the pool, and the pool's size in bytes, in whole pages.

    The largest first, each at the lowest offset that is free during its whole life ("greedy by size" of
    Pisarchyk and Lee, arXiv:2001.03288, which there comes within a few percent of the lower bound). Those
    with pages that nobody touches come last, so that the untouched ends lie above everything else.
    """
    t = profile.tensors
    sizes = aligned(t.size[short])
    births, deaths = t.birth[short].tolist(), t.death[short].tolist()
    busy: list[list[tuple[int, int]]] = [[] for _ in range(len(profile.ops))]
    offsets = np.zeros(len(short), dtype=np.int64)
    top = 0
    partly = t.bytes[short] <= t.size[short] - profile.page
    order = np.lexsort((np.arange(len(short)), t.birth[short], -sizes, partly)).tolist()
    for i, size in zip(order, sizes[order].tolist()):
        life = range(births[i], deaths[i])
        taken: set[tuple[int, int]] = set()
        for p in life:
            taken.update(busy[p])
        offset = _lowest(sorted(taken), size)
        offsets[i] = offset
        top = max(top, offset + size)
        for p in life:
            busy[p].append((offset, offset + size))
    return offsets, -(-top // profile.page) * profile.page


def resident(profile: Profile, short: Ints, offsets: Ints) -> int:
    """Bytes that the pool takes of memory, if what is touched of each tensor are its first pages.

    Scratch may be many times what an operation needs: the rest has addresses, and never a page.
    """
    return covered(offsets, offsets + profile.tensors.bytes[short], profile.page)


def covered(begin: Ints, end: Ints, page: int) -> int:
    """Bytes of the pages that any of the ranges [begin, end) touches."""
    order = np.argsort(begin, kind="stable")
    first, after = begin[order] // page, np.maximum.accumulate(-(-end[order] // page))
    first[1:] = np.maximum(first[1:], after[:-1])
    return int(np.maximum(after - first, 0).sum()) * page


def _lowest(taken: list[tuple[int, int]], size: int) -> int:
    """The lowest offset of a gap of `size` bytes between the pieces `taken`, in order of their beginnings."""
    offset = 0
    for begin, end in taken:
        if begin - offset >= size:
            return offset
        offset = max(offset, end)
    return offset
