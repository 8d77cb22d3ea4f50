# SPDX-License-Identifier: Apache-2.0
"""An estimate of a run's remaining time."""

from __future__ import annotations

import time
from collections.abc import Callable


class Estimate:
    """Estimates the remaining time from training steps, which dominate a repeat.

    The overhead of a repeat (restore, session, end) counts as two steps. Only the time between `begin` and
    `finish` counts, so that creating a snapshot does not distort the estimate.
    """

    OVERHEAD_STEPS = 2

    def __init__(self, repeats: int, steps: int, *, now: Callable[[], float] = time.monotonic) -> None:
        self._per_repeat = steps + self.OVERHEAD_STEPS
        self._total = repeats * self._per_repeat
        self._now = now
        self._repeats = 0
        self._steps = 0
        self._seconds = 0.0
        self._begun: float | None = None

    def begin(self) -> None:
        """A repeat begins."""
        self._begun = self._now()

    def step_done(self) -> None:
        """A step of the current repeat has ended."""
        self._steps += 1

    def finish(self, repeats: int = 1, *, seconds: float | None = None) -> None:
        """The current repeat has ended, and further ones are skipped if `repeats` is more than 1.

        `seconds` is its duration, if `begin` was not called.
        """
        self._seconds += seconds or 0.0
        if self._begun is not None:
            self._seconds += self._now() - self._begun
        self._begun = None
        self._repeats += repeats
        self._steps = 0

    @property
    def fraction(self) -> float:
        """The finished share of the work, 0 to 1."""
        done = self._repeats * self._per_repeat + min(self._steps, self._per_repeat)
        return min(1.0, done / self._total) if self._total else 1.0

    def remaining(self, *, workers: int = 1) -> str:
        """The remaining time in words, such as `about 3 min left`, if so many workers share the work."""
        spent = self._seconds + (self._now() - self._begun if self._begun is not None else 0.0)
        if not self.fraction or not spent:
            return "estimating"
        seconds = spent / self.fraction * (1 - self.fraction) / workers
        return f"about {seconds:.0f} s left" if seconds < 90 else f"about {seconds / 60:.0f} min left"
