# SPDX-License-Identifier: Apache-2.0
"""Whole suites through the program: training, records, resuming, interruption, failure."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from experiments import matrix
from results.runs import Run
from testbed import vm
from testbed.common.errors import ExitCode

SUITE = """
name: test
machine: {machine}
kernel: "{kernel}"
models:
  - {{ name: cnn, batch: 4 }}
placements: [{placements}]
steps: {steps}
warmup: 1
repeats: {repeats}
seed: 11
"""


def sentinel(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sentinel.cli.main", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
    )


def write_suite(folder: Path, **changes: Any) -> Path:
    values = {
        "machine": "two-node",
        "kernel": "auto",
        "placements": "fast-only, slow-only",
        "steps": 2,
        "repeats": 1,
        **changes,
    }
    path = folder / "suite.yaml"
    path.write_text(SUITE.format(**values))
    return path


def no_machine_runs() -> bool:
    return not any(machine.alive() for machine in vm.all_vms())


def test_every_policy_has_the_same_losses_and_its_own_residency(tmp_path: Path, kernel: str) -> None:
    path = write_suite(tmp_path, kernel=kernel, placements="fast-only, slow-only, first-touch, interleave")
    out = tmp_path / "run"
    done = sentinel("run", path, "--out", out, "--json")
    assert done.returncode == ExitCode.OK, done.stderr
    assert {row["policy"] for row in json.loads(done.stdout)["rows"]} == {
        *("fast-only", "slow-only", "first-touch", "interleave")
    }
    run = Run.load(out)
    assert run.warnings == []
    losses = set()
    for cell in run.cells:
        (repeat,) = cell.repeats
        assert len(repeat.steps) == 3
        assert [step.warmup for step in repeat.steps] == [True, False, False]
        losses.add(tuple(step.loss for step in repeat.steps))
        anon = repeat.steps[-1].residency.anon
        share = anon.get("0", 0) / sum(anon.values())
        policy = cell.resolved["placement"]
        low, high = {
            "fast-only": (1, 1),
            "first-touch": (1, 1),
            "slow-only": (0, 0),
            "interleave": (0.45, 0.55),
        }[policy]
        assert low <= share <= high, f"{policy}: {share:.3f} of the anonymous bytes are on node 0"
        assert cell.resolved["kernel"] == kernel
        assert "Linux version" in (out / "cells" / cell.id / "000" / "console.log").read_text()
    assert len(losses) == 1, "losses depend on the policy"

    again = sentinel("run", path, "--out", out, "--json")
    assert again.returncode == ExitCode.OK
    assert "4 finished repeats are kept" in again.stderr
    assert json.loads(again.stdout)["rows"] == json.loads(done.stdout)["rows"]
    same = sentinel("compare", out, out, "--json")
    assert same.returncode == ExitCode.OK
    assert all(abs(pair["ratio"] - 1) < 1e-9 for pair in json.loads(same.stdout)["rows"])
    assert no_machine_runs()


def test_an_interrupted_run_leaves_no_machine_and_resumes(tmp_path: Path, any_kernel: str) -> None:
    path = write_suite(tmp_path, kernel=any_kernel, steps=200, repeats=2)
    out = tmp_path / "run"
    command = [sys.executable, "-m", "sentinel.cli.main", "run", str(path), "--out", str(out)]
    for signal_, code in ((signal.SIGINT, ExitCode.INTERRUPTED), (signal.SIGKILL, -signal.SIGKILL)):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as run:
            deadline = time.monotonic() + 300
            while time.monotonic() < deadline and no_machine_runs():
                time.sleep(0.2)
            time.sleep(4)
            run.send_signal(signal_)
            assert run.wait(timeout=30) == code
        ended = time.monotonic() + 20
        while time.monotonic() < ended and not no_machine_runs():
            time.sleep(0.2)
        assert no_machine_runs(), f"a machine outlives {signal_.name}"
    assert not list(out.glob("cells/*/[0-9]*")), "an interrupted repeat is stored as finished"


def test_a_node_too_small_for_the_workload_fails_it(tmp_path: Path, any_kernel: str) -> None:
    (tmp_path / "tight.yaml").write_text(
        "vcpus: 2\nnodes:\n  - { memory: 1 GiB, cpus: [0, 1] }\n  - { memory: 64 MiB }\n"
    )
    path = write_suite(tmp_path, kernel=any_kernel, machine="./tight.yaml")
    out = tmp_path / "run"
    done = sentinel("run", path, "--out", out)
    assert done.returncode == ExitCode.WORKLOAD, done.stderr
    assert "killed by signal 9; the console: " in done.stderr
    good, bad = Run.load(out).cells
    assert [r.result.status for r in good.repeats] == ["ok"], "an earlier record was lost"
    (failure,) = bad.failures
    assert failure.result.verdict == "workload failed"
    assert "ut of memory" in failure.result.message or "oom-kill" in failure.result.message
    assert no_machine_runs()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"placements": "fast-only, nowhere"}, "placements[1]"),
        ({"machine": "nine-node"}, "unknown machine 'nine-node'"),
        ({"steps": "many"}, "steps"),
    ],
)
def test_a_wrong_suite_starts_nothing(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    done = sentinel("run", write_suite(tmp_path, **change), "--out", tmp_path / "run")
    assert done.returncode == ExitCode.USAGE
    assert message in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_machine_larger_than_the_host_is_refused(tmp_path: Path) -> None:
    (tmp_path / "huge.yaml").write_text(
        "vcpus: 2\nnodes:\n  - { memory: 4000 GiB, cpus: [0, 1] }\n  - { memory: 2 GiB }\n"
    )
    done = sentinel("vm", "up", "--machine", tmp_path / "huge.yaml")
    assert done.returncode == ExitCode.INFRASTRUCTURE
    assert "this host has" in done.stderr


def test_shipped_suites_are_valid() -> None:
    for path in (Path(matrix.__file__).parent / "suites").glob("*.yaml"):
        assert matrix.load(path).cells
    assert os.environ["SENTINEL_STATE"]
