# SPDX-License-Identifier: Apache-2.0
"""The rule for ranges of addresses that are taken for a time: they are disjoint."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple


class Range(NamedTuple):
    """Addresses from `first` to before `last`, taken from position `begin` to `end`."""

    first: int
    last: int
    begin: int
    end: int
    name: str


def overlaps(ranges: Sequence[Range]) -> Iterator[tuple[Range, Range]]:
    """Yield each range that overlaps one that is taken already, with the first such one."""
    used = [(i, r) for i, r in enumerate(ranges) if r.first != r.last and r.begin < r.end]
    events = [(r.end, 0, i) for i, r in used] + [(r.begin, 1, i) for i, r in used]
    taken: dict[int, Range] = {}
    for _, begins, i in sorted(events):
        if not begins:
            del taken[i]
            continue
        new = ranges[i]
        other = next((r for r in taken.values() if r.first < new.last and new.first < r.last), None)
        if other is not None:
            yield new, other
        taken[i] = new
