# SPDX-License-Identifier: Apache-2.0
"""Measure the time to load, report and export a large run, and the size of its page.

    PYTHONPATH=. python benchmarks/large_run.py --steps 100000                          10 cells
    PYTHONPATH=. python benchmarks/large_run.py --steps 50000 --seeds 10 --repeats 100  10,000 repeats

Writes a synthetic run to a temporary folder: 10 cells for each seed.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from unittest import mock

from experiments import resuming
from experiments.matrix import Matrix
from results import export, page, report
from results.runs import Run
from testbed import machine as machines
from testbed.timing import preset as presets
from tests.fakes.run_records import add, begin, provenance_of, steps_of, suite_of

POLICIES = ("fast-only", "slow-only", "first-touch", "interleave", "sentinel", "sentinel-opt")

T = TypeVar("T")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--steps", type=int, default=100_000, help="step records of the run")
    parser.add_argument("--seeds", type=int, default=1, help="seeds that the suite varies")
    parser.add_argument("--repeats", type=int, default=10, help="repeats of each cell")
    options = parser.parse_args()
    suite = suite_of(
        placements=POLICIES,
        fast_memory=("20%", "40%"),
        vary={"seed": tuple(range(options.seeds))},
        repeats=options.repeats,
    )
    assert suite.preset is not None
    matrix = Matrix(suite, machines.load(suite.machine), presets.load(suite.preset))
    cells = [{"id": cell.id, **cell.resolved} for cell in matrix.cells]
    count = options.steps // (len(cells) * options.repeats)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "run"
        begin(root, cells)
        with mock.patch("os.fsync"):  # the time to write is not measured
            for cell in cells:
                for number in range(options.repeats):
                    add(root, cell, number, steps_of(cell, seed=number, count=count))
        print(f"{len(cells)} cells, {options.repeats} repeats each, {count} steps each")
        todo = timed("what is missing", lambda: resuming.choose(matrix.cells, root))
        origin = provenance_of(cells[0])
        timed("origin of all repeats", lambda: resuming.check_origin(matrix.cells, root, todo, origin))
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
