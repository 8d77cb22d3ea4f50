# SPDX-License-Identifier: Apache-2.0
"""What the linear program of the bound migrates in the gaps between uses, in terms of its variables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from sentinel.planner.formats.figures import Figures
from sentinel.planner.formats.profile import Profile
from sentinel.planner.memory.arena import MIN_OWN_PAGES, max_piece_pages
from sentinel.planner.timing.cores import copy_ns_of

from .tables import Gaps, Uses

if TYPE_CHECKING:
    from sentinel.planner.formats.fields import Floats, Ints

Row = tuple["Ints", "Floats"]  # columns and their values


class Migrations:
    """Columns and weights of migrations. `variable` and `piece_bytes`, the size of its units, are by use.

    The program's columns are y by use, k by gap, with frames c by gap. `size` is in bytes, by use.
    """

    def __init__(
        self,
        profile: Profile,
        uses: Uses,
        gaps: Gaps,
        size: Floats,
        budget: int,
        figures: Figures,
        *,
        frames: bool,
    ) -> None:
        self._uses, self._gaps, self._bytes = uses, gaps, size
        self._figures, self._frames = figures, frames
        page_ns = [figures.migration_ns(to, profile.page_bytes) / profile.page_bytes for to in (0, 1)]
        self.variable = variable = profile.tensors.birth[uses.tensor] < 0
        # of one core, to a node, by use
        self._byte_ns = [np.full(len(variable), ns) for ns in page_ns]
        if frames:
            self._byte_ns = [
                np.where(variable, ns, copy_ns_of(figures, to)) for to, ns in enumerate(self._byte_ns)
            ]
        pages = max_piece_pages(budget, profile.page_bytes, int(profile.pages.sum()))
        least = np.maximum(size, MIN_OWN_PAGES * profile.page_bytes)
        self.piece_bytes = np.minimum(least, pages * profile.page_bytes)

    def copies(self) -> Iterator[Row]:
        """Yield rows for c, what has been copied since the last write: at least what has left since then."""
        if not self._frames:
            return
        uses, gaps = len(self._uses.tensor), len(self._gaps.before)
        write = self._gaps.write.tolist()
        for gap in np.flatnonzero(self._gaps.write >= 0).tolist():
            c = uses + gaps + gap
            yield np.array([write[gap], uses + gap, c]), np.array([1.0, -1.0, -1.0])
            if gap and write[gap - 1] == write[gap]:
                yield np.array([c - 1, c]), np.array([1.0, -1.0])

    def limits(self) -> Iterator[tuple[float, tuple[Floats | None, Floats | None]]]:
        """Yield how many times the time of a run limits the time to move, by destination and use."""
        up, down = self._byte_ns
        if not self._frames and self._figures.migration_cores > 1:
            yield from ((1.0, (up, None)), (1.0, (None, down)))  # a thread for each direction
            return
        yield (float(self._figures.migration_cores) if self._frames else 1.0), (up, down)
        if self._frames:  # the nodes' bandwidth, by direction
            fast, slow = self._figures.nodes
            ones = np.ones(len(up))
            yield 1.0, (ones / min(slow.read_bandwidth, fast.write_bandwidth), None)
            yield 1.0, (None, ones / min(fast.read_bandwidth, slow.write_bandwidth))

    def remapped(self, gap: Ints, to: int, us_per_byte: Floats) -> Iterator[Row]:
        """Yield columns and weights of what arrives at node `to` in the gaps, copied or not."""
        us = self._bytes[self._gaps.before] * us_per_byte
        yield (self._gaps.after if to == 0 else self._gaps.before)[gap], us[gap]
        yield len(self._uses.tensor) + gap, -us[gap]

    def moved(self, gap: Ints, to: int, us_per_byte: Floats) -> Iterator[Row]:
        """Yield columns and weights of what is moved to node `to` in the gaps."""
        uses, gaps = len(self._uses.tensor), len(self._gaps.before)
        before, after, _, write, _ = self._gaps
        us = self._bytes[before] * us_per_byte
        if to == 0:
            yield after[gap], us[gap]
            yield uses + gap, -us[gap]
            return
        eager = np.zeros(gaps, dtype=bool) if not self._frames else ~self.variable[before]
        plain = gap[~eager[gap]]
        yield before[plain], us[plain]
        yield uses + plain, -us[plain]
        copied = gap[eager[gap] & (write[gap] >= 0)]
        last = np.diff(write[copied], append=-1) != 0  # of those after the same write
        yield uses + gaps + copied[last], us[copied[last]]
