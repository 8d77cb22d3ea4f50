# SPDX-License-Identifier: Apache-2.0
"""Classes of tensors by lifetime (paper, III-B and IV-A), and the memory of a step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..formats.profile import SCRATCH, VARIABLE, Profile

if TYPE_CHECKING:
    from ..formats.fields import Ints

CLASSES = ("short", "long", "variable", "outside")
SHORT, LONG, VARIABLES, OUTSIDE = range(4)
RESIDENT = len(CLASSES)  # in problems: a variable whose node is given, and which never migrates


def classify(profile: Profile) -> Ints:
    """Return the class of each tensor, an index into `CLASSES`.

    A tensor is short-lived if it is born and dead within one layer. A plan leaves out the class `OUTSIDE`:

    - empty tensors;
    - tensors that another thread than the operation's allocated: they have no key;
    - variables smaller than a page: they share their page;
    - fed tensors, and tensors not freed within the step: the next step may find them at their address.
    """
    t = profile.tensors
    layer, n = profile.ops.layer, len(profile.ops)
    has_key = (t.size > 0) & (t.thread == 0)
    within_step = has_key & (t.birth >= 0) & ((t.death < n) | (t.kind == SCRATCH))
    within_layer = layer[np.maximum(t.birth, 0)] == layer[np.maximum(t.death - 1, 0)]
    variable = has_key & (t.kind == VARIABLE) & (t.size >= profile.page_bytes)
    return np.where(
        variable, VARIABLES, np.where(~within_step, OUTSIDE, np.where(within_layer, SHORT, LONG))
    ).astype(np.int64)


def layer_sets(profile: Profile, tensors: Ints) -> list[bytes]:
    """Return for each of `tensors` (ascending indices) a key for the set of layers of its birth and uses."""
    t, u = profile.tensors, profile.uses
    layer_numbers, layer = np.unique(profile.ops.layer, return_inverse=True)  # numbers may have gaps
    row = np.full(len(t), -1, dtype=np.int64)
    row[tensors] = np.arange(len(tensors))
    used = row[u.tensor] >= 0
    rows = np.concatenate((row[u.tensor[used]], np.arange(len(tensors))))
    layers = np.concatenate((layer[u.position[used]], layer[np.maximum(t.birth[tensors], 0)]))
    width = len(layer_numbers)
    pairs = np.unique(rows * width + layers)
    ends = np.searchsorted(pairs // width, np.arange(len(tensors) + 1)).tolist()
    layers = layer_numbers[pairs % width]
    return [layers[a:b].tobytes() for a, b in zip(ends, ends[1:])]


def live_bytes(profile: Profile, weights: Ints) -> Ints:
    """Return for each position the sum of `weights` over the tensors that live there."""
    t, n = profile.tensors, len(profile.ops)
    change = np.zeros(n + 1, dtype=np.int64)
    np.add.at(change, np.maximum(t.birth, 0), weights)
    np.add.at(change, t.death, -weights)
    return np.cumsum(change)[:-1]


def peak(profile: Profile) -> int:
    """Return the peak in bytes: the most touched bytes that live at one time, variables included."""
    return int(live_bytes(profile, profile.tensors.resident_bytes).max())
