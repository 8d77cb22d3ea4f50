# SPDX-License-Identifier: Apache-2.0
"""The truth check: how often equal sides are called different, and how much repeats spread.

The repeats of each cell are split at random into two sides of equal size, again and again. Both sides are of
the same thing, so every `faster` or `slower` is a false alarm.
"""

from __future__ import annotations

import datetime
import random
from collections.abc import Sequence
from dataclasses import dataclass

from results import intervals, repeatability, verdicts
from results.intervals import Spread
from results.labels import Axes
from results.repeatability import Repeatability
from results.sides import Side, SideCell
from results.stats import Clock
from results.verdicts import Case
from testbed.common.errors import UsageError

SEED = 20210227
LEAST = 2 * verdicts.LEAST_REPEATS


@dataclass(frozen=True)
class Cell:
    """The truth check of a cell. `spread` is that of all its repeats, of which each side has `repeats`."""

    cell: SideCell
    label: str
    clock: Clock
    spread: Spread
    repeats: int
    false_alarms: int
    same: int


@dataclass(frozen=True)
class TruthCheck:
    """The truth check of a side: comparisons of all cells at once, and those with any false alarm."""

    pairs: int
    false_alarms: int
    cells: list[Cell]
    skipped: list[str]

    @property
    def rate(self) -> float:
        """The share of comparisons with a false alarm."""
        return self.false_alarms / self.pairs


def check(
    side: Side, *, pairs: int = 1000, min_effect: float = verdicts.MIN_EFFECT, seed: int = SEED
) -> TruthCheck:
    """Split the repeats of each cell `pairs` times, and judge the halves.

    Cells with fewer than `LEAST` repeats are skipped. Raises `UsageError` if that leaves none.
    """
    axes = Axes.of(cell.resolved for cell in side.cells)
    usable: list[tuple[SideCell, str, list[float]]] = []
    skipped = []
    for cell in side.cells:
        logs = intervals.logs(cell.times(cell.clock))
        label = axes.label(cell.resolved)
        if len(logs) < LEAST:
            skipped.append(f"{label}: {len(logs)} repeats")
        else:
            usable.append((cell, label, logs))
    if not usable:
        raise UsageError(
            f"{side.title}: no cell has {LEAST} repeats, three for each side",
            hint="raise `repeats`, or name several runs of the suite",
        )
    rng = random.Random(seed)  # noqa: S311
    alarms, same, any_alarm = [0] * len(usable), [0] * len(usable), 0
    for _ in range(pairs):
        found = verdicts.words([_split(logs, rng) for _, _, logs in usable], min_effect=min_effect)
        different = [word in ("faster", "slower") for word in found]
        any_alarm += any(different)
        for n, word in enumerate(found):
            alarms[n] += different[n]
            same[n] += word == "same"
    cells = [
        Cell(
            cell=cell,
            label=label,
            clock=cell.clock,
            spread=intervals.pooled([logs]) or Spread(0.0, 1),
            repeats=len(logs) // 2,
            false_alarms=alarms[n],
            same=same[n],
        )
        for n, (cell, label, logs) in enumerate(usable)
    ]
    return TruthCheck(pairs, any_alarm, cells, skipped)


def to_store(result: TruthCheck) -> list[Repeatability]:
    """Return the spread of each cell's kind, to store for later comparisons."""
    now = datetime.datetime.now(datetime.UTC)
    return [
        Repeatability(
            kind=repeatability.kind(cell.cell, cell.clock),
            label=cell.label,
            clock=cell.clock,
            sd=cell.spread.sd,
            freedom=cell.spread.freedom,
            pairs=result.pairs,
            false_alarms=cell.false_alarms,
            created=now,
        )
        for cell in result.cells
    ]


def _split(logs: Sequence[float], rng: random.Random) -> Case:
    half = len(logs) // 2
    drawn = rng.sample(logs, 2 * half)
    return Case(intervals.difference(drawn[:half], drawn[half:]), half)
