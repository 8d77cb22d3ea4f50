# SPDX-License-Identifier: Apache-2.0
"""Training scripts of many kinds under the runtime, in a real guest."""

from __future__ import annotations

import json

import pytest

from tests import hand_plan
from tests.vm.training import Json, Trainer


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


# Scripts whose losses repeat, with the kinds of steps that are planned, of all kinds
REPEATABLE = {
    "accumulated_gradients.py": (2, 2),
    "assigned_variables.py": (1, 1),
    "callables.py": (3, 3),
    "conditional.py": (1, 1),
    "dataset_epochs.py": (1, 1),
    "dcgan.py": (2, 2),
    "estimator.py": (1, 2),
    "evaluation_thread.py": (1, 1),
    "forked_worker.py fork mid": (1, 1),
    "keras_fit.py": (1, 1),
    "local_server.py": (1, 1),
    "loops_and_strings.py": (1, 1),
    "monitored.py": (2, 2),
    "partial_run.py": (1, 1),
    "py_func.py": (1, 2),
    "queue_runners.py": (1, 1),
    "saver_and_eval.py": (1, 1),
    "sparse_fetch.py": (1, 1),
    "summary_in_first_step.py": (1, 2),
    "towers.py": (1, 1),
    "varying_lengths.py": (1, 2),
    "worker_processes.py": (1, 1),
}
IN_CI = ("dcgan.py", "forked_worker.py fork mid", "summary_in_first_step.py", "partial_run.py")


def managed(trainer: Trainer, script: str) -> tuple[str, Json]:
    """Train a script under a budget; return its output and the summary."""
    options = "--fast-memory 80% --skip 2 --wait --folder /root/managed"
    trainer.run("rm -rf /root/managed")
    output = trainer.run(f"python2.7 scripts/runtime/watched.py {options} scripts/{script}")
    return output, trainer.get("/root/managed/summary.json")


def losses(output: str) -> list[str]:
    return [line for line in output.splitlines() if line.startswith("LOSS")]


@pytest.mark.parametrize("script", REPEATABLE)
def test_scripts_train_the_same_within_the_budget(
    request: pytest.FixtureRequest, trainer: Trainer, script: str
) -> None:
    if script not in IN_CI and not request.config.getoption("--slow"):
        pytest.skip("one of many; run with --slow")
    stock = trainer.run(f"python2.7 scripts/{script}")
    output, summary = managed(trainer, script)
    assert losses(stock)
    assert losses(output) == losses(stock)
    assert "DONE" in output
    assert summary["fast_peak"] <= summary["budget"]
    kinds = summary["kinds"]
    assert (sum(kind["state"] == "planned" for kind in kinds), len(kinds)) == REPEATABLE[script]
    steps = sum(kind["phases"].get("planned", 0) for kind in kinds)
    assert summary["planned_steps"] >= 0.9 * steps
    assert steps > 0


def test_accesses_to_variables_on_node_1_are_counted(trainer: Trainer) -> None:
    """Variables leave fast memory before the first profile; they count towards the peak all the same."""
    managed(trainer, "summary_in_first_step.py")
    profile = trainer.get(trainer.run("ls /root/managed/*.json.gz").split()[0])
    (weights,) = (tensor for tensor in profile["tensors"] if tensor.get("name") == "Variable")
    assert weights["size"] == 64 * 64 * 4
    assert weights["reads"] > 0
    assert weights["touched"] >= weights["size"]


@pytest.mark.parametrize("script", REPEATABLE)
def test_scripts_train_with_default_threads(
    request: pytest.FixtureRequest, trainer: Trainer, script: str
) -> None:
    """Operations run in an order that changes from step to step, and losses need not repeat."""
    if not request.config.getoption("--slow"):
        pytest.skip("one of many; run with --slow")
    trainer.run(
        "rm -rf scripts/threads && mkdir scripts/threads && cp scripts/*.py scripts/threads &&"
        " sed -i 's/op_parallelism_threads=[0-9]/op_parallelism_threads=0/g' scripts/threads/*.py"
    )
    output, summary = managed(trainer, f"threads/{script}")
    assert losses(output)
    assert "DONE" in output
    assert summary["fast_peak"] <= summary["budget"]


@pytest.mark.parametrize("script", ["hogwild.py", "two_threads.py", "default_threads.py", "late_runtime.py"])
def test_scripts_that_do_not_repeat_finish_within_the_budget(
    request: pytest.FixtureRequest, trainer: Trainer, script: str
) -> None:
    if script != "hogwild.py" and not request.config.getoption("--slow"):
        pytest.skip("one of many; run with --slow")
    output, summary = managed(trainer, script)
    assert "DONE" in output
    assert summary["budget"] is None or summary["fast_peak"] <= summary["budget"]


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
