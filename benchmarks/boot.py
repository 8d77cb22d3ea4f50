# SPDX-License-Identifier: Apache-2.0
"""Boot time of a machine: cold, from a snapshot, and with virtme-ng and the same kernel.

    python benchmarks/boot.py --rounds 5 --kernel 6.1 [--virtme PATH/TO/virtme-run]

Every round measures each variant once, so that host load affects all alike. Times are from the start of the
program to the end of the first command in the guest (`true`).
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from kernel.build import build
from testbed.common.cache import Cache
from testbed.vm.snapshot import cache_key

NAME, SNAPSHOT = "bench-boot", "bench-boot"
SENTINEL = [sys.executable, "-m", "sentinel.cli.main"]


def timed(*commands: list[str]) -> float:
    """Return the seconds that the commands take in sequence."""
    started = time.perf_counter()
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        if done.returncode != 0:
            raise SystemExit(
                f"{shlex.join(command)}: exited with status {done.returncode}\n{done.stdout}{done.stderr}"
            )
    return time.perf_counter() - started


def time_until_output(command: list[str], word: str) -> float:
    """Return the seconds until a command prints `word`, and wait for its end.

    (virtme-ng needs udev on the host to pass on a script's exit status, so its end proves nothing.)
    """
    started = time.perf_counter()
    elapsed = 0.0
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if word in line and not elapsed:
                elapsed = time.perf_counter() - started
    if not elapsed:
        raise SystemExit(f"{shlex.join(command)}: did not print {word}")
    return elapsed


def vm(*words: str) -> list[str]:
    return [*SENTINEL, "vm", words[0], "--vm", NAME, *words[1:]]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kernel", default="6.1")
    parser.add_argument("--virtme", default=shutil.which("virtme-run"))
    options = parser.parse_args()

    kernel = build(options.kernel)
    true = vm("exec", "true")
    Cache().prune(keys=(cache_key(SNAPSHOT),))
    timed(vm("up", "--kernel", options.kernel), vm("snapshot", SNAPSHOT, "--stop"))
    variants: dict[str, Callable[[], float]] = {
        "cold boot": lambda: timed(vm("up", "--kernel", options.kernel), true),
        "from a snapshot": lambda: timed(vm("up", "--from", SNAPSHOT), true),
    }
    if options.virtme:
        virtme = [options.virtme, "--kimg", str(kernel.bzimage), "--mods", "none", "--disable-kvm"]
        virtme += ["--memory", "4G", "--cpus", "2", "--verbose", "--show-boot-console"]
        variants["virtme-ng"] = lambda: time_until_output(
            [*virtme, "--script-sh", "echo done-$((40 + 2))"], "done-42"
        )

    seconds: dict[str, list[float]] = {variant: [] for variant in variants}
    for number in range(options.rounds):
        for variant, measure in variants.items():
            seconds[variant].append(measure())
            if variant != "virtme-ng":
                timed(vm("down"))
            print(f"round {number + 1}: {variant} {seconds[variant][-1]:.2f} s", file=sys.stderr)
    Cache().prune(keys=(cache_key(SNAPSHOT),))
    base = statistics.median(seconds["cold boot"])
    for variant, values in seconds.items():
        median = statistics.median(values)
        print(
            f"{variant:16} {median:6.2f} s  ({min(values):.2f}-{max(values):.2f})"
            f"  {median / base:5.2f} of cold"
        )
    print(json.dumps({"kernel": kernel.release, "seconds": seconds}))


if __name__ == "__main__":
    main()
