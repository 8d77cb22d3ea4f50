# SPDX-License-Identifier: Apache-2.0
"""The runner: every repeat is stored the moment it is over, whatever became of it. No machine is started."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from experiments import barrier_snapshot, boot, frameworks, job, matrix, profiles, provenance, runner
from experiments.estimate import Estimate
from experiments.matrix import Matrix
from experiments.profiles import Profiled
from experiments.runner import Outcome
from results import records
from results.records import FastMemory
from results.runs import Run
from sentinel.planner.errors import BudgetError
from sentinel.planner.formats import files
from testbed import vm
from testbed.common import errors, progress
from testbed.common.cache import Cache, Entry
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
from testbed.host import accel
from testbed.timing import calibration, counters
from testbed.vm import snapshot
from tests.fakes import profiles as fake_profiles

SUITE = """\
name: smoke
models:
  - { name: cnn }
  - { name: resnet20 }
placements: [fast-only, slow-only]
steps: 2
warmup: 1
repeats: 3
kernel: "4.9"
"""


def record(number: int) -> dict[str, Any]:
    return {
        "step": number,
        "warmup": number == 0,
        "guest_ns": 1_000_000 + number,
        "model_ns": None,
        "loss": (2.5 - number).hex(),
        "residency": {"anon": {"0": 4096}, "file": {}},
        "vmstat": {"pgfault": 1},
    }


class Machine:
    """A machine whose shell nobody talks to."""

    limits = SimpleNamespace(step=15.0)

    def __init__(self, console: Path) -> None:
        self.console_path = console
        self.counters_path = console.with_name("counters.jsonl")

    def watchdog(self) -> None:
        return

    def shell(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()


class Restored(str):
    """A saved machine of which only the name is known."""

    __slots__ = ()

    def costing(self, _preset: Any) -> Restored:
        return self


class Lab:
    """Guests that train by the book, until they are told otherwise."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.out = folder / "run"
        self.cache = Cache()
        self.trained: list[dict[str, Any]] = []  # the order of each training that began
        self.made: list[dict[str, Any]] = []  # the work of each snapshot that was asked for
        self.ended = 0
        self.troubles: dict[
            int, BaseException
        ] = {}  # number of the training -> what comes instead of the last step
        self.no_snapshot: BaseException | None = None
        self.trial = 0  # steps that are not measured, beside those of the order

    def plan(self, text: str = SUITE) -> Matrix:
        path = self.folder / "suite.yaml"
        path.write_text(text)
        return matrix.load(path)

    def run(self, text: str = SUITE) -> Outcome:
        return runner.run(self.plan(text), self.out, command="sentinel run suite.yaml", cache=self.cache)

    def stored(self) -> Run:
        run = Run.load(self.out)
        assert run.warnings == []
        return run

    def nodes(self) -> list[int]:
        """The node of each training so far."""
        return [order["memory"]["nodes"][0] for order in self.trained]

    # What takes the place of the real thing

    def make(self, machine: Any, **_: Any) -> Any:
        entry = Entry("kernel", "k", self.folder, {"release": "4.9.0", "packages": {"long": "list"}})
        kernel = SimpleNamespace(source="4.9", entry=entry)
        return SimpleNamespace(
            kernel=kernel,
            image=SimpleNamespace(entry=entry),
            boot=SimpleNamespace(accelerator="tcg", preset=None, remote=None),
        )

    def waiting(self, _boot: Any, work: dict[str, Any], **_: Any) -> Any:
        self.made.append(work)
        if self.no_snapshot is not None:
            raise self.no_snapshot
        return SimpleNamespace(key=f"snapshot of {work['model']['name']}")

    @contextlib.contextmanager
    def running(self, name: str, what: Any, **_: Any) -> Iterator[Any]:
        console = self.folder / "console.log"
        console.write_text(f"{what} trained as number {len(self.trained)}\n")
        try:
            yield Machine(console)
        finally:
            self.ended += 1

    def release(
        self, shell: Any, watchdog: Any, order: dict[str, Any], on_step: Any, *, per_step: float
    ) -> None:
        number = len(self.trained)
        self.trained.append(order)
        warmup = order["warmup"] + self.trial
        total = warmup + order["steps"]
        for i in range(total):
            if i == total - 1 and number in self.troubles:
                raise self.troubles[number]
            on_step({**record(i), "warmup": i < warmup})


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    lab = Lab(tmp_path)
    monkeypatch.setattr(accel, "qemu_version", lambda _: "QEMU emulator version 7.2.11")
    monkeypatch.setattr(boot, "prepare", lab.make)
    monkeypatch.setattr(barrier_snapshot, "ensure_barrier_snapshot", lab.waiting)
    monkeypatch.setattr(type(frameworks.DEFAULT), "check_image", lambda *_: None)
    monkeypatch.setattr(snapshot, "load", lambda entry, *, cache: Restored(f"restored {entry.key}"))
    monkeypatch.setattr(vm, "running", lab.running)
    monkeypatch.setattr(job, "release", lab.release)
    monkeypatch.setattr(provenance, "git_commit", lambda: "0123456789abcdef")
    return lab


class Listener:
    """A shell that notes what is put where."""

    def __init__(self) -> None:
        self.put_there: list[str] = []

    def put(self, source: Path, target: str) -> None:
        assert files.read_plan(source).budget > 0
        self.put_there.append(target)


BUDGETED = """\
name: budgets
models:
  - { name: resnet20 }
placements: [fast-only, first-touch, sentinel-opt, sentinel]
fast_memory: [5%, 60%]
preset: optane-6dimm
steps: 2
repeats: 2
kernel: "4.9"
"""


def test_cells_with_a_budget_get_it_in_bytes_and_sentinel_a_plan(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "profile.json.gz"
    files.write_profile(path, fake_profiles.resnet(seed=7))
    profiled = Profiled(path, files.read_profile(path), 7.6e6)
    asked: list[str] = []
    listener = Listener()

    def measured(entry: Any, preset: Any, **_: Any) -> Profiled:
        asked.append(entry.key)
        return profiled

    monkeypatch.setattr(profiles, "ensure_profile", measured)
    monkeypatch.setattr(Machine, "shell", lambda _: contextlib.nullcontext(listener))
    monkeypatch.setattr(calibration, "of", lambda *_, **__: None)
    monkeypatch.setattr(calibration, "told", lambda _: None)
    monkeypatch.setattr(counters, "check", lambda _: None)
    outcome = lab.run(BUDGETED)
    budgets = [order.get("fast_memory") for order in lab.trained]
    small, large = (int(profiled.peak * share) for share in (0.05, 0.6))
    assert budgets == [None, None, *[small, small, large, large] * 3]
    assert [("plan" in order) for order in lab.trained] == [False] * 6 + [True] * 8
    assert listener.put_there == [order["plan"] for order in lab.trained[-8:]]
    made = [files.read_plan(path) for path in sorted(lab.out.glob("cells/*/*/plan.json.gz"))]
    rules = [plan.predicted["rule"] for plan in made]
    assert len(rules) == 8 and rules.count("as published") >= 4
    cells = {(c.resolved["placement"], c.resolved.get("fast_memory")): c for c in lab.stored().cells}
    recorded = {at: cell.repeats[1].provenance.fast_memory for at, cell in cells.items()}
    assert recorded["fast-only", None] is None
    for placement in ("first-touch", "sentinel-opt", "sentinel"):
        for share, size in (("5%", small), ("60%", large)):
            assert recorded[placement, share] == FastMemory(budget_bytes=size, peak_bytes=profiled.peak)
    assert asked == ["snapshot of resnet20"]  # once for all
    assert lab.made[0]["runtime"] is True
    assert outcome.failures == []


def test_a_budget_for_which_there_is_no_plan_fails_its_cell_alone(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise BudgetError("the budget of 4 bytes is below the floor of 8: 4 for this and 4 for that", floor=8)

    profiled = Profiled(tmp_path, fake_profiles.resnet(seed=7), 7.6e6)
    monkeypatch.setattr(Profiled, "plan", refused)
    monkeypatch.setattr(profiles, "ensure_profile", lambda *_, **__: profiled)
    monkeypatch.setattr(calibration, "of", lambda *_, **__: None)
    monkeypatch.setattr(calibration, "told", lambda _: None)
    monkeypatch.setattr(counters, "check", lambda _: None)
    outcome = lab.run(BUDGETED)
    assert (outcome.done, len(outcome.failures)) == (6, 4)
    least = -(-800 // profiled.peak)
    assert outcome.failures[0].code == ExitCode.USAGE
    assert re.fullmatch(
        rf"the budget of resnet20 b8, sentinel-opt, 5%, .* MiB, is below the floor of 0.0 MiB: the smallest "
        rf"share is {least}%",
        outcome.failures[0].message,
    )
    assert {f.result.verdict for cell in lab.stored().cells for f in cell.failures} == {"usage"}


def test_every_repeat_of_every_cell_is_run_and_stored(lab: Lab) -> None:
    outcome = lab.run()
    assert (outcome.done, outcome.kept, outcome.failures) == (12, 0, [])
    run = lab.stored()
    assert [len(cell.repeats) for cell in run.cells] == [3, 3, 3, 3]
    assert lab.nodes() == ([0] * 3 + [1] * 3) * 2
    assert {(order["steps"], order["warmup"]) for order in lab.trained} == {(2, 1)}
    assert [work["model"]["name"] for work in lab.made] == ["cnn", "resnet20"]  # one snapshot a model
    assert lab.ended == 12


def test_steps_that_are_not_measured_are_told_apart(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(progress.Step, "update", lambda _, fraction=None, text="": told.append(text))
    lab.trial = 2
    lab.run()
    steps = [text.split(", ")[-2] for text in told if text.startswith("cnn b8, fast-only, repeat 1/3, ")]
    assert steps == [
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
    assert (repeat.path / "console.log").read_text() == "restored snapshot of cnn trained as number 5\n"
    assert repeat.cell["placement"] == "slow-only"
    made = repeat.provenance
    assert made.command == "sentinel run suite.yaml"
    assert made.accelerator == "tcg"
    assert made.git_commit == "0123456789abcdef"
    assert made.qemu == "QEMU emulator version 7.2.11"
    assert made.kernel == {"release": "4.9.0"}
    assert made.host["cpus"] >= 1
    assert made.model_extra == {"snapshot": "snapshot of cnn"}


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
def test_a_failed_repeat_is_stored_with_its_verdict_and_the_run_goes_on(
    lab: Lab, failure: SentinelError, verdict: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lab.troubles[1] = failure  # the second repeat of the first cell
    outcome = lab.run()
    assert outcome.failures == [failure]
    assert outcome.done == 11
    first = lab.stored().cells[0]
    assert [repeat.number for repeat in first.repeats] == [0, 2]
    (failed,) = first.failures
    assert (failed.number, failed.result.verdict, failed.result.message) == (1, verdict, failure.message)
    assert len(failed.steps) == 2  # what was measured before it failed is kept
    assert f"warning: cnn b8, fast-only, repeat 2: {failure.message}" in capsys.readouterr().err


def test_a_failure_that_names_a_log_keeps_that_log(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "other.log").write_text("what happened")
    lab.troubles[1] = GuestPanicError("it oopsed", log=tmp_path / "other.log")
    lab.run()
    (failed,) = lab.stored().cells[0].failures
    assert (failed.path / "console.log").read_text() == "what happened"


def test_a_second_run_does_only_what_is_missing(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    lab.troubles[4] = WorkloadError("once")
    lab.run()
    lab.troubles.clear()
    lab.trained.clear()
    outcome = lab.run()
    assert (outcome.done, outcome.kept) == (1, 11)
    assert lab.nodes() == [1]
    assert "11 finished repeats are kept" in capsys.readouterr().err
    cell = lab.stored().cells[1]
    assert [repeat.number for repeat in cell.repeats] == [0, 1, 2]
    assert [repeat.number for repeat in cell.failures] == [1]


def test_a_whole_run_is_left_as_it_is(lab: Lab) -> None:
    lab.run()
    lab.trained.clear()
    lab.made.clear()
    outcome = lab.run()
    assert (outcome.done, outcome.kept, lab.trained, lab.made) == (0, 12, [], [])


def test_more_repeats_of_the_same_cells_are_added(lab: Lab) -> None:
    lab.run()
    assert lab.run(SUITE.replace("repeats: 3", "repeats: 4")).done == 4


def test_an_interrupted_run_keeps_what_it_has_and_resumes(lab: Lab) -> None:
    lab.troubles[5] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        lab.run()
    assert sum(len(cell.repeats) for cell in lab.stored().cells) == 5
    assert lab.ended == 6  # the machine is ended too
    lab.troubles.clear()
    assert lab.run().done == 7


def test_a_cell_that_only_fails_is_given_up_at_once(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    lab.troubles.update({i: WorkloadError(f"number {i}") for i in range(12)})
    outcome = lab.run()
    assert len(lab.trained) == 4
    assert [str(failure) for failure in outcome.failures] == ["number 0", "number 1", "number 2", "number 3"]
    assert capsys.readouterr().err.count(": skipped after 1 failed repeat; ") == 4


def test_a_cell_that_fails_too_often_is_given_up(lab: Lab) -> None:
    lab.troubles.update({1: WorkloadError("a"), 3: WorkloadError("b"), 4: WorkloadError("c")})
    outcome = lab.run(SUITE.replace("repeats: 3", "repeats: 8"))
    assert lab.nodes().count(0) == 5 + 8
    assert outcome.done == 2 + 3 * 8
    assert [str(failure) for failure in outcome.failures] == ["a"]


def test_a_snapshot_that_cannot_be_made_is_a_failure_of_the_cells_that_need_it(lab: Lab) -> None:
    lab.no_snapshot = GuestHangError("the guest hangs before its barrier")
    outcome = lab.run()
    assert (outcome.done, len(outcome.failures)) == (0, 4)
    for cell in lab.stored().cells:
        (failed,) = cell.failures
        assert failed.result.verdict == "guest hang"
        assert failed.steps == []


@pytest.mark.parametrize("reason", [UsageError("no such thing"), BuildError("no compiler")])
def test_what_this_host_refuses_to_everybody_ends_the_run(lab: Lab, reason: SentinelError) -> None:
    lab.no_snapshot = reason
    with pytest.raises(type(reason)):
        lab.run()
    assert len(lab.made) == 1
    assert all(not cell.failures for cell in lab.stored().cells)


def test_a_kernel_that_cannot_be_built_leaves_no_run(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise BuildError("no compiler")

    monkeypatch.setattr(boot, "prepare", refuse)
    with pytest.raises(BuildError):
        lab.run()
    assert not lab.out.exists()


def test_a_folder_of_a_different_suite_is_refused_and_untouched(lab: Lab) -> None:
    lab.run()
    before = (lab.out / "run.json").read_text()
    lab.trained.clear()
    with pytest.raises(UsageError, match=r"holds a run of a different suite \(smoke, ") as caught:
        lab.run(SUITE.replace("steps: 2", "steps: 3"))
    assert caught.value.hint is not None
    assert "--out" in caught.value.hint
    assert lab.trained == []
    assert (lab.out / "run.json").read_text() == before


def test_a_different_suite_is_refused_before_anything_is_built(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.run(SUITE.replace('kernel: "4.9"', "kernel: auto"))
    monkeypatch.setattr(boot, "prepare", lambda *_, **__: pytest.fail("something was built"))
    with pytest.raises(UsageError, match="holds a run of a different suite"):
        lab.run(SUITE.replace("steps: 2", "steps: 3"))


def test_a_second_run_into_the_same_folder_is_refused_at_once(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[UsageError] = []

    def run_again(*_: object, **__: object) -> Any:
        with pytest.raises(UsageError) as caught:
            lab.run()
        refused.append(caught.value)
        return lab.make(None)

    monkeypatch.setattr(boot, "prepare", run_again)
    assert lab.run().done == 12
    (error,) = refused
    assert f"in use by process {os.getpid()}, since " in error.message
    assert error.message.endswith(": sentinel run suite.yaml")
    assert all(len(cell.repeats) == 3 and not cell.failures for cell in lab.stored().cells)


def test_a_folder_of_something_else_is_refused_and_untouched(lab: Lab) -> None:
    lab.out.mkdir()
    (lab.out / "thesis.tex").write_text("precious")
    with pytest.raises(UsageError, match=r"is not empty and is not a run: it holds thesis\.tex"):
        lab.run()
    assert [path.name for path in lab.out.iterdir()] == ["thesis.tex"]
    assert lab.trained == []


def test_auto_is_recorded_as_the_kernel_it_came_to(lab: Lab) -> None:
    lab.run(SUITE.replace('kernel: "4.9"', "kernel: auto"))
    assert {cell.resolved["kernel"] for cell in lab.stored().cells} == {"4.9"}
    assert json.loads((lab.out / "run.json").read_text())["resolved"]["kernel"] == "4.9"


def test_an_estimate_counts_steps_and_leaves_out_what_is_between_repeats() -> None:
    now = [0.0]
    estimate = Estimate(4, 8, now=lambda: now[0])
    assert estimate.fraction == 0.0
    assert estimate.remaining() == "estimating"
    now[0] += 1000  # a snapshot is made
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
    estimate.begin()
    now[0] += 500
    assert estimate.remaining() == "about 9 min left"
    for _ in range(20):  # a repeat may have more steps than were counted on, and is one repeat even so
        estimate.step_done()
    assert estimate.fraction == 0.75
    estimate.finish(5)
    assert estimate.fraction == 1.0
    assert estimate.remaining() == "about 0 s left"
    assert Estimate(0, 8).fraction == 1.0
