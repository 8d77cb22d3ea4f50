# SPDX-License-Identifier: Apache-2.0
"""Plans made in a process beside the training, by a fake planner."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.fakes import guest

# Takes the planner's arguments, records them, and answers as the test says
PLANNER = """
import json, pathlib, sys
folder = pathlib.Path(sys.argv[1])
calls = folder / "calls"
calls.write_text((calls.read_text() if calls.exists() else "") + json.dumps(sys.argv[2:]) + "\\n")
answer = json.loads((folder / "answer").read_text())
if "fails" in answer:
    sys.exit("planner: " + answer["fails"])
print(json.dumps(answer))
"""

New = Callable[..., Any]


def kind(name: str) -> Any:
    return SimpleNamespace(name=name, file_name=f"{name}.json.gz")


@pytest.fixture
def new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[New]:
    """A function that returns a `Planning` with the fake planner, which gives this answer."""
    module = guest.load("guest.bindings.planning")
    program, folder = tmp_path / "planner.py", tmp_path / "a folder"
    program.write_text(PLANNER)
    folder.mkdir()
    command = [sys.executable, str(program), str(tmp_path)]
    monkeypatch.setattr(module, "PLANNER", shlex.join(command))
    started: list[Any] = []

    def make(answer: Any = None, *, wait: bool = False) -> Any:
        answer = answer or {"budget": 20, "peak": 100, "errors": {}}
        (tmp_path / "answer").write_text(json.dumps(answer))
        started.append(module.Planning(str(folder), "20%", "/figures.json", "sentinel", wait))
        return started[-1]

    yield make
    for planning in started:
        planning.end()


def calls(tmp_path: Path) -> list[list[str]]:
    return [json.loads(line) for line in (tmp_path / "calls").read_text().splitlines()]


def take_until_done(planning: Any) -> list[Any]:
    """Take plans as a training does, without waiting in a call."""
    while planning.unfinished():
        if plans := planning.take():
            return list(plans)
        time.sleep(0.01)
    return []


def test_kinds_are_planned_together_beside_the_training(new: New, tmp_path: Path) -> None:
    planning, kinds = new(), [kind("aa"), kind("bb")]
    for one in kinds:
        planning.add(one)
    assert planning.take(start=False) == []
    assert planning.unfinished() == kinds
    plans = take_until_done(planning)
    folder = planning.folder
    assert plans == [(one, f"{folder}/plans/{one.name}.json.gz", None) for one in kinds]
    (arguments,) = calls(tmp_path)
    assert arguments[:4] == [f"{folder}/aa.json.gz", f"{folder}/bb.json.gz", "--budget", "20%"]
    assert arguments[4:] == [
        "--figures",
        "/figures.json",
        "--policy",
        "sentinel",
        "--spill",
        "-o",
        f"{folder}/plans",
    ]
    assert (planning.budget, planning.peak) == (20, 100)
    assert planning.planner_ns > 0


def test_later_plans_have_the_budget_of_the_first(new: New, tmp_path: Path) -> None:
    planning = new()
    for name in ("aa", "bb"):
        planning.add(kind(name))
        take_until_done(planning)
    assert [arguments[2] for arguments in calls(tmp_path)] == ["20%", "20"]


def test_a_kind_without_a_plan_has_the_planners_reason(new: New) -> None:
    planning = new({"budget": 20, "peak": 100, "errors": {"aa": "below the floor"}})
    one, other = kind("aa"), kind("bb")
    planning.add(one)
    planning.add(other)
    assert take_until_done(planning)[0] == (one, None, "below the floor")


def test_a_planner_that_fails_is_quoted_with_its_log(new: New) -> None:
    planning = new({"fails": "no figures"})
    planning.add(kind("aa"))
    ((_, path, error),) = take_until_done(planning)
    assert path is None
    assert "the planner failed (exit status 1): planner: no figures (log: " in error


def test_training_may_wait_for_its_plans(new: New) -> None:
    planning = new(wait=True)
    planning.add(kind("aa"))
    assert len(planning.take()) == 1


def test_a_planner_that_was_killed_has_failed(new: New) -> None:
    planning = new(wait=True)
    planning._shell.kill()
    planning._shell.wait()
    planning.add(kind("aa"))
    ((_, path, error),) = planning.take()
    assert path is None
    assert "the planner failed (exit status unknown): it left no message" in error


def test_the_end_of_training_ends_a_running_planner(new: New) -> None:
    planning = new()
    planning.add(kind("aa"))
    planning.take()
    planning.end()
    planning.end()
    assert planning._shell.poll() is not None
