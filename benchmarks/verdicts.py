# SPDX-License-Identifier: Apache-2.0
"""Show how often verdicts are right, by simulated comparisons.

    PYTHONPATH=. python benchmarks/verdicts.py --comparisons 1000

Repeats differ by 1 % (standard deviation), steps within a repeat by 0.5 %; each repeat has 5 steps. For each
number of cells and repeats, without and with a spread that 20 repeats had shown, it prints

- false alarms: comparisons of equal sides in which any cell is `faster` or `slower`;
- called same: cells of equal sides that are the `same`;
- found: comparisons with one cell slower by 5 % in which it is `slower`.
"""

from __future__ import annotations

import argparse
import math

import numpy as np

from results import intervals
from results.intervals import Spread
from results.verdicts import Case, Verdict, decide

BETWEEN, WITHIN, STEPS = 0.01, 0.005, 5


def compare(rng: np.random.Generator, cells: int, repeats: int, known: bool, factor: float) -> list[Verdict]:
    """Return the verdicts on cells of which the first is slower by a factor."""
    cases = []
    for cell in range(cells):
        noise = rng.normal(0, BETWEEN, (2, repeats, 1)) + rng.normal(0, WITHIN, (2, repeats, STEPS))
        a, b = np.median(noise, axis=2).tolist()
        if cell == 0:
            b = [x + math.log(factor) for x in b]
        spread = _measured_spread(rng) if known else intervals.pooled([a, b])
        if known and spread is not None and intervals.disagrees(a, b, spread):
            spread = None
        estimate = intervals.difference(a, b, spread if known else None)
        cases.append(Case(estimate, repeats, spread, known=known and spread is not None))
    return decide(cases)


def _measured_spread(rng: np.random.Generator) -> Spread:
    """Return the spread that 20 repeats show."""
    noise = rng.normal(0, BETWEEN, (20, 1)) + rng.normal(0, WITHIN, (20, STEPS))
    spread = intervals.pooled([np.median(noise, axis=1).tolist()])
    assert spread is not None
    return spread


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--comparisons", type=int, default=1000, help="simulated comparisons of each kind")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print(f"{'cells':>5} {'repeats':>7} {'spread':>7} {'false alarms':>13} {'called same':>12} {'found':>7}")
    for cells in (1, 4, 12):
        for repeats, known in ((1, True), (3, False), (3, True), (5, False), (5, True), (10, False)):
            rng = np.random.default_rng(options.seed)
            equal = [compare(rng, cells, repeats, known, 1.0) for _ in range(options.comparisons)]
            slower = [compare(rng, cells, repeats, known, 1.05) for _ in range(options.comparisons)]
            alarms = sum(any(v.word in ("faster", "slower") for v in verdicts) for verdicts in equal)
            same = sum(v.word == "same" for verdicts in equal for v in verdicts) / cells
            found = sum(verdicts[0].word == "slower" for verdicts in slower)
            shares = [count / options.comparisons for count in (alarms, same, found)]
            print(
                f"{cells:5} {repeats:7} {'known' if known else '':>7} "
                f"{shares[0]:13.1%} {shares[1]:12.1%} {shares[2]:7.1%}",
                flush=True,
            )


if __name__ == "__main__":
    main()
