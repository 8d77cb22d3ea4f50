# SPDX-License-Identifier: Apache-2.0
"""Promotions into the room that there is, and demotions that make more of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from sentinel.replay.paging import Indices, Pages


def exchange(pages: Pages, hot: Indices, cold: Indices, *, spare: int = 0) -> Indices:
    """Return the pages to migrate: as many of the hot ones as fit, and the cold ones that leave for them.

    `hot` pages are on node 1, `cold` pages on node 0, in order. The moves leave `spare` pages free.
    """
    promoted = hot[: max(0, pages.free + len(cold) - spare)]
    demoted = cold[: max(0, len(promoted) + spare - pages.free)]
    return np.concatenate([promoted, demoted])
