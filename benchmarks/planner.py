# SPDX-License-Identifier: Apache-2.0
"""Benchmark the planner: CPU time by size of the profile, and predicted speed by budget.

    python benchmarks/planner.py                   # ResNets of up to 100,000 tensors, and an LSTM
    python benchmarks/planner.py --blocks 3 216    # ResNets with 3 and 216 blocks per stage
    python benchmarks/planner.py --profile profile.json.gz --fast-step-ns 7.6e6

Times are CPU times, the best of `--rounds`. Speeds are predictions for a preset; no plan is run.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from experiments.profiles import figures_of
from sentinel.planner.check import check
from sentinel.planner.errors import BudgetError
from sentinel.planner.formats import files
from sentinel.planner.formats.figures import Figures
from sentinel.planner.formats.profile import Profile
from sentinel.planner.memory import classify
from sentinel.planner.search import make_plan
from testbed.timing import preset
from tests.fakes import networks

T = TypeVar("T")
BUDGETS = (0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0)
STEP_NS, FAST_STEP_NS = 23.5e6, 7.6e6  # measured on ResNet-20, batch 8: all slow, all fast


def best_time(rounds: int, work: Callable[[], T]) -> tuple[float, T]:
    """Return the least CPU time of `work` in seconds, and its result."""
    best = float("inf")
    for _ in range(rounds):
        start = time.process_time()
        result = work()
        best = min(best, time.process_time() - start)
    return best, result


def stages(name: str, profile: Profile, figures: Figures, rounds: int) -> dict[str, Any]:
    """Measure reading, planning at a fifth of the peak (or the floor), checking and writing, in seconds."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "profile.json.gz"
        files.write_profile(path, profile)
        read_s, profile = best_time(rounds, lambda: files.read_profile(path))
        budget = classify.peak(profile) // 5
        try:
            plan_s, plan = best_time(rounds, lambda: make_plan(profile, budget, figures))
        except BudgetError as e:
            budget = e.floor
            plan_s, plan = best_time(rounds, lambda: make_plan(profile, budget, figures))
        check_s, broken = best_time(rounds, lambda: check(profile, plan))
        write_s, _ = best_time(rounds, lambda: files.write_plan(path, plan))
    assert not broken, broken[:3]
    row = {
        "profile": name,
        "tensors": len(profile.tensors),
        "ops": len(profile.ops),
        "moves": len(plan.moves),
        "candidates": len(plan.predicted["candidates"]),
        "seconds": {"read": read_s, "plan": plan_s, "check": check_s, "write": write_s},
    }
    print(
        f"{name:16} {row['tensors']:7} tensors {row['ops']:6} ops {row['moves']:6} moves   "
        f"read {read_s:5.2f}  plan {plan_s:5.2f}  check {check_s:5.2f}  write {write_s:5.2f} s"
    )
    return row


def budgets(
    name: str, profile: Profile, figures: Figures, fast_step_ns: float | None
) -> list[dict[str, Any]]:
    """Predict the speed at each share of the peak, relative to all tensors in fast memory."""
    rows = []
    for share in BUDGETS:
        try:
            plan = make_plan(profile, int(share * classify.peak(profile)), figures, fast_step_ns=fast_step_ns)
        except BudgetError as e:
            print(f"{name:10} {share:4.0%}   {e}")
            continue
        predicted = plan.predicted
        fast_ns, static_ns = predicted["fast_ns"], predicted["candidates"][0]["step_ns"]
        paper_ns = min(
            (row["step_ns"] for row in predicted["candidates"] if row["rule"] == "paper"),
            default=static_ns,
        )
        row = {
            "profile": name,
            "budget": share,
            "speed": fast_ns / predicted["step_ns"],
            "paper": fast_ns / paper_ns,
            "static": fast_ns / static_ns,
            "slow": fast_ns / predicted["slow_ns"],
            "rule": predicted["rule"],
            "interval_layers": plan.interval_layers,
            "moved_bytes": predicted["moved_bytes"],
            "exposed": predicted["exposed_ns"] / predicted["step_ns"],
        }
        rows.append(row)
        print(
            f"{name:10} {share:4.0%}   {row['speed']:.2f}   paper's rule {row['paper']:.2f}   "
            f"static {row['static']:.2f}   slow {row['slow']:.2f}   "
            f"{row['moved_bytes'] / 1e6:6.1f} MB moved   {row['exposed']:.1%} exposed   "
            f"{row['rule']}, {row['interval_layers']} layers"
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--blocks", type=int, nargs="*", default=[3, 22, 216], help="blocks per stage")
    parser.add_argument("--profile", type=Path, help="measure only this profile")
    parser.add_argument("--fast-step-ns", type=float)
    parser.add_argument("--preset", default="optane-6dimm")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    figures = figures_of(preset.load(options.preset))
    result: dict[str, Any] = {"preset": options.preset, "stages": [], "budgets": []}
    if options.profile:
        real = files.read_profile(options.profile)
        result["stages"].append(stages(options.profile.name, real, figures, options.rounds))
        result["budgets"] += budgets(options.profile.name, real, figures, options.fast_step_ns)
    else:
        for blocks in options.blocks:
            resnet = networks.resnet(blocks=blocks, step_ns=STEP_NS * blocks / 3)
            result["stages"].append(stages(f"ResNet-{6 * blocks + 2}", resnet, figures, options.rounds))
        result["stages"].append(stages("LSTM", networks.lstm(), figures, options.rounds))
        result["budgets"] += budgets("ResNet-20", networks.resnet(), figures, FAST_STEP_NS)
        result["budgets"] += budgets("LSTM", networks.lstm(), figures, None)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
