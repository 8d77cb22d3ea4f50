# SPDX-License-Identifier: Apache-2.0
"""The runner on a backend that starts no machine: what is run, stored, retried and resumed."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from experiments import policies
from experiments.estimate import Estimate
from experiments.job import ProcessError
from experiments.policies import Needs, PlanContext, Policy
from experiments.profiles import Profiled, Profiles
from results import records
from results.records import FastMemory, profile_path
from sentinel.planner.errors import BudgetError
from sentinel.planner.formats import files
from testbed.common import errors, progress
from testbed.common.errors import (
    BuildError,
    ExitCode,
    GuestHangError,
    GuestPanicError,
    InfrastructureError,
    LostConnectionError,
    SentinelError,
    UsageError,
    WorkloadError,
)
from tests.fakes import networks
from tests.fakes.backend import FakeBackend, record
from tests.fakes.lab import SUITE, Lab

BUDGETS = """\
name: budgets
models:
  - { name: resnet20 }
placements: [fast-only, first-touch, sentinel-opt, sentinel]
fast_memory: [5%, 60%]
preset: optane-6dimm
steps: 2
repeats: 2
order_seed: null
kernel: "4.9"
"""


KINDS = ("0123456789ab", "ba9876543210")


@pytest.fixture
def profiles(tmp_path: Path) -> Profiles:
    """Two kinds of steps; the first has the larger peak."""
    kinds = {}
    for kind, seed in zip(KINDS, (7, 8), strict=True):
        path = tmp_path / f"{kind}.json.gz"
        files.write_profile(path, networks.resnet(seed=seed, blocks=9 - seed))
        kinds[kind] = Profiled(path, files.read_profile(path), 7.6e6)
    assert kinds[KINDS[0]].peak > kinds[KINDS[1]].peak
    return Profiles(kinds)


def test_cells_get_their_budget_in_bytes_and_their_plans(lab: Lab, profiles: Profiles) -> None:
    lab.backend.profiles_ = profiles
    outcome = lab.run(BUDGETS)
    orders = lab.backend.orders
    peak = profiles.kinds[KINDS[0]].peak
    small, large = (int(peak * share) for share in (0.05, 0.6))
    assert [order.get("fast_memory") for order in orders] == [None, None, *[small, small, large, large] * 3]
    assert [order.get("limit") for order in orders] == [None] * 2 + ["first-touch"] * 4 + [None] * 8
    assert [("plan" in order) for order in orders] == [False] * 6 + [True] * 8
    assert lab.backend.plans == [[f"{kind}.json.gz" for kind in KINDS]] * 8
    cells = {(c.resolved["placement"], c.resolved.get("fast_memory")): c for c in lab.stored().cells}
    for (placement, _), cell in cells.items():
        for repeat in cell.repeats:
            plans = {kind: files.read_plan(path) for kind, path in repeat.plans.items()}
            assert set(plans) == (set(KINDS) if placement.startswith("sentinel") else set())
            for kind, plan in plans.items():
                assert plan.graph == profiles.kinds[kind].profile.graph
                assert placement != "sentinel" or plan.predicted["rule"] == "paper"
                kept = profile_path(lab.out, plan.made["profile"])
                assert kept.read_bytes() == profiles.kinds[kind].path.read_bytes()
    assert len(list((lab.out / "profiles").iterdir())) == len(KINDS)
    recorded = {key: cell.repeats[1].provenance.fast_memory for key, cell in cells.items()}
    assert recorded["fast-only", None] is None
    for placement in ("first-touch", "sentinel-opt", "sentinel"):
        for share, size in (("5%", small), ("60%", large)):
            assert recorded[placement, share] == FastMemory(budget_bytes=size, peak_bytes=peak)
    assert lab.backend.profiled_snapshots == ["snapshot of resnet20"]  # once for all cells
    assert lab.backend.works[0].runtime
    assert outcome.failures == []


ONLINE = (
    BUDGETS.replace("[5%, 60%]", "[20%, 4 MiB]")
    .replace("steps: 2", "steps: 2\nonline: true")
    .replace("{ name: resnet20 }", "{ script: train.py }")
)


def test_a_policy_may_plan_in_the_guest(lab: Lab) -> None:
    (lab.folder / "train.py").touch()
    lab.backend.summary = {"budget": 5, "peak": 25}
    assert lab.run(ONLINE.replace("first-touch, ", "")).failures == []
    orders, inputs = lab.backend.orders, lab.backend.inputs
    assert orders[2]["online"] == {
        "policy": "sentinel-opt",
        "fast_memory": "20%",
        "figures": "/opt/sentinel/figures.json",
        "skip": 1,
        "wait": True,
    }
    assert orders[4]["online"]["fast_memory"] == 4 << 20
    assert not {"memory", "fast_memory", "plan"} & orders[2].keys()
    assert list(inputs[0]) == ["/opt/sentinel/figures.json"]
    assert list(inputs[2]) == ["/opt/sentinel/figures.json", "/opt/sentinel/sentinel/planner"]
    assert lab.backend.figures_received is not None
    assert lab.backend.figures_received.migration_cores == 1
    assert lab.backend.profiled_snapshots == []
    fast, share = lab.stored().cells[:2]
    assert json.loads((share.repeats[1].path / "summary.json").read_text()) == lab.backend.summary
    assert not (fast.repeats[1].path / "summary.json").exists()
    assert share.repeats[1].provenance.fast_memory == FastMemory(budget_bytes=5, peak_bytes=25)


def test_a_size_needs_no_profile(lab: Lab) -> None:
    (lab.folder / "train.py").touch()
    assert lab.run(ONLINE.replace("20%, ", "").replace("sentinel-opt, ", "")).failures == []
    assert [order.get("fast_memory") for order in lab.backend.orders] == [None] * 2 + [4 << 20] * 2 + [
        None
    ] * 2
    assert lab.backend.profiled_snapshots == []
    first_touch = lab.stored().cells[1].repeats[0]
    assert first_touch.provenance.fast_memory == FastMemory(budget_bytes=4 << 20)


def test_watched_cells_come_first_and_pass_on_their_output(lab: Lab) -> None:
    (lab.folder / "train.py").write_text("")
    suite = (
        ONLINE.replace("{ name: resnet20 }", "{ script: train.py }")
        .replace("20%, ", "")
        .replace("steps: 2", "steps: 2")
    )
    received: list[bytes] = []
    assert lab.run(suite, on_output=received.append).done == 8
    assert [("online" in order) for order in lab.backend.orders] == [True] * 4 + [False] * 4
    assert received == [b"epoch 1\n"] * 4
    assert [cell.resolved["placement"] for cell in lab.stored().cells][:2] == ["fast-only", "first-touch"]


def test_a_failure_of_a_watched_cell_ends_the_run(lab: Lab) -> None:
    (lab.folder / "train.py").touch()
    lab.backend.failures[0] = ProcessError("the training process failed with exit status 3", status=3)
    outcome = lab.run(ONLINE, on_output=lambda _: None)
    assert outcome.failures == [lab.backend.failures[0]]
    assert len(lab.backend.orders) == 1


def test_a_budget_below_the_floor_of_a_kind_fails_its_cell_alone(
    lab: Lab, profiles: Profiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    floors = iter((8, 6) * 4)

    def refuse(*_: Any, **__: Any) -> None:
        floor = next(floors)
        raise BudgetError(f"the budget of 4 bytes is below the floor of {floor}: 4 for this", floor=floor)

    monkeypatch.setattr(Profiled, "plan", refuse)
    lab.backend.profiles_ = profiles
    outcome = lab.run(BUDGETS)
    assert (outcome.done, len(outcome.failures)) == (6, 4)
    least = -(-800 // profiles.peak)
    assert outcome.failures[0].code == ExitCode.USAGE
    assert re.fullmatch(
        rf"the budget of resnet20 b8, sentinel-opt, 5%, .* MiB, is below the floor of 0.0 MiB: the smallest "
        rf"share is {least}%",
        outcome.failures[0].message,
    )
    assert {f.result.verdict for cell in lab.stored().cells for f in cell.failures} == {"usage"}


def test_a_kind_for_which_a_policy_makes_no_plan_is_left_out(
    lab: Lab, profiles: Profiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Profiled.plan

    def first_kind_only(self: Profiled, budget: int, figures: Any, **options: Any) -> Any:
        return plan(self, budget, figures, **options) if KINDS[0] in self.path.name else None

    monkeypatch.setattr(Profiled, "plan", first_kind_only)
    lab.backend.profiles_ = profiles
    assert lab.run(BUDGETS.replace("sentinel-opt, ", "").replace("5%, ", "")).failures == []
    assert lab.backend.plans == [[f"{KINDS[0]}.json.gz"]] * 2


def make_no_plan(_: PlanContext) -> None:
    return None


PLANLESS = Policy(
    name="planless",
    description="never makes a plan",
    source="-",
    needs=Needs(budget="required", preset=True, profile=True, runtime=True),
    plan=make_no_plan,
)


def test_a_policy_that_makes_no_plan_and_has_no_limit_fails_its_cell(
    lab: Lab, profiles: Profiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = {**policies.registry(), "planless": PLANLESS}
    monkeypatch.setattr(policies, "registry", lambda: registry)
    lab.backend.profiles_ = profiles
    outcome = lab.run(BUDGETS.replace("sentinel-opt, sentinel", "planless"))
    assert [str(failure) for failure in outcome.failures] == [
        f"no plan for resnet20 b8, planless, {share}: planless did not make one" for share in ("5%", "60%")
    ]


def test_every_repeat_of_every_cell_is_run_and_stored(lab: Lab) -> None:
    outcome = lab.run()
    assert (outcome.done, outcome.kept, outcome.failures) == (12, 0, [])
    assert [len(cell.repeats) for cell in lab.stored().cells] == [3, 3, 3, 3]
    assert lab.nodes() == ([0] * 3 + [1] * 3) * 2
    assert {(order["steps"], order["warmup"]) for order in lab.backend.orders} == {(2, 1)}
    assert [work.name for work in lab.backend.works] == ["cnn", "resnet20"]  # one per model


SCRIPT = SUITE.replace("{ name: resnet20 }", "{ script: train.py, args: [-v] }")


def test_the_output_of_a_script_is_stored(lab: Lab) -> None:
    (lab.folder / "train.py").write_text("print('epoch 1')\n")
    assert lab.run(SCRIPT).done == 12
    model, script = lab.stored().cells[1:3]
    assert [work.name for work in lab.backend.works] == ["cnn", "train.py"]
    assert lab.backend.works[1].model is None
    assert (script.repeats[0].path / "output.log").read_text() == "epoch 1\n"
    assert not (model.repeats[0].path / "output.log").exists()
    (lab.folder / "train.py").write_text("print('epoch 2')\n")
    with pytest.raises(UsageError, match="holds a run of a different suite"):
        lab.run(SCRIPT)


def test_the_output_of_a_script_that_never_trains_is_stored(lab: Lab) -> None:
    (lab.folder / "train.py").write_text("1 / 0\n")
    lab.backend.snapshot_failure = ProcessError("train.py exited", status=1, output="Traceback\n")
    outcome = lab.run(SCRIPT.replace("  - { name: cnn }\n", ""))
    assert [failure.code for failure in outcome.failures] == [ExitCode.WORKLOAD] * 2
    (failed,) = lab.stored().cells[0].failures
    assert (failed.path / "output.log").read_text() == "Traceback\n"


def test_progress_tells_unmeasured_steps_apart(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    texts: list[str] = []
    monkeypatch.setattr(progress.Step, "update", lambda _, fraction=None, text="": texts.append(text))
    lab.backend.trial_steps = 2
    lab.run()
    activities = [
        text.split(", ")[-2] for text in texts if text.startswith("cnn b8, fast-only, repeat 1/3, ")
    ]
    assert activities == [
        "restoring",
        "warm-up step 1",
        "warm-up step 2",
        "warm-up step 3",
        "step 1/2",
        "step 2/2",
    ]


def test_a_repeat_holds_its_steps_console_and_provenance(lab: Lab) -> None:
    lab.run()
    repeat = lab.stored().cells[1].repeats[2]
    assert repeat.result.status == "ok"
    assert repeat.steps == [records.Step.model_validate(record(i)) for i in range(3)]
    assert (repeat.path / "console.log").read_text() == "snapshot of cnn trained as number 5\n"
    assert repeat.cell["placement"] == "slow-only"
    origin = repeat.provenance
    assert origin.command == "sentinel run suite.yaml"
    assert origin.accelerator == "tcg"
    assert origin.git_commit == "0123456789abcdef"
    assert origin.qemu == "QEMU emulator version 7.2.11"
    assert origin.kernel == {"release": "4.9.0"}
    assert origin.host["cpus"] >= 1
    assert origin.model_extra == {"snapshot": "snapshot of cnn", "runtime": "a digest"}


@pytest.mark.parametrize(
    ("failure", "verdict"),
    [
        (GuestPanicError("it oopsed"), "guest panic"),
        (GuestHangError("it hangs"), "guest hang"),
        (WorkloadError("exit 1"), "workload failed"),
        (LostConnectionError("lost"), "lost connection"),
        (InfrastructureError("QEMU died"), "infrastructure"),
        (errors.BootError("no boot"), "boot"),
    ],
)
def test_a_failed_repeat_is_stored_with_its_verdict_and_the_run_continues(
    lab: Lab, failure: SentinelError, verdict: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lab.backend.failures[1] = failure  # the second repeat of the first cell
    outcome = lab.run()
    assert outcome.failures == [failure]
    assert outcome.done == 11
    cell = lab.stored().cells[0]
    assert [repeat.number for repeat in cell.repeats] == [0, 2]
    (failed,) = cell.failures
    assert (failed.number, failed.result.verdict, failed.result.message) == (1, verdict, failure.message)
    assert len(failed.steps) == 2  # the steps before the failure are kept
    assert f"warning: cnn b8, fast-only, repeat 2: {failure.message}" in capsys.readouterr().err


def test_the_log_of_a_failure_is_kept(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "other.log").write_text("what happened")
    lab.backend.failures[1] = GuestPanicError("it oopsed", log=tmp_path / "other.log")
    lab.run()
    (failed,) = lab.stored().cells[0].failures
    assert (failed.path / "console.log").read_text() == "what happened"


def test_a_second_run_does_only_the_missing_repeats(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    lab.backend.failures[4] = WorkloadError("once")
    lab.run()
    lab.backend = FakeBackend(lab.folder)
    outcome = lab.run()
    assert (outcome.done, outcome.kept) == (1, 11)
    assert lab.nodes() == [1]
    assert "11 finished repeats are kept" in capsys.readouterr().err
    cell = lab.stored().cells[1]
    assert [repeat.number for repeat in cell.repeats] == [0, 1, 2]
    assert [repeat.number for repeat in cell.failures] == [1]


def test_a_complete_run_is_not_changed(lab: Lab) -> None:
    lab.run()
    lab.backend = FakeBackend(lab.folder)
    outcome = lab.run()
    assert (outcome.done, outcome.kept) == (0, 12)
    assert (lab.backend.orders, lab.backend.works) == ([], [])


def test_chosen_cells_are_run_alone_and_the_others_later(lab: Lab) -> None:
    label = "cnn b8, slow-only"
    outcome = lab.run(only=[label])
    assert (outcome.done, outcome.kept) == (3, 0)
    assert lab.nodes() == [1, 1, 1]
    assert [len(cell.repeats) for cell in lab.stored().cells] == [0, 3, 0, 0]
    assert (lab.run(only=[label]).done, lab.run(only=[label]).kept) == (0, 3)
    outcome = lab.run()
    assert (outcome.done, outcome.kept) == (9, 3)


def test_each_repeat_holds_the_command_of_its_cell(lab: Lab) -> None:
    lab.run(command_of=lambda cell: f"measure {cell.policy.name}")
    commands = [repeat.provenance.command for cell in lab.stored().cells for repeat in cell.repeats]
    assert commands == [*["measure fast-only"] * 3, *["measure slow-only"] * 3] * 2


def test_more_repeats_of_the_same_cells_are_added(lab: Lab) -> None:
    lab.run()
    assert lab.run(SUITE.replace("repeats: 3", "repeats: 4")).done == 4


def test_an_interrupted_run_keeps_its_records_and_resumes(lab: Lab) -> None:
    lab.backend.failures[5] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        lab.run()
    assert sum(len(cell.repeats) for cell in lab.stored().cells) == 5
    lab.backend.failures.clear()
    assert lab.run().done == 7


def test_a_cell_is_skipped_when_all_its_repeats_fail(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    lab.backend.failures.update({i: WorkloadError(f"number {i}") for i in range(12)})
    outcome = lab.run()
    assert len(lab.backend.orders) == 4
    assert [str(failure) for failure in outcome.failures] == ["number 0", "number 1", "number 2", "number 3"]
    assert capsys.readouterr().err.count(": skipped after 1 failed repeat; run the suite again to retry") == 4


def test_a_cell_is_skipped_after_three_failures(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    lab.backend.failures.update({1: WorkloadError("a"), 3: WorkloadError("b"), 4: WorkloadError("c")})
    outcome = lab.run(SUITE.replace("repeats: 3", "repeats: 8"))
    assert lab.nodes().count(0) == 5 + 8
    assert outcome.done == 2 + 3 * 8
    assert [str(failure) for failure in outcome.failures] == ["a"]
    assert "cnn b8, fast-only: skipped after 3 failed repeats" in capsys.readouterr().err


def test_a_failed_snapshot_fails_the_cells_that_need_it(lab: Lab) -> None:
    lab.backend.snapshot_failure = GuestHangError("the guest hangs before its barrier")
    outcome = lab.run()
    assert (outcome.done, len(outcome.failures)) == (0, 4)
    for cell in lab.stored().cells:
        (failed,) = cell.failures
        assert failed.result.verdict == "guest hang"
        assert failed.steps == []


@pytest.mark.parametrize("reason", [UsageError("no such thing"), BuildError("no compiler")])
def test_a_failure_of_the_host_ends_the_run(lab: Lab, reason: SentinelError) -> None:
    lab.backend.snapshot_failure = reason
    with pytest.raises(type(reason)):
        lab.run()
    assert len(lab.backend.works) == 1
    assert all(not cell.failures for cell in lab.stored().cells)


def refuse_to_build() -> None:
    raise BuildError("no compiler")


def test_a_failed_build_leaves_no_run(lab: Lab) -> None:
    lab.backend.on_prepare = refuse_to_build
    with pytest.raises(BuildError):
        lab.run()
    assert not lab.out.exists()


def test_an_image_without_the_framework_is_refused(lab: Lab) -> None:
    lab.backend.python = {"numpy-1.16.6-cp27-cp27mu-manylinux1_x86_64.whl": "hash"}
    with pytest.raises(BuildError, match=r"the guest image does not hold tensorflow 1\.13\.1"):
        lab.run()


def test_a_kernel_without_an_option_that_a_policy_needs_is_refused(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    balancing = Policy(
        name="balancing",
        description="NUMA balancing",
        source="Linux",
        needs=Needs(budget="none", kernel_options=("CONFIG_NUMA_BALANCING",)),
    )
    registry = {**policies.registry(), "balancing": balancing}
    monkeypatch.setattr(policies, "registry", lambda: registry)
    suite = SUITE.replace("slow-only", "balancing")
    with pytest.raises(
        UsageError, match=r"balancing needs CONFIG_NUMA_BALANCING, which kernel 4\.9\.0 lacks"
    ):
        lab.run(suite)
    lab.backend.kernel_config = "CONFIG_NUMA=y\nCONFIG_NUMA_BALANCING=y\n"
    assert lab.run(suite).done == 12


def test_a_folder_of_a_different_suite_is_refused_and_not_changed(lab: Lab) -> None:
    lab.run()
    before = (lab.out / "run.json").read_text()
    lab.backend = FakeBackend(lab.folder)
    with pytest.raises(UsageError, match=r"holds a run of a different suite \(smoke, ") as caught:
        lab.run(SUITE.replace("steps: 2", "steps: 3"))
    assert caught.value.hint is not None
    assert "--out" in caught.value.hint
    assert lab.backend.orders == []
    assert (lab.out / "run.json").read_text() == before


def test_a_different_suite_is_refused_before_anything_is_built(lab: Lab) -> None:
    lab.run(SUITE.replace('kernel: "4.9"', "kernel: auto"))
    lab.backend.on_prepare = lambda: pytest.fail("something was built")
    with pytest.raises(UsageError, match="holds a run of a different suite"):
        lab.run(SUITE.replace("steps: 2", "steps: 3"))


def test_a_second_run_into_the_same_folder_is_refused_at_once(lab: Lab) -> None:
    refused: list[UsageError] = []

    def run_again() -> None:
        if not refused:
            with pytest.raises(UsageError) as caught:
                lab.run()
            refused.append(caught.value)

    lab.backend.on_prepare = run_again
    assert lab.run().done == 12
    (error,) = refused
    assert f"in use by process {os.getpid()}, since " in error.message
    assert error.message.endswith(": sentinel run suite.yaml")
    assert all(len(cell.repeats) == 3 and not cell.failures for cell in lab.stored().cells)


def test_a_folder_with_other_files_is_refused_and_not_changed(lab: Lab) -> None:
    lab.out.mkdir()
    (lab.out / "thesis.tex").write_text("precious")
    with pytest.raises(UsageError, match=r"is not empty and is not a run: it holds thesis\.tex"):
        lab.run()
    assert [path.name for path in lab.out.iterdir()] == ["thesis.tex"]
    assert lab.backend.orders == []


def test_records_name_the_kernel_that_auto_resolved_to(lab: Lab) -> None:
    lab.run(SUITE.replace('kernel: "4.9"', "kernel: auto"))
    assert {cell.resolved["kernel"] for cell in lab.stored().cells} == {"4.9"}
    assert json.loads((lab.out / "run.json").read_text())["resolved"]["kernel"] == "4.9"


def test_an_estimate_counts_steps_and_leaves_out_the_time_between_repeats() -> None:
    now = [0.0]
    estimate = Estimate(4, 8, now=lambda: now[0])
    assert estimate.fraction == 0.0
    assert estimate.remaining() == "estimating"
    now[0] += 1000  # a snapshot is created
    for _ in range(2):
        estimate.begin()
        now[0] += 2
        for _ in range(8):
            now[0] += 1
            estimate.step_done()
        estimate.finish()
        now[0] += 500
    assert estimate.fraction == 0.5
    assert estimate.remaining() == "about 20 s left"
    assert estimate.remaining(workers=4) == "about 5 s left"
    estimate.begin()
    now[0] += 500
    assert estimate.remaining() == "about 9 min left"
    for _ in range(20):  # more steps than expected still are one repeat
        estimate.step_done()
    assert estimate.fraction == 0.75
    estimate.finish(5)
    assert estimate.fraction == 1.0
    assert estimate.remaining() == "about 0 s left"
    assert Estimate(0, 8).fraction == 1.0
