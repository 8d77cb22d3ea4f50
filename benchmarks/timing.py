# SPDX-License-Identifier: Apache-2.0
"""The timing model: its cost in real time, and the repeatability of its results.

    python benchmarks/timing.py cost --rounds 3 cnn lstm
    python benchmarks/timing.py repeat --repeats 10 --load 'stress-ng --quiet --cpu 1' cnn lstm

`cost`: real time of boot, preparation (imports and graph) and training steps with and without the model,
alternating, as ratios of medians. `repeat`: mean model time of ten steps of one cell, repeated from its
snapshot, without load and with a load command.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import signal
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from experiments import barrier_snapshot, boot, job, models, policies
from experiments.job import Work
from testbed import machine, vm
from testbed.common.cache import Cache
from testbed.timing import preset
from testbed.vm import snapshot

NAME = "bench-timing"
STEPS = 12  # for cost
REPEATED = 10  # for repeat: addresses of pages and blocks make steps vary by a percent or two
WARMUP = 1


def work_of(name: str) -> Work:
    return Work(model=models.resolve(name), seed=7, threads=1)


def train(guest: vm.Vm, shell: Any, placement: str, steps: int) -> list[dict[str, Any]]:
    """Return the records of all steps after the warm-up."""
    records: list[dict[str, Any]] = []
    order = {**policies.get(placement).order(), "steps": steps, "warmup": WARMUP}
    job.release(shell, guest.watchdog(), order, records.append, per_step=guest.limits.step)
    return records[WARMUP:]


def cost(options: argparse.Namespace) -> None:
    plain = boot.prepare(machine.load("two-node"), kernel=options.kernel).boot
    modelled = replace(plain, preset=preset.load(options.preset))
    for name in options.models:
        seconds: dict[str, dict[str, list[float]]] = {"plain": {}, "modelled": {}}
        for _ in range(options.rounds):
            for kind, variant in (("plain", plain), ("modelled", modelled)):

                def note(phase: str, value: float, into: dict[str, list[float]] = seconds[kind]) -> None:
                    into.setdefault(phase, []).append(value)

                started = time.perf_counter()
                with vm.running(NAME, variant) as guest:
                    guest.wait_ready()
                    note("boot", time.perf_counter() - started)
                    with guest.shell() as shell:
                        within = guest.limits.prepare
                        note("prepare", job.prepare(shell, guest.watchdog(), work_of(name), within=within))
                        for record in train(guest, shell, "fast-only", STEPS):
                            note("step", record["guest_ns"] / 1e9)
        for phase, values in seconds["plain"].items():
            with_model = seconds["modelled"][phase]
            ratio = statistics.median(with_model) / statistics.median(values)
            both = f"plain {shown(values)}  modelled {shown(with_model)}"
            print(f"{name:9} {phase:8} {both}  ratio {ratio:.2f}", flush=True)


def shown(values: list[float]) -> str:
    return f"{statistics.median(values):7.3f} s ({min(values):.3f}-{max(values):.3f})"


@contextlib.contextmanager
def background(command: str | None) -> Iterator[None]:
    """Run the command, if any, during the block."""
    if command is None:
        yield
        return
    with subprocess.Popen(shlex.split(command), stdout=subprocess.DEVNULL, start_new_session=True) as running:
        try:
            yield
        finally:
            os.killpg(running.pid, signal.SIGKILL)


def repeat(options: argparse.Namespace) -> None:
    cache = Cache()
    artifacts = boot.prepare(
        machine.load("two-node"), preset=preset.load(options.preset), kernel=options.kernel
    )
    for name in options.models:
        entry = barrier_snapshot.ensure_barrier_snapshot(
            artifacts.boot, work_of(name), name=NAME, cache=cache
        )
        saved = snapshot.load(entry, cache=cache).with_preset(artifacts.boot.preset)
        for placement in ("fast-only", "slow-only"):
            means = []
            for label, command in (("idle", None), ("loaded", options.load)):
                with background(command):
                    times = [one_repeat(saved, placement) for _ in range(options.repeats)]
                means.append(statistics.mean(times))
                variation = statistics.stdev(times) / means[-1]
                print(
                    f"{name:9} {placement:9} {label:8} {means[-1] / 1e3:10.2f} us, CV {variation:.2%}",
                    flush=True,
                )
            print(f"{name:9} {placement:9} difference of means {means[1] / means[0] - 1:+.2%}", flush=True)


def one_repeat(saved: vm.SavedVm, placement: str) -> float:
    """Return the mean model ns of a step, restored from the snapshot."""
    with vm.running(NAME, saved) as guest, guest.shell() as shell:
        records = train(guest, shell, placement, REPEATED)
    return statistics.mean(float(record["model_ns"]) for record in records)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands: dict[str, Callable[[argparse.Namespace], None]] = {"cost": cost, "repeat": repeat}
    parser.add_argument("command", choices=sorted(commands))
    parser.add_argument("models", nargs="+", choices=models.names())
    parser.add_argument("--rounds", type=int, default=3, help="rounds of cost")
    parser.add_argument("--repeats", type=int, default=10, help="repeats of repeat")
    parser.add_argument(
        "--load", default="stress-ng --quiet --cpu 1", help="command that loads the host (repeat)"
    )
    parser.add_argument("--kernel", default="6.1")
    parser.add_argument("--preset", default="optane-6dimm")
    options = parser.parse_args()
    commands[options.command](options)


if __name__ == "__main__":
    main()
