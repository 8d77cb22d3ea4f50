# SPDX-License-Identifier: Apache-2.0
"""Compare replayed steps with emulated ones: the cells of a run, replayed from a trace of their model.

    PYTHONPATH=. python benchmarks/replay.py traces/lstm-ptb.npz runs/ci --model lstm-ptb

Replays each cell with its own plan. Prints step times, misses and their errors, and how much faster the
replay was.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

from experiments import policies, replays
from results import labels
from results.runs import Cell, Run
from sentinel.planner.formats import files
from sentinel.replay import trace as traces
from testbed.timing import counters, preset

LINE = "{:14} {:>10} {:>9} {:>9} {:>7} {:>11} {:>7} {:>7}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("trace", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--model", help="name of the model, if the run has several")
    parser.add_argument("--preset", default="optane-6dimm")
    parser.add_argument("--migration-cores", type=int, default=1)
    options = parser.parse_args()
    trace = traces.read(options.trace)
    player = replays.Replays(
        trace, options.trace, preset.load(options.preset), migration_cores=options.migration_cores
    )
    print(f"{trace.name}: {len(trace.words):,} words, {len(trace.pages):,} pages")
    columns = ("policy", "budget", "emulated", "replayed", "error", "misses", "error", "faster")
    print(LINE.format(*columns))
    for cell in Run.load(options.run).cells:
        name = cell.resolved.get("model", {}).get("name")
        if cell.repeats and options.model in (None, name):
            compare(player, cell)


def compare(player: replays.Replays, cell: Cell) -> None:
    """Print a cell's line: the medians over its measured steps, and the replay."""
    measured: list[float] = []
    misses: list[int] = []
    seconds: list[float] = []
    for repeat in cell.repeats:
        numbers = [step.step for step in repeat.steps if not step.warmup]
        counts = list(counters.steps(repeat.path / "counters.jsonl"))
        measured += [float(step.model_ns or 0) for step in repeat.steps if not step.warmup]
        misses += [sum(counts[number]["misses"]) for number in numbers]
        seconds += [step.guest_ns / 1e9 for step in repeat.steps if not step.warmup]
    budget = cell.repeats[0].provenance.fast_memory
    size = None if budget is None else budget.budget_bytes
    start = time.perf_counter()
    row = replay(player, cell, size)
    elapsed = time.perf_counter() - start
    step_ns, missed = statistics.median(measured), statistics.median(misses)
    replayed = sum(sum(each["misses"]) for each in row.replayed.counters)
    columns = (
        row.policy,
        size or "-",
        f"{step_ns / 1e6:.3f}",
        f"{row.replayed.step_ns / 1e6:.3f}",
        f"{row.replayed.step_ns / step_ns - 1:.1%}",
        f"{missed:,.0f}",
        f"{replayed / missed - 1:.1%}",
        f"{statistics.median(seconds) / elapsed:.0f}x",
    )
    print(LINE.format(*columns), flush=True)


def replay(player: replays.Replays, cell: Cell, budget: int | None) -> Any:
    """Replay a cell: its plan if it had one, else its policy."""
    plans = cell.repeats[0].plans
    name = labels.policy_name(cell.resolved)
    if plans:
        return player.run_plan(name, files.read_plan(next(iter(plans.values()))))
    return player.run(policies.get(name), budget)


if __name__ == "__main__":
    main()
