# SPDX-License-Identifier: Apache-2.0
"""Compare what the planner predicts from each source of costs with the replayed step.

    PYTHONPATH=. python benchmarks/cost_sources.py traces/*.npz

The sources: a trace (exact costs), two profiled steps (in slow and in fast memory), one profiled step with
the measured time of a step in fast memory. From each, the best plan without migration is made for each
budget, and replayed. Prints the error of the predicted step.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from experiments.profiles import figures_of
from experiments.replays import Replays
from sentinel.planner.errors import BudgetError
from sentinel.planner.formats.profile import Profile
from sentinel.planner.search import make_plan
from sentinel.replay import trace as traces
from testbed.common.errors import UsageError
from testbed.timing import preset

BUDGETS = (0.1, 0.2, 0.4, 0.6)  # of the peak
WITHOUT_MIGRATION = 1.0  # minimum gain that no migration has
LINE = "{:16} {:14} {:>8} {:>8} {:>8} {:>8} {:>10}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("trace", type=Path, nargs="+")
    parser.add_argument("--preset", default="optane-6dimm")
    options = parser.parse_args()
    memory = preset.load(options.preset)
    print(LINE.format("model", "source", *(f"{budget:.0%}" for budget in BUDGETS), "worst"))
    for path in options.trace:
        player = Replays(traces.read(path), path, memory)
        try:
            sources = list(_sources(player.costs.profile))
        except UsageError as e:
            print(f"{path}: {e}")
            continue
        for name, profile in sources:
            errors = [_error(player, profile, budget) for budget in BUDGETS]
            known = [abs(error) for error in errors if error is not None]
            shown = ("-" if error is None else f"{error:+.1%}" for error in errors)
            print(
                LINE.format(player.trace.name, name, *shown, f"{max(known):.1%}" if known else "-"),
                flush=True,
            )


def _sources(exact: Profile) -> Iterator[tuple[str, Profile]]:
    """The profile as each source knows it."""
    estimated = replace(exact, uses=replace(exact.uses, saved_ns=None))
    yield "trace", exact
    yield "two steps", estimated
    yield "one step", replace(estimated, ops=replace(estimated.ops, fast_ns=None))


def _error(player: Replays, profile: Profile, share: float) -> float | None:
    """The predicted step by the replayed one, minus 1, or None below the floor."""
    try:
        plan = make_plan(
            profile,
            int(share * player.peak),
            figures_of(player.preset),
            fast_step_ns=player.costs.fast.step_ns,
            spill=True,
            min_gain=WITHOUT_MIGRATION,
        )
    except BudgetError:
        return None
    replayed = player.run_plan("", plan).replayed
    return float(plan.predicted["step_ns"]) / replayed.step_ns - 1


if __name__ == "__main__":
    main()
