# SPDX-License-Identifier: Apache-2.0
"""Migration intervals: so many layers each (paper, IV-C)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..formats.profile import Profile

if TYPE_CHECKING:
    from ..formats.fields import Ints


def layer_starts(profile: Profile) -> Ints:
    """The positions at which layers begin, from 0."""
    return np.concatenate(([0], np.flatnonzero(np.diff(profile.ops.layer)) + 1)).astype(np.int64)


def starts(profile: Profile, layers: int) -> Ints:
    """The positions at which intervals of `layers` layers begin; the last interval may have fewer."""
    return layer_starts(profile)[::layers]


def candidates(profile: Profile, count: int) -> list[int]:
    """The numbers of layers to try: all of them, or at most `count`, spread over a scale of ratios."""
    most = len(layer_starts(profile))
    tried = np.geomspace(1, most, count) if most > count else np.arange(1, most + 1)
    return [int(layers) for layers in np.unique(np.rint(tried))]
