# SPDX-License-Identifier: Apache-2.0
"""How far the order of operations may differ from the profiled one.

TensorFlow runs an operation some time after its inputs are there. Most run at once, so that their order
hardly varies. One whose inputs were there long before *floats*: in another step it may run at any time
between its inputs and the first operation that uses its result. The gradients of a weight decay, which need
only variables, run before, during or after the forward pass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..formats.profile import Profile

if TYPE_CHECKING:
    from ..formats.fields import Bools, Ints

PUNCTUAL = 32  # positions that an operation may begin after its inputs are there without floating


class Births(NamedTuple):
    """By tensor: the first position at which it may be born, and the first at which it surely has been.

    `floats`: whether they differ, since its operation floats.
    """

    earliest: Ints
    ready: Ints
    floats: Bools


def births(profile: Profile) -> Births:
    """Return when tensors may be born: where they were in the profile, unless their operation floats."""
    u, t, n = profile.uses, profile.tensors, len(profile.ops)
    birth, written = t.birth[u.tensor], _written(profile)
    inputs_at = np.zeros(n, dtype=np.int64)  # by operation: all its inputs are there
    reads = (u.reads > 0) & (written >= 0) & (written < u.position)
    np.maximum.at(inputs_at, u.position[reads], written[reads] + 1)
    first_use = t.death.copy()
    later = u.position > birth
    np.minimum.at(first_use, u.tensor[later], u.position[later])
    born = np.maximum(t.birth, 0)
    floats = (t.birth >= 0) & (born - inputs_at[born] > PUNCTUAL)
    return Births(
        earliest=np.where(floats, inputs_at[born], born),
        ready=np.where(floats, first_use, t.birth + 1),
        floats=floats,
    )


def _written(profile: Profile) -> Ints:
    """Return for each use the position of the last operation before it that wrote the tensor."""
    u = profile.uses
    rows = np.arange(len(u.tensor))
    first = np.searchsorted(u.tensor, u.tensor)  # rows are in order of tensors, then positions
    last_write = np.maximum.accumulate(np.where(u.writes > 0, rows, -1))
    before = np.concatenate(([-1], last_write))[: len(rows)]
    return np.where(before >= first, u.position[before], profile.tensors.birth[u.tensor])
