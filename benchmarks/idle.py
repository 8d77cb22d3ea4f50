# SPDX-License-Identifier: Apache-2.0
"""Overhead of the idle runtime: training without a plan, relative to stock TensorFlow.

    python benchmarks/idle.py cnn lstm resnet20

Both run from a snapshot, in fast memory, alternating. Prints instructions and model time of a step, as
medians over all steps, and their ratios.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

from experiments import barrier_snapshot, boot, job, models, policies
from experiments.job import Work
from testbed import machine, vm
from testbed.common.cache import Cache
from testbed.timing import counters, preset
from testbed.vm import snapshot

NAME = "bench-idle"
WARMUP = 2
ORDER = {**policies.get("fast-only").order(), "steps": 6, "warmup": WARMUP}
KINDS = ("stock", "loaded")
FIGURES = {"instructions": ("M", 1e6), "ns": ("us", 1e3)}


def steps(saved: vm.SavedVm) -> list[dict[str, Any]]:
    """Return the timing model's counters of each step after the warm-up."""
    with vm.running(NAME, saved) as guest, guest.shell() as shell:
        job.release(shell, guest.watchdog(), ORDER, lambda _: None, per_step=guest.limits.step)
        return list(counters.steps(guest.counters_path))[WARMUP:]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", choices=models.names())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kernel", default="6.1")
    parser.add_argument("--preset", default="optane-6dimm")
    options = parser.parse_args()
    cache = Cache()
    artifacts = boot.prepare(
        machine.load("two-node"), preset=preset.load(options.preset), kernel=options.kernel
    )
    for name in options.models:
        saved, measured = {}, dict[str, list[dict[str, Any]]]()
        for kind in KINDS:
            work = Work(model=models.resolve(name), seed=7, threads=1, runtime=kind == "loaded")
            entry = barrier_snapshot.ensure_barrier_snapshot(artifacts.boot, work, name=NAME, cache=cache)
            saved[kind] = snapshot.load(entry, cache=cache).with_preset(artifacts.boot.preset)
        for _ in range(options.rounds):
            for kind in KINDS:
                measured.setdefault(kind, []).extend(steps(saved[kind]))
        for figure, (unit, scale) in FIGURES.items():
            medians = {kind: statistics.median(step[figure] for step in measured[kind]) for kind in KINDS}
            text = "  ".join(f"{kind} {value / scale:.2f} {unit}" for kind, value in medians.items())
            ratio = medians["loaded"] / medians["stock"]
            print(f"{name:9} {figure:12} {text}  ratio {ratio:.4f}", flush=True)


if __name__ == "__main__":
    main()
