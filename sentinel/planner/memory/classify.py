# SPDX-License-Identifier: Apache-2.0
"""Short-lived, long-lived, variables and the rest (paper, III-B and IV-A), and what memory the step has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..formats.profile import SCRATCH, VARIABLE, Profile

if TYPE_CHECKING:
    from ..formats.fields import Ints

CLASSES = ("short", "long", "variable", "outside")
SHORT, LONG, VARIABLES, OUTSIDE = range(4)


def classes(profile: Profile) -> Ints:
    """The class of each tensor, an index into `CLASSES`.

    Short-lived is born and dead within one layer. `OUTSIDE` is what has no bytes, what another thread than
    the operation's allocated (it has no key), variables below a page (they share theirs), and tensors that a
    plan cannot promise a place to: they are from before the step and no variables, or nobody saw them die in
    it and the next step may find them there.
    """
    t = profile.tensors
    layer, n = profile.ops.layer, len(profile.ops)
    placed = (t.size > 0) & (t.thread == 0)
    in_step = placed & (t.birth >= 0) & ((t.death < n) | (t.kind == SCRATCH))
    one_layer = layer[np.maximum(t.birth, 0)] == layer[np.maximum(t.death - 1, 0)]
    variable = placed & (t.kind == VARIABLE) & (t.size >= profile.page)
    return np.where(
        variable, VARIABLES, np.where(~in_step, OUTSIDE, np.where(one_layer, SHORT, LONG))
    ).astype(np.int64)


def layer_sets(profile: Profile, chosen: Ints) -> list[bytes]:
    """The layers that each of the tensors `chosen` (ascending indices) is born and used in, as a key."""
    t, u = profile.tensors, profile.uses
    numbers, layer = np.unique(profile.ops.layer, return_inverse=True)  # there may be gaps
    place = np.full(len(t), -1, dtype=np.int64)
    place[chosen] = np.arange(len(chosen))
    used = place[u.tensor] >= 0
    who = np.concatenate((place[u.tensor[used]], np.arange(len(chosen))))
    layers = np.concatenate((layer[u.position[used]], layer[np.maximum(t.birth[chosen], 0)]))
    width = len(numbers)
    pairs = np.unique(who * width + layers)
    ends = np.searchsorted(pairs // width, np.arange(len(chosen) + 1)).tolist()
    layers = numbers[pairs % width]
    return [layers[a:b].tobytes() for a, b in zip(ends, ends[1:])]


def live_bytes(profile: Profile, weights: Ints) -> Ints:
    """The sum of `weights` of the tensors that live at each position, from 0 to n - 1."""
    t, n = profile.tensors, len(profile.ops)
    change = np.zeros(n + 1, dtype=np.int64)
    np.add.at(change, np.maximum(t.birth, 0), weights)
    np.add.at(change, t.death, -weights)
    return np.cumsum(change)[:-1]


def peak(profile: Profile) -> int:
    """The most bytes that live at once, variables included: what shares of memory are shares of."""
    return int(live_bytes(profile, profile.tensors.bytes).max())


def counts(profile: Profile) -> dict[str, int]:
    """How many tensors there are of each class."""
    found = np.bincount(classes(profile), minlength=len(CLASSES)).tolist()
    return dict(zip(CLASSES, found))
