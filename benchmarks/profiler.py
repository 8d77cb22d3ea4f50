# SPDX-License-Identifier: Apache-2.0
"""The page-access profiler: cost of an access, accuracy of windows, overhead for a training step.

    python benchmarks/profiler.py --kernel 4.9 --rounds 5 cnn lstm resnet20

Everything runs in one guest. Figures are ratios of times measured in one run, or counts.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import subprocess
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from experiments import boot, guest_code, models
from testbed import machine, vm
from testbed.guestlink.shell import Shell

HERE = Path(__file__).parent
SELFTESTS = HERE.parent / "kernel" / "selftests"


def records(shell: Shell, command: str) -> list[dict[str, Any]]:
    """Run a program that prints JSON lines, and return them."""
    out = shell.run(f"cd /opt/profiler && {command}", timeout=7200).out
    return [json.loads(line) for line in out.splitlines() if line.startswith("{")]


def cost(shell: Shell) -> None:
    """Print the cost of each kind of event, and of an ordinary page fault."""
    for r in records(shell, "./cost 400"):
        print(f"{r['what']:62} {r['value']:10.4g} {r['unit']}")


def accuracy(shell: Shell, seed: int) -> None:
    """Print the accuracy of window counts by K: rank correlation and overlap of the hottest fifth."""
    rows: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
    for r in records(shell, f"./accuracy {seed}"):
        rows[r["pattern"]][r["window"]] = r
    for name in ("error", "rank_correlation", "hottest_overlap"):
        windows = sorted(next(iter(rows.values())))
        print(f"\n{name:18}" + "".join(f"{f'K={k}':>9}" for k in windows))
        for pattern, by_window in rows.items():
            values = (by_window[k][name] for k in windows)
            print(f"{pattern:18}" + "".join(f"{'-' if v is None else format(v, '.4f'):>9}" for v in values))


def training(shell: Shell, model: str, rounds: int) -> None:
    """Print the time of a step with profiled tensors relative to one without, alternating in one process."""
    model_json = shlex.quote(json.dumps(models.resolve(model)))
    preload = "LD_PRELOAD=/opt/profiler/arena.so PYTHONPATH=/opt/sentinel"
    *steps, last = records(
        shell, f"{preload} python2.7 -B -W ignore profiled_training.py {model_json} {rounds}"
    )
    by_mode: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for step in steps:
        by_mode[step["mode"]].append(step)
    base = statistics.median(s["ns"] for s in by_mode["none"])
    print(f"\n{model}: {steps[0]['arena'] >> 20} MiB of tensors, step {base / 1e6:.0f} ms without a profile")
    for mode, steps_ in by_mode.items():
        ratios = sorted(s["ns"] / base for s in steps_)
        caught, pages = (statistics.median(s[name] for s in steps_) for name in ("caught", "pages"))
        print(
            f"  {mode:12} {statistics.median(ratios):6.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
            f"   {caught:9.0f} caught, {pages:7.0f} pages touched, {sum(s['lost'] for s in steps_)} lost"
        )
    print(f"  tensors outside the arena of the first steps: {last['grown']} bytes")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", choices=models.names(), default=["cnn"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kernel", default="6.1")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()

    artifacts = boot.prepare(machine.load("two-node"), kernel=options.kernel)
    with tempfile.TemporaryDirectory() as folder, vm.running("bench-profiler", artifacts.boot) as guest:
        target = Path(folder) / "profiler"
        subprocess.run(["make", "-s", "-C", SELFTESTS, f"OUT={target}"], check=True)
        arena = [str(HERE / "guest" / "arena.c"), "-o", str(target / "arena.so")]
        subprocess.run(["gcc", "-O2", "-Wall", "-shared", "-fPIC", *arena, "-pthread"], check=True)
        script = HERE / "guest" / "profiled_training.py"
        (target / script.name).write_bytes(script.read_bytes())
        guest.wait_ready()
        with guest.shell() as shell:
            shell.put(target, "/opt/profiler")
            guest_code.deploy(shell)
            print(f"Linux {artifacts.kernel.release}\n")
            cost(shell)
            print()
            accuracy(shell, options.seed)
            for model in options.models:
                training(shell, model, options.rounds)


if __name__ == "__main__":
    main()
