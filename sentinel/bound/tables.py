# SPDX-License-Identifier: Apache-2.0
"""What the linear program of the bound is about: uses, the gaps between them, and stretches of the step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sentinel.planner.formats.profile import Profile
from sentinel.planner.memory.classify import OUTSIDE, classify
from sentinel.planner.timing.cost import Costs

if TYPE_CHECKING:
    from sentinel.planner.formats.fields import Bools, Floats, Ints

STRETCHES = 64  # of the step, equally long; a power of two


class Uses(NamedTuple):
    """Uses that save time or write, sorted by tensor and position: rows of the profile merged."""

    tensor: Ints
    position: Ints
    saved_ns: Floats
    written: Bools


class Gaps(NamedTuple):
    """Between a use and the next one of the same tensor: indices of both uses.

    `wraps`: from the last use of a variable to its first one in the next step. `write` is the last use before
    the gap that writes the tensor, or -1; `begin` is the position from which on the gap's migrations can run.
    """

    before: Ints
    after: Ints
    wraps: Bools
    write: Ints
    begin: Ints


def collect_uses(profile: Profile, costs: Costs, *, with_writes: bool, whole: bool = False) -> Uses:
    """Merge the uses of a tensor at a position, and drop those that save nothing; keep writes if asked.

    With `whole`, tensors that save something keep all uses, and are used once more when they die.
    """
    u, n, tensors = profile.uses, len(profile.ops), profile.tensors
    inside = classify(profile)[u.tensor] != OUTSIDE
    keys, inverse = np.unique(u.tensor[inside] * n + u.position[inside], return_inverse=True)
    saved_ns: Floats = np.bincount(inverse, weights=costs.saved_ns[inside], minlength=len(keys)).astype(
        np.float64
    )
    born = u.position == tensors.birth[u.tensor]
    writes = (u.writes > 0) | born
    written = np.bincount(inverse, weights=writes[inside], minlength=len(keys)) > 0
    saves = np.bincount(keys // n, weights=saved_ns > 0, minlength=len(tensors)) > 0
    kept = (saved_ns > 0) | (saves[keys // n] & (whole | (written & with_writes)))
    keys, saved_ns, written = keys[kept], np.maximum(saved_ns[kept], 0.0), written[kept]
    if whole:  # it occupies memory until it dies
        dying = np.flatnonzero(saves & (tensors.birth >= 0))
        keys = np.concatenate((keys, np.setdiff1d(dying * n + np.minimum(tensors.death[dying], n) - 1, keys)))
        order, added = np.argsort(keys), len(keys) - len(saved_ns)
        saved_ns = np.append(saved_ns, np.zeros(added))[order]
        written, keys = np.append(written, np.zeros(added, dtype=bool))[order], keys[order]
    return Uses(keys // n, keys % n, saved_ns, written)


def collect_gaps(profile: Profile, uses: Uses, *, eager: bool) -> Gaps:
    """Return the gaps between uses; those that wrap come last. With `eager`, reads go on during copies."""
    starts = np.diff(uses.tensor, prepend=-1) != 0
    first = np.flatnonzero(starts)
    last = np.append(first[1:], len(starts)) - 1 if len(first) else first
    within = np.flatnonzero(~starts) - 1
    variable = profile.tensors.birth[uses.tensor[first]] < 0
    wraps = np.repeat([False, True], [len(within), int(variable.sum())])
    before = np.concatenate((within, last[variable]))
    after = np.concatenate((within + 1, first[variable]))
    index = np.arange(len(starts))
    write = np.maximum.accumulate(np.where(uses.written, index, -1))
    first_of = np.maximum.accumulate(np.where(starts, index, 0))
    write = np.where(write >= first_of, write, -1)[before]
    begin = uses.position[before]
    if eager:
        of_variable = profile.tensors.birth[uses.tensor[before]] < 0
        write = np.where(of_variable, -1, write)
        birth = np.maximum(profile.tensors.birth[uses.tensor[before]], 0)
        since = np.where(write >= 0, uses.position[write], birth)
        begin = np.where(of_variable, begin, since)
    return Gaps(before, after, wraps, write, begin)


def stretch_edges(costs: Costs) -> Ints:
    """Return the first position of each stretch, and the number of positions."""
    clock = np.concatenate(([0.0], np.cumsum(costs.op_ns)))
    edges = np.searchsorted(clock, np.linspace(0, clock[-1], STRETCHES + 1))
    edges[0], edges[-1] = 0, len(costs.op_ns)
    return np.unique(edges)


def runs(count: int) -> Iterator[tuple[int, int]]:
    """Yield runs of stretches, first and last + 1: lengths are powers of two, neighbours overlap by half."""
    length = 1
    while length < count:
        for first in range(0, count - length + 1, max(1, length // 2)):
            yield first, first + length
        length *= 2
    yield 0, count
