# SPDX-License-Identifier: Apache-2.0
"""Suites that are replayed, from a trace that the tests make."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments import matrix, runner
from experiments.matrix import Matrix
from experiments.profiles import Profiled
from experiments.replay_backend import Replayer
from experiments.runner import Outcome
from results import report
from results.compare import compare
from results.runs import Run
from results.sides import Side
from sentinel.planner import check
from sentinel.planner.formats import files
from sentinel.planner.formats.plan import Plan
from testbed.common.errors import UsageError
from testbed.timing.preset import Preset
from tests.fakes.access_traces import PAGES, Recording
from tests.fakes.backend import FakeBackend
from tests.unit.test_replay import moving_variable

Command = Callable[..., tuple[int, str, str]]
SUITE = """
name: replayed
mode: replay
preset: optane-6dimm
kernel: "6.1"
models: [{{ name: lstm, batch: 8 }}]
placements: [fast-only, slow-only, first-touch, {policies}]
fast_memory: [25%, 50%]
repeats: 2
"""


class Machines(FakeBackend):
    """Virtual machines that have recorded the trace."""

    path: Path
    recorded = 0

    def access_trace(self, waiting: Any, preset: Preset, *, work: str) -> Path:
        self.recorded += 1
        assert work == "lstm"
        return self.path


@pytest.fixture
def machines(tmp_path: Path) -> Machines:
    recording = Recording()
    recording.step()
    made = Machines(tmp_path)
    made.path = recording.write(tmp_path)
    return made


def suite(tmp_path: Path, text: str = SUITE, policies: str = "sentinel, sentinel-opt") -> Matrix:
    path = tmp_path / "suite.yaml"
    path.write_text(text.format(policies=policies))
    return matrix.load(path)


def replay(matrix: Matrix, out: Path, machines: Machines) -> Outcome:
    return runner.run(matrix, out, command="sentinel run", backend=Replayer(machines))  # type: ignore[arg-type]


def test_suite_is_replayed_from_one_recording(tmp_path: Path, machines: Machines) -> None:
    outcome = replay(suite(tmp_path), tmp_path / "out", machines)
    assert (outcome.done, outcome.failures) == (16, [])
    assert machines.recorded == 1
    run = Run.load(tmp_path / "out")
    assert run.warnings == []
    times: dict[tuple[str, str | None], int] = {}
    for cell in run.cells:
        assert len(cell.repeats) == 2
        (step,) = {s.model_ns for r in cell.repeats for s in r.steps if not s.warmup}
        assert step is not None
        times[cell.resolved["placement"], cell.resolved.get("fast_memory")] = step
        assert cell.resolved["mode"] == "replay"
    fast, slow = times["fast-only", None], times["slow-only", None]
    assert fast < slow
    assert all(fast <= ns <= slow * 1.01 for ns in times.values())
    assert times["sentinel-opt", "50%"] < times["sentinel-opt", "25%"]


def test_budget_is_a_share_of_the_recorded_peak(tmp_path: Path, machines: Machines) -> None:
    replay(suite(tmp_path), tmp_path / "out", machines)
    budgets = {
        repeat.provenance.fast_memory.budget_bytes
        for cell in Run.load(tmp_path / "out").cells
        for repeat in cell.repeats
        if repeat.provenance.fast_memory
    }
    assert budgets == {PAGES * 4096 // 2, PAGES * 4096}


def test_page_based_policies_are_replayed(tmp_path: Path, machines: Machines) -> None:
    outcome = replay(suite(tmp_path, policies="ial"), tmp_path / "out", machines)
    assert outcome.failures == []
    run = Run.load(tmp_path / "out")
    cells = [cell for cell in run.cells if cell.resolved["placement"] == "ial"]
    assert [cell.resolved["fast_memory"] for cell in cells] == ["25%", "50%"]
    for cell in cells:
        steps = {step.model_ns for repeat in cell.repeats for step in repeat.steps if not step.warmup}
        assert len(steps) == 1  # equal in both repeats


def test_report_says_that_times_are_replayed(tmp_path: Path, machines: Machines) -> None:
    replay(suite(tmp_path), tmp_path / "out", machines)
    sentence = report.to_dict(Run.load(tmp_path / "out"))
    assert "replayed from recorded accesses, not emulated" in str(sentence)


def test_replay_records_what_became_of_each_move(
    tmp_path: Path, machines: Machines, sentinel_: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan promotes a variable for the step's end, and demotes it then; cancelling is faster."""

    def plan(profiled: Profiled, *_: Any, **__: Any) -> Plan:
        return moving_variable(
            predicted={"step_ns": 400_000, "exposed_ns": 0, "moved_bytes": 2 * PAGES * 4096},
            made={"profile": files.digest(profiled.path)},
        )

    monkeypatch.setattr(Profiled, "plan", plan)
    monkeypatch.setattr(check, "ensure_sound", lambda _, plan: plan)
    replay(suite(tmp_path, policies="sentinel"), tmp_path / "out", machines)
    code, out, _ = sentinel_("explain", tmp_path / "out", "lstm b8, sentinel, 50%", "--json")
    assert code == 0
    (explained,) = json.loads(out)["plans"]
    measured, (promotion, demotion) = explained["measured"], explained["moves"]
    assert measured["late"] == PAGES * 4096
    assert (promotion["tensor"], promotion["to"], promotion["status"]) == ("w", 0, "unfinished")
    assert promotion["reason"].startswith("unfinished at the step's end")
    assert 0 <= promotion["ready_ns"] < promotion["due_ns"] <= measured["step_ns"]
    assert demotion["status"] == "unfinished"


def test_replays_are_not_compared_with_emulated_steps(tmp_path: Path, machines: Machines) -> None:
    replay(suite(tmp_path), tmp_path / "a", machines)
    replay(suite(tmp_path), tmp_path / "b", machines)
    for cell in (tmp_path / "b").glob("cells/*/*/cell.json"):
        cell.write_text(cell.read_text().replace('"mode": "replay"', '"mode": "emulate"'))
    compared = compare(Side.of_runs(Run.load(tmp_path / "a")), Side.of_runs(Run.load(tmp_path / "b")))
    assert "A is replayed and B emulated" in str(compared)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("preset: optane-6dimm\n", "", "preset"),
        ("fast_memory: [25%, 50%]\n", "threads: 2\nfast_memory: [25%]\n", "only steps of one thread"),
        ("mode: replay", "mode: guess", "emulate"),
    ],
)
def test_suite_that_cannot_be_replayed_is_refused(tmp_path: Path, old: str, new: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        suite(tmp_path, SUITE.replace(old, new), policies="interleave")
