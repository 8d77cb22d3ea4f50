# SPDX-License-Identifier: Apache-2.0
"""Compare methods for the interval of a ratio of step times, by simulation.

    PYTHONPATH=. python benchmarks/intervals.py --pairs 4000

Repeats differ by 1 % (standard deviation), steps within a repeat by 0.5 %. For each method, noise and number
of repeats it prints

- coverage: how often the 95 % interval contains the true ratio;
- alarms: how often two equal sides differ, by the interval and by at least 2 %;
- found: how often a slowdown of 5 % is.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from results import intervals, stats
from results.intervals import Spread

BETWEEN, WITHIN, STEPS = 0.01, 0.005, 5
MIN_EFFECT, SLOWDOWN = 1.02, 1.05

Side = list[list[float]]
Interval = tuple[float, float]
Method = Callable[[Side, Side], Interval]
Noise = Callable[[np.random.Generator, int], npt.NDArray[np.float64]]

NOISES: dict[str, tuple[Noise, float]] = {  # of standard deviation 1, and the factor of side B's spread
    "normal": (lambda rng, n: rng.standard_normal(n), 1.0),
    "normal, B spreads 3 times as much": (lambda rng, n: rng.standard_normal(n), 3.0),
    "heavy tails (t, 3 degrees)": (lambda rng, n: rng.standard_t(3, n) / math.sqrt(3), 1.0),
    "skewed (exponential)": (lambda rng, n: rng.exponential(1.0, n) - 1, 1.0),
}


def welch(a: Side, b: Side) -> Interval:
    """The method of `sentinel compare`."""
    return _interval(intervals.difference(_logs(a), _logs(b)))


def known_spread(a: Side, b: Side) -> Interval:
    """The same with the spread known from 20 repeats; here it is the true one."""
    return _interval(
        intervals.difference(_logs(a), _logs(b), Spread(math.hypot(BETWEEN, WITHIN / math.sqrt(STEPS)), 19))
    )


def equal_spreads(a: Side, b: Side) -> Interval:
    """Student's interval, which assumes equal spreads."""
    x, y = _logs(a), _logs(b)
    freedom = len(x) + len(y) - 2
    variance = (np.var(x) * len(x) + np.var(y) * len(y)) / freedom
    half = intervals.quantile(0.975, freedom) * math.sqrt(variance * (1 / len(x) + 1 / len(y)))
    centre = float(np.mean(y) - np.mean(x))
    return math.exp(centre - half), math.exp(centre + half)


def bootstrap(a: Side, b: Side) -> Interval:
    """Percentile bootstrap over repeats and then steps, of medians of medians."""
    rng = np.random.default_rng(1)
    ratios = _resampled(b, rng) / _resampled(a, rng)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return float(low), float(high)


def steps_as_repeats(a: Side, b: Side) -> Interval:
    """Welch's interval with every step as if it were independent."""
    return welch([[step] for repeat in a for step in repeat], [[step] for repeat in b for step in repeat])


METHODS: tuple[Method, ...] = (welch, known_spread, equal_spreads, bootstrap, steps_as_repeats)


def _resampled(side: Side, rng: np.random.Generator, draws: int = 500) -> npt.NDArray[np.float64]:
    data = np.asarray(side)
    repeats = rng.integers(0, len(data), (draws, len(data), 1))
    steps = rng.integers(0, data.shape[1], (draws, len(data), data.shape[1]))
    centres: npt.NDArray[np.float64] = np.median(np.median(data[repeats, steps], axis=2), axis=1)
    return centres


def _interval(estimate: intervals.Estimate) -> Interval:
    return estimate.interval() or (0.0, math.inf)


def _logs(side: Side) -> list[float]:
    return intervals.logs(stats.figures(side))


def make_side(rng: np.random.Generator, repeats: int, noise: Noise, spread: float, factor: float) -> Side:
    """Return the step times of repeats."""
    offsets = noise(rng, repeats) * BETWEEN * spread
    return [
        [factor * math.exp(offset + WITHIN * float(e)) for e in rng.standard_normal(STEPS)]
        for offset in offsets
    ]


def rates(method: Method, noise: Noise, spread: float, repeats: int, pairs: int, seed: int) -> list[float]:
    """Return coverage, false alarms and slowdowns found, each as a share of the pairs."""
    rng = np.random.default_rng(seed)
    covered = alarms = found = 0
    for _ in range(pairs):
        a, b = (make_side(rng, repeats, noise, factor, 1.0) for factor in (1.0, spread))
        low, high = method(a, b)
        covered += low <= 1 <= high
        ratio = math.exp(float(np.mean(_logs(b)) - np.mean(_logs(a))))
        alarms += not low <= 1 <= high and not 1 / MIN_EFFECT <= ratio <= MIN_EFFECT
        found += low * SLOWDOWN > 1 and ratio * SLOWDOWN > MIN_EFFECT
    return [count / pairs for count in (covered, alarms, found)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--pairs", type=int, default=2000, help="simulated pairs of each kind")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    for name, (noise, spread) in NOISES.items():
        print(f"\n{name}\n{'method':18} {'repeats':>7} {'coverage':>9} {'alarms':>9} {'found':>9}")
        for method in METHODS:
            for repeats in (2, 3, 5, 10):
                shares = rates(method, noise, spread, repeats, options.pairs, options.seed)
                columns = " ".join(f"{share:9.1%}" for share in shares)
                print(f"{method.__name__:18} {repeats:7} {columns}", flush=True)


if __name__ == "__main__":
    main()
