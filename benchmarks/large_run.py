# SPDX-License-Identifier: Apache-2.0
"""Measure the time to load, report and export a large run, and the size of its page.

    PYTHONPATH=. python benchmarks/large_run.py --steps 100000

Writes a synthetic run to a temporary folder: 10 cells with 10 repeats each.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from results import export, page, report
from results.runs import Run
from tests.fakes.run_records import add, begin, cells_of, steps_of

REPEATS = 10
POLICIES = ("fast-only", "slow-only", "first-touch", "interleave", "sentinel", "sentinel-opt")

T = TypeVar("T")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--steps", type=int, default=100_000, help="step records of the run")
    options = parser.parse_args()
    cells = cells_of(placements=POLICIES, fast_memory=("20%", "40%"))
    count = options.steps // (len(cells) * REPEATS)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "run"
        begin(root, cells)
        for cell in cells:
            for number in range(REPEATS):
                add(root, cell, number, steps_of(cell, seed=number, count=count))
        print(f"{len(cells)} cells, {REPEATS} repeats, {count} steps each")
        run = timed("load", lambda: Run.load(root))
        timed("table", lambda: report.report(run))
        path = timed("page", lambda: page.write(run, root / "report.html"))
        print(f"page: {path.stat().st_size / 1e6:.2f} MB")
        timed("export", lambda: export.write([run], root / "export", "csv"))


def timed(name: str, call: Callable[[], T]) -> T:
    """Call a function and print its duration and CPU time; on a busy host only the latter means much."""
    start, cpu_start = time.perf_counter(), time.process_time()
    result = call()
    elapsed, cpu = time.perf_counter() - start, time.process_time() - cpu_start
    print(f"{name}: {elapsed:.1f} s, {cpu:.1f} s of CPU time", flush=True)
    return result


if __name__ == "__main__":
    main()
