# SPDX-License-Identifier: Apache-2.0
"""Migration intervals: a fixed number of consecutive layers each (paper, IV-C)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..formats.profile import Profile

if TYPE_CHECKING:
    from ..formats.fields import Ints


def layer_starts(profile: Profile) -> Ints:
    """Return the positions at which layers begin."""
    return np.concatenate(([0], np.flatnonzero(np.diff(profile.ops.layer)) + 1)).astype(np.int64)


def interval_starts(profile: Profile, layers: int) -> Ints:
    """Return the positions at which intervals of `layers` layers begin. The last interval may be shorter."""
    return layer_starts(profile)[::layers]


def interval_lengths(profile: Profile, count: int) -> list[int]:
    """Return the interval lengths to try, in layers: all of them, or at most `count` on a geometric scale."""
    longest = len(layer_starts(profile))
    lengths = np.geomspace(1, longest, count) if longest > count else np.arange(1, longest + 1)
    return [int(layers) for layers in np.unique(np.rint(lengths))]
