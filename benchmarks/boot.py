# SPDX-License-Identifier: Apache-2.0
"""How long until a machine can be used: cold, from a snapshot, and virtme-ng with the same kernel.

    python benchmarks/boot.py --rounds 5 --kernel 6.1 [--virtme PATH/TO/virtme-run]

Every round measures each way once, in turn, so that what the host does meanwhile touches all alike. A way is
timed from starting its program to the end of its first command in the guest (`true`).
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
from testbed.vm.snapshot import named

NAME, SNAPSHOT = "bench-boot", "bench-boot"
SENTINEL = [sys.executable, "-m", "sentinel.cli.main"]


def timed(*commands: list[str]) -> float:
    """Seconds that the commands take, one after the other."""
    started = time.perf_counter()
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        if done.returncode != 0:
            raise SystemExit(f"{shlex.join(command)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return time.perf_counter() - started


def until_said(command: list[str], word: str) -> float:
    """Seconds until a command prints `word`; it is then left to end.

    (virtme-ng needs udev on the host to hand over a script's exit status, so its end is no sign.)
    """
    started = time.perf_counter()
    found = 0.0
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if word in line and not found:
                found = time.perf_counter() - started
    if not found:
        raise SystemExit(f"{shlex.join(command)}: never said {word}")
    return found


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
    Cache().prune(keys=(named(SNAPSHOT),))
    timed(vm("up", "--kernel", options.kernel), vm("snapshot", SNAPSHOT, "--stop"))
    ways: dict[str, Callable[[], float]] = {
        "cold boot": lambda: timed(vm("up", "--kernel", options.kernel), true),
        "from a snapshot": lambda: timed(vm("up", "--from", SNAPSHOT), true),
    }
    if options.virtme:
        virtme = [options.virtme, "--kimg", str(kernel.bzimage), "--mods", "none", "--disable-kvm"]
        virtme += ["--memory", "4G", "--cpus", "2", "--verbose", "--show-boot-console"]
        ways["virtme-ng"] = lambda: until_said([*virtme, "--script-sh", "echo done-$((40 + 2))"], "done-42")

    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(options.rounds):
        for way, measure in ways.items():
            seconds[way].append(measure())
            if way != "virtme-ng":
                timed(vm("down"))
            print(f"round {number + 1}: {way} {seconds[way][-1]:.2f} s", file=sys.stderr)
    Cache().prune(keys=(named(SNAPSHOT),))
    base = statistics.median(seconds["cold boot"])
    for way, values in seconds.items():
        middle = statistics.median(values)
        print(
            f"{way:16} {middle:6.2f} s  ({min(values):.2f}-{max(values):.2f})  {middle / base:5.2f} of cold"
        )
    print(json.dumps({"kernel": kernel.release, "seconds": seconds}))


if __name__ == "__main__":
    main()
