# SPDX-License-Identifier: Apache-2.0
"""Runs on several workers: processes that die, disks that are full, and interruptions."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import distributed
import psutil
import pytest

from experiments import matrix, runner
from experiments.runner import Outcome
from experiments.workers import Workers
from results.runs import Run
from testbed.common.errors import ExitCode, InfrastructureError, UsageError
from tests.fakes.lab import SUITE
from tests.fakes.programs import Programs
from tests.fakes.worker_backend import WorkerBackend

SEEDED = SUITE.replace("order_seed: null", "order_seed: 0")


class Workshop:
    """Runs the suite on workers with a fake backend."""

    def __init__(self, folder: Path) -> None:
        self.out, self.switches = folder / "run", folder / "switches"
        self.switches.mkdir(exist_ok=True)
        self.suite = folder / "suite.yaml"
        self.suite.write_text(SEEDED)

    def run(self, *, jobs: int = 2, scheduler: str | None = None) -> Outcome:
        make = functools.partial(WorkerBackend, self.switches)
        return runner.run(
            matrix.load(self.suite),
            self.out,
            command="sentinel run suite.yaml",
            command_of=lambda cell: f"measure {cell.policy.name}",
            backend=make(),
            workers=Workers(make, jobs, scheduler) if jobs else None,
        )

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.out / "events.jsonl").read_text().splitlines()]

    def repeats(self) -> list[int]:
        run = Run.load(self.out)
        assert run.warnings == []
        return [len(cell.repeats) for cell in run.cells]


@pytest.fixture
def workshop(tmp_path: Path, programs: Programs) -> Workshop:
    programs.shell("qemu-system-x86_64", "echo QEMU emulator version 7.2.11")
    return Workshop(tmp_path)


@pytest.fixture
def scheduler() -> Iterator[str]:
    """The address of a cluster of one thread of this process."""
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None
    ) as cluster:
        yield cluster.scheduler_address


def test_workers_run_all_repeats_in_spite_of_a_killed_one_and_a_full_disk(workshop: Workshop) -> None:
    (workshop.switches / "kill").touch()
    (workshop.switches / "full").touch()
    outcome = workshop.run()
    assert (outcome.done, outcome.failures) == (12, [])
    assert workshop.repeats() == [3, 3, 3, 3]
    assert len(list(workshop.switches.glob("worker-*"))) >= 2
    events = Counter(event["event"] for event in workshop.events())
    assert (events["worker-lost"], events["repeat-ended"], events["run-ended"]) == (1, 12, 1)
    assert 13 <= events["repeat-started"] <= 14  # a killed worker may not have said that it started
    reasons = {event["reason"] for event in workshop.events() if event["event"] == "repeat-lost"}
    assert "[Errno 28] No space left on device" in reasons
    repeat = Run.load(workshop.out).cells[1].repeats[2]
    assert repeat.provenance.command == "measure slow-only"
    assert (repeat.path / "console.log").exists()
    names = {path.name for path in workshop.out.iterdir()}
    assert names == {"run.json", "events.jsonl", "cells"}


def test_failures_of_repeats_are_stored_and_cells_skipped(workshop: Workshop, scheduler: str) -> None:
    (workshop.switches / "fail-1").touch()
    outcome = workshop.run(scheduler=scheduler)
    assert (outcome.done, len(outcome.failures), outcome.code) == (6, 2, ExitCode.WORKLOAD)
    assert workshop.repeats() == [3, 0, 3, 0]
    failures = [failed.result for cell in Run.load(workshop.out).cells for failed in cell.failures]
    assert {(result.verdict, result.message) for result in failures} == {("workload failed", "exit 1")}
    (workshop.switches / "fail-1").unlink()
    outcome = workshop.run(scheduler=scheduler)
    assert (outcome.done, outcome.kept) == (6, 6)


def test_an_error_of_all_repeats_ends_the_run(workshop: Workshop, scheduler: str) -> None:
    (workshop.switches / "refuse").touch()
    with pytest.raises(Exception, match="no such thing") as caught:
        workshop.run(scheduler=scheduler)
    assert getattr(caught.value, "code", None) == ExitCode.USAGE
    assert workshop.repeats() == [0, 0, 0, 0]


def test_a_worker_with_another_installation_is_refused(
    workshop: Workshop, scheduler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter(["of the run"])
    monkeypatch.setattr("experiments.provenance.revision", lambda digits: next(answers, "of the worker"))
    with pytest.raises(Exception, match="has another commit: of the worker, and the run has of the run"):
        workshop.run(scheduler=scheduler)


def test_a_scheduler_that_does_not_answer_is_reported(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("experiments.cluster._CONNECT_SECONDS", 0.5)
    with pytest.raises(InfrastructureError, match=r"the scheduler at tcp://127\.0\.0\.1:9 does not answer"):
        workshop.run(scheduler="tcp://127.0.0.1:9")
    with pytest.raises(UsageError, match="--scheduler nonsense://x"):
        workshop.run(scheduler="nonsense://x")


INTERRUPTED = """
import sys
from pathlib import Path
from tests.unit.test_cluster import Workshop

if __name__ == "__main__":
    Workshop(Path(sys.argv[1])).run()
"""


def test_an_interruption_leaves_no_process_and_whole_records(workshop: Workshop, tmp_path: Path) -> None:
    (workshop.switches / "wait").touch()
    program = tmp_path / "program.py"
    program.write_text(INTERRUPTED)
    environment = {**os.environ, "PYTHONPATH": str(Path(matrix.__file__).parent.parent)}
    with subprocess.Popen(
        [sys.executable, program, tmp_path], start_new_session=True, env=environment, stderr=subprocess.PIPE
    ) as process:
        while len(list(workshop.switches.glob("worker-*"))) < 2:
            assert process.poll() is None
            time.sleep(0.1)
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        _, errors = process.communicate()
    assert process.returncode != 0
    assert errors.decode().rstrip().endswith("KeyboardInterrupt")
    _, alive = psutil.wait_procs(family, timeout=30)
    with contextlib.suppress(psutil.Error):
        for other in alive:
            other.kill()
    assert alive == []
    assert workshop.repeats() == [0, 0, 0, 0]
    (workshop.switches / "wait").unlink()
    assert workshop.run(jobs=0).done == 12
