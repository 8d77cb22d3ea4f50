# SPDX-License-Identifier: Apache-2.0
"""The reserved pool: addresses for short-lived tensors, disjoint while both tensors live."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..formats.profile import Profile

if TYPE_CHECKING:
    from ..formats.fields import Ints

ALIGNMENT = 64  # bytes, which Eigen's vectors need in every tensor of TensorFlow


def align(size: Ints) -> Ints:
    """Round sizes up to the alignment. An empty tensor has an address too."""
    return np.maximum(ALIGNMENT, -(-size // ALIGNMENT) * ALIGNMENT)


def pack(profile: Profile, tensors: Ints) -> tuple[Ints, int]:
    """Return the offsets of `tensors` (indices) in the pool, and the pool's size in bytes, in whole pages.

    Tensors are placed largest first, each at the lowest offset that is free for its whole lifetime ("greedy
    by size" in Pisarchyk and Lee, arXiv:2001.03288: within a few percent of the lower bound). Tensors with
    untouched pages come last, so that their untouched ends lie above everything else.
    """
    t = profile.tensors
    sizes = align(t.size[tensors])
    births, deaths = t.birth[tensors].tolist(), t.death[tensors].tolist()
    occupied: list[list[tuple[int, int]]] = [[] for _ in range(len(profile.ops))]
    offsets = np.zeros(len(tensors), dtype=np.int64)
    top = 0
    partly_touched = t.resident_bytes[tensors] <= t.size[tensors] - profile.page_bytes
    order = np.lexsort((np.arange(len(tensors)), t.birth[tensors], -sizes, partly_touched)).tolist()
    for i, size in zip(order, sizes[order].tolist()):
        lifetime = range(births[i], deaths[i])
        ranges: set[tuple[int, int]] = set()
        for p in lifetime:
            ranges.update(occupied[p])
        offset = _lowest_gap(sorted(ranges), size)
        offsets[i] = offset
        top = max(top, offset + size)
        for p in lifetime:
            occupied[p].append((offset, offset + size))
    return offsets, -(-top // profile.page_bytes) * profile.page_bytes


def pool_bytes(profile: Profile, tensors: Ints, offsets: Ints) -> int:
    """Return the bytes of memory that the pool occupies if each tensor touches its first pages.

    TensorFlow's scratch can be many times what an operation touches. The rest has addresses, but no pages.
    """
    return covered_bytes(offsets, offsets + profile.tensors.resident_bytes[tensors], profile.page_bytes)


def covered_bytes(begin: Ints, end: Ints, page_bytes: int) -> int:
    """Return the bytes of the pages that the ranges [begin, end) touch together."""
    order = np.argsort(begin, kind="stable")
    first_page = begin[order] // page_bytes
    end_page = np.maximum.accumulate(-(-end[order] // page_bytes))
    first_page[1:] = np.maximum(first_page[1:], end_page[:-1])
    return int(np.maximum(end_page - first_page, 0).sum()) * page_bytes


def _lowest_gap(ranges: list[tuple[int, int]], size: int) -> int:
    """Return the lowest offset of a gap of `size` bytes between `ranges`, which are sorted by their begin."""
    offset = 0
    for begin, end in ranges:
        if begin - offset >= size:
            return offset
        offset = max(offset, end)
    return offset
