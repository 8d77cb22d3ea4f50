# SPDX-License-Identifier: Apache-2.0
"""How much counters vary between repeats of a cell, and how often a gate would take that for a change.

    python benchmarks/repeat_counters.py RUN...

For each cell with several repeats: the mean of each counter per measured step, the standard deviation between
repeats, and the difference of the largest and the smallest. Then the false alarms of `results.counters`
when single repeats, and pairs of repeats, are compared with each other.
"""

from __future__ import annotations

import itertools
import statistics
import sys
from collections.abc import Sequence

from results import gate
from results.counters import COUNTERS, Counter, per_step
from results.labels import Axes
from results.runs import Run


def cells(paths: Sequence[str]) -> dict[str, list[dict[str, float]]]:
    """Return the counters of each repeat, by run and cell."""
    found = {}
    for path in paths:
        run = Run.load(path)
        axes = Axes.of(cell.resolved for cell in run.cells)
        for cell in run.cells:
            if len(cell.repeats) > 1:
                found[f"{run.info.suite}: {axes.label(cell.resolved)}"] = [*map(per_step, cell.repeats)]
    return found


def alarms(counter: Counter, values: Sequence[float], repeats: int) -> tuple[int, int]:
    """Return how many pairs of equal sides a counter tells apart, and their number."""
    found = count = 0
    for before in itertools.combinations(range(len(values)), repeats):
        others = [n for n in range(len(values)) if n not in before]
        for after in itertools.combinations(others, repeats):
            count += 1
            found += gate.change(counter, [values[n] for n in before], [values[n] for n in after]) != "same"
    return found, count


def main() -> None:
    measured = cells(sys.argv[1:])
    for label, repeats in measured.items():
        print(f"{label} ({len(repeats)} repeats)")
        for counter in COUNTERS:
            values = [one[counter.name] for one in repeats if counter.name in one]
            if len(values) > 1:
                mean, sd = statistics.mean(values), statistics.stdev(values)
                share = f"{sd / mean:8.2%}" if mean else "       -"
                spread = max(values) - min(values)
                print(f"  {counter.name:16}{mean:14.1f}  sd {sd:10.1f} {share}  range {spread:10.1f}")
    for repeats_a_side in (1, 2):
        for counter in COUNTERS:
            total = count = 0
            for repeats in measured.values():
                values = [one[counter.name] for one in repeats if counter.name in one]
                found, compared = alarms(counter, values, repeats_a_side)
                total, count = total + found, count + compared
            print(f"{repeats_a_side} a side, {counter.name}: {total} of {count} pairs differ")


if __name__ == "__main__":
    main()
