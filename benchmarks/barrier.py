# SPDX-License-Identifier: Apache-2.0
"""Time to the first training step: from a barrier snapshot, and with a boot and a new process.

    python benchmarks/barrier.py --rounds 3 --kernel 6.1 cnn lstm resnet20

Both measurements end when the released process has finished its first step.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time

from experiments import barrier_snapshot, boot, job, models, policies
from experiments.job import Work
from testbed import machine, vm
from testbed.common.cache import Cache
from testbed.vm import snapshot

ORDER = {**policies.get("fast-only").order(), "steps": 1, "warmup": 0}
NAME = "bench-barrier"


def first_step(machine_: vm.Vm, work: Work | None) -> None:
    """Run one step, after preparing the process if `work` is given."""
    with machine_.shell() as shell:
        watchdog = machine_.watchdog()
        if work is not None:
            job.prepare(shell, watchdog, work, within=machine_.limits.prepare)
        job.release(shell, watchdog, ORDER, lambda record: None, per_step=machine_.limits.step)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", choices=models.names())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kernel", default="6.1")
    options = parser.parse_args()

    cache = Cache()
    artifacts = boot.prepare(machine.load("two-node"), kernel=options.kernel)
    for name in options.models:
        work = Work(model=models.resolve(name), seed=7, threads=1)
        entry = barrier_snapshot.ensure_barrier_snapshot(artifacts.boot, work, name=NAME, cache=cache)
        seconds: dict[str, list[float]] = {"boot": [], "restore": []}
        for _ in range(options.rounds):
            started = time.perf_counter()
            with vm.running(NAME, artifacts.boot) as booted:
                booted.wait_ready()
                first_step(booted, work)
                seconds["boot"].append(time.perf_counter() - started)
            started = time.perf_counter()
            with vm.running(NAME, snapshot.load(entry, cache=cache)) as restored:
                first_step(restored, None)
                seconds["restore"].append(time.perf_counter() - started)
            print(f"{name}: {seconds['boot'][-1]:.1f} s, {seconds['restore'][-1]:.1f} s", file=sys.stderr)
        slow, fast = (statistics.median(seconds[variant]) for variant in ("boot", "restore"))
        size = entry.size() / (1 << 20)
        print(
            f"{name:9} boot {slow:6.1f} s   restore {fast:5.1f} s   ratio {fast / slow:.2f}   {size:.0f} MiB"
        )
        print(json.dumps({"model": name, "kernel": artifacts.kernel.release, "seconds": seconds}))


if __name__ == "__main__":
    main()
