# SPDX-License-Identifier: Apache-2.0
"""Times of operations in fast memory, from a second profile."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .errors import PlannerError
from .formats.profile import Profile


def with_fast_times(profile: Profile, fast: Profile) -> Profile:
    """Return `profile` with the times of `fast`, a profile of the same step with all tensors in fast memory.

    Raises PlannerError if it is one of another graph.
    """
    if fast.graph != profile.graph:
        raise PlannerError("the profile in fast memory is one of another graph")
    by_key = dict(zip(zip(fast.ops.name, fast.ops.occurrence.tolist()), fast.ops.slot_ns.tolist()))
    keys = zip(profile.ops.name, profile.ops.occurrence.tolist())
    fast_ns = np.array([by_key.get(key, -1) for key in keys], dtype=np.int64)
    return replace(profile, ops=replace(profile.ops, fast_ns=fast_ns))
