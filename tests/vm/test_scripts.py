# SPDX-License-Identifier: Apache-2.0
"""Training scripts of many kinds under the runtime, in a real guest."""

from __future__ import annotations

import json

import pytest

from tests import hand_plan
from tests.vm.training import Trainer


def test_unmodified_script_is_profiled_and_planned(trainer: Trainer) -> None:
    wrapped = "python2.7 -m guest.wrap --stats /root/stats.json"
    first = trainer.run(f"{wrapped} --profile /root/wrapped.json --skip 2 scripts/runtime/untouched.py 5")
    assert first.split() == trainer.stock[:5]
    profile = trainer.get("/root/wrapped.json")
    assert profile["ops"]["type"].count("ApplyMomentum") == 6  # not of runs that do not train
    planned = trainer.put("/root/wrapped-plan.json", json.dumps(hand_plan.make(profile)))
    second = trainer.run(f"{wrapped} --plan {planned} scripts/runtime/untouched.py 4")
    assert second.split() == trainer.stock[:4]
    stats = trainer.get("/root/stats.json")
    assert (stats["planned_steps"], stats["total"]["unplanned"]) == (4, 0)


@pytest.mark.parametrize(
    ("script", "planned", "fast"),
    [
        ("forked_worker.py fork mid", 12, True),
        ("summary_in_first_step.py", 10, True),
        ("queue_runners.py", 20, False),
        ("worker_processes.py", 30, False),
        ("monitored.py", 8, False),  # every fourth step has a summary too
        ("conditional.py", 14, False),
        ("accumulated_gradients.py", 14, False),
        ("varying_lengths.py", 1, False),
    ],
)
def test_scripts_stay_within_the_budget(
    request: pytest.FixtureRequest, trainer: Trainer, script: str, planned: int, fast: bool
) -> None:
    if not fast and not request.config.getoption("--slow"):
        pytest.skip("trains three times; run with --slow")
    stock = trainer.run(f"python2.7 scripts/{script}")
    wrapped = "python2.7 scripts/runtime/watched.py --stats /root/stats.json"
    trainer.run("rm -f /root/script.json")
    profiled = trainer.run(f"{wrapped} --profile /root/script.json --skip 4 scripts/{script}")
    plan = trainer.plan("/root/script.json", "80%")
    said = trainer.run(f"{wrapped} --plan /root/script.plan.json scripts/{script}")
    losses = [line for line in stock.splitlines() if line.startswith("LOSS")]
    assert losses
    for output in (profiled, said):
        assert [line for line in output.splitlines() if line.startswith("LOSS")] == losses
        assert "DONE" in output
    stats = trainer.get("/root/stats.json")
    assert stats["planned_steps"] >= planned
    assert int(said.split()[-1]) <= plan["budget"]


@pytest.mark.parametrize(
    ("script", "fast"),
    [
        ("hogwild.py", True),
        ("evaluation_thread.py", False),
        ("two_threads.py", False),
        ("default_threads.py", False),
        ("partial_run.py", False),
        ("sparse_fetch.py", False),
        ("assigned_variables.py", False),
        ("keras_fit.py", False),
        ("dcgan.py", False),
        ("late_runtime.py", False),
    ],
)
def test_scripts_of_all_kinds_finish(
    request: pytest.FixtureRequest, trainer: Trainer, script: str, fast: bool
) -> None:
    if not fast and not request.config.getoption("--slow"):
        pytest.skip("one of many; run with --slow")
    trainer.run("rm -f /root/script.json")
    wrapped = "python2.7 scripts/runtime/watched.py --stats /root/stats.json"
    assert "DONE" in trainer.run(f"{wrapped} --profile /root/script.json --skip 4 scripts/{script}")
    if trainer.run("ls /root/script.json", check=False).startswith("/root"):
        plan = trainer.plan("/root/script.json", "80%")
        said = trainer.run(f"{wrapped} --plan /root/script.plan.json scripts/{script}")
        assert "DONE" in said
        assert int(said.split()[-1]) <= plan["budget"]


def test_graphs_are_freed(trainer: Trainer) -> None:
    assert "GRAPHS ALIVE 0 of 5" in trainer.run("python2.7 scripts/many_graphs.py")
    assert "GRAPHS ALIVE 0 of 5" in trainer.run("python2.7 -m guest.wrap scripts/many_graphs.py")


def test_failed_runs_are_not_steps(trainer: Trainer) -> None:
    said = trainer.run("python2.7 scripts/failing_runs.py")
    assert said.count("LOSS") == 18
    profile = trainer.get("/root/failing.json")
    assert profile["ops"]["type"].count("ApplyGradientDescent") == 4
    assert not [w for w in profile["warnings"] if "differ" in w]


def test_hook_profiles_and_markers_end_layers(trainer: Trainer) -> None:
    trainer.run("python2.7 scripts/runtime/hooked.py")
    ops = trainer.get("/root/hook.json")["ops"]
    assert ops["type"].count("SentinelLayer") == 6  # three forward, three backward
    assert ops["layer"][-1] == 6
    backward = [p for p, name in enumerate(ops["name"]) if name.startswith("gradients/dense/MatMul_grad")]
    assert {ops["layer"][p] for p in backward} == {6}
