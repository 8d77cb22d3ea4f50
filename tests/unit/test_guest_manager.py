# SPDX-License-Identifier: Apache-2.0
"""The schedule of a managed training, on a fake runtime library and a fake planner."""

from __future__ import annotations

import contextlib
import json
import threading
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.fakes import guest
from tests.fakes.runtime_library import PROFILE, Library

STEP = ["step_begin", "step_end"]


@pytest.fixture
def library() -> Library:
    runtime = guest.load("guest.bindings.runtime")
    library = Library()
    runtime._state = runtime._State(library, None)
    return library


def new_manager(*arguments: Any, **options: Any) -> Any:
    return guest.also("guest.bindings.manager").Manager(*arguments, **options)


def signature(*names: str) -> Any:
    return guest.also("guest.bindings.signatures").Signature(names or ("train",))


TRAIN = ("forward", "backward", "update")


def steps(manager: Any, count: int, of: Any = None, **inputs: Any) -> None:
    of = of or signature(*TRAIN)
    for _ in range(count):
        with manager.step(of, **inputs):
            pass


class Planning:
    """A planner that makes a plan when the test says so."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.added, self.ready, self.ended = folder, [], [], False  # type: ignore[var-annotated]
        self.starts: list[bool] = []

    def profile_path(self, kind: Any) -> str:
        return str(self.folder / f"{kind.name}.json.gz")

    def add(self, kind: Any) -> None:
        self.added.append(kind)

    def take(self, start: bool) -> list[Any]:
        self.starts.append(start)
        ready, self.ready = self.ready, []
        return ready

    def finish(self, error: str | None = None) -> None:
        """The kinds that were added have plans, or an error."""
        path = self.folder / "plan.json"
        path.write_text("{}")
        self.ready = [(kind, None if error else str(path), error) for kind in self.added]
        self.added = []

    def end(self) -> None:
        self.ended = True


def test_a_profile_precedes_the_plan_made_from_it(library: Library, tmp_path: Path) -> None:
    profile, plan = tmp_path / "profile.json", tmp_path / "plan.json"

    def planner(profile_path: str, path: str) -> None:
        assert json.loads(Path(profile_path).read_text()) == PROFILE
        Path(path).write_text("a plan")

    steps(new_manager(str(profile), str(plan), skip=1, planner=planner), 4)
    assert library.calls == [*STEP, "profile_begin", *STEP, *STEP, "profile_end", "plan_begin", *STEP]
    assert library.plan == b"a plan"


def test_a_given_plan_serves_every_kind_from_the_first_step(library: Library, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text("{}")
    manager = new_manager(plan=str(tmp_path / "plan.json"))
    steps(manager, 1)
    steps(manager, 1, signature("other"))
    assert library.calls == ["plan_begin", *STEP, *STEP]
    assert library.plan_kinds == [(1, 0), (2, 0)]


def test_folders_hold_a_profile_and_a_plan_of_each_kind(library: Library, tmp_path: Path) -> None:
    kinds = [signature("a"), signature("b")]
    recorder = new_manager(skip=0)
    for kind in kinds:
        steps(recorder, 1, kind)
    recorder.start_profiles(str(tmp_path))
    for _ in range(2):
        for kind in kinds:
            library.left = 1  # of each kind the second is the last
            steps(recorder, 1, kind)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(f"{kind.name}.json.gz" for kind in kinds)
    assert [bool(kind.profiles) for kind in recorder.kinds.all] == [True, True]
    library.calls.clear()
    library.plan_kinds.clear()
    manager = new_manager(skip=0)
    steps(manager, 1, kinds[0])
    manager.use_plans(str(tmp_path))  # the files stand for plans
    for kind in kinds:
        steps(manager, 1, kind)
    assert library.calls == [*STEP, "plan_begin", *STEP, "plan_begin", *STEP]
    assert library.plan_kinds == [(0, 0), (0, 0), (1, 1)]


def test_a_failure_is_printed_and_training_continues(
    library: Library, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def planner(*_: str) -> None:
        raise ValueError("no room")

    steps(new_manager(str(tmp_path / "p.json"), str(tmp_path / "none"), skip=0, planner=planner), 3)
    assert capsys.readouterr().err == "sentinel: no room; training continues unmanaged\n"
    steps(new_manager("/none/p.json", skip=0), 3)
    assert "cannot write a profile to /none/p.json" in capsys.readouterr().err
    assert library.calls.count("step_end") == 6


def test_a_profile_is_written_when_training_ends_early(library: Library, tmp_path: Path) -> None:
    manager = new_manager(str(tmp_path / "p.json"), skip=0)
    steps(manager, 1)
    manager.end()
    manager.end()
    assert library.calls.count("profile_end") == 1
    assert (tmp_path / "p.json").exists()


def test_failed_runs_are_not_steps(library: Library, tmp_path: Path) -> None:
    manager = new_manager(str(tmp_path / "p.json"), skip=1)
    for failing in (True, False, True, False, True, False):
        with contextlib.suppress(KeyError), manager.step(signature()):
            if failing:
                raise KeyError
    failed = ["step_begin", "step_failed"]
    assert library.calls == [*failed, *STEP, "profile_begin", *failed, *STEP, *failed, *STEP, "profile_end"]


@pytest.mark.parametrize(
    ("count", "reason"),
    [(3, "it starts after 4 steps, and the training had 3"), (0, "no run updated variables")],
)
def test_training_without_a_profile_says_why(
    library: Library, tmp_path: Path, capsys: pytest.CaptureFixture[str], count: int, reason: str
) -> None:
    manager = new_manager(str(tmp_path / "p.json"), skip=4)
    steps(manager, count)
    manager.end()
    assert f"sentinel: no profile: {reason}" in capsys.readouterr().err


def test_threads_share_a_manager(library: Library, tmp_path: Path) -> None:
    manager = new_manager(str(tmp_path / "p.json"), skip=0)
    library.sentinel_step_end = lambda *_: library.calls.append("step_end")  # type: ignore[method-assign]
    threads = [threading.Thread(target=steps, args=(manager, 20)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    library.left = 0
    steps(manager, 2)
    assert library.calls.count("step_end") == 82
    assert library.calls.count("profile_begin") == library.calls.count("profile_end") == 1


def test_a_forked_child_does_not_use_the_runtime(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = new_manager(str(tmp_path / "p.json"), skip=0)
    steps(manager, 1)
    calls = list(library.calls)
    monkeypatch.setattr(guest.also("guest.bindings.manager").os, "getpid", lambda: -1)
    steps(manager, 3)
    manager.begin_partial_step(signature())(True)
    manager.end()
    assert library.calls == calls
    assert not manager.in_own_process()


def test_training_goes_on_in_slow_memory_until_its_plan_is_ready(library: Library, tmp_path: Path) -> None:
    planning = Planning(tmp_path)
    manager = new_manager(skip=1, planning=planning)
    steps(manager, 5)
    assert library.calls == [
        "leave_fast_memory",
        *STEP,
        "profile_begin",
        *STEP,
        *STEP,
        "profile_end",
        *STEP * 2,
    ]
    library.calls.clear()
    planning.finish()
    steps(manager, 2)
    assert library.calls == ["plan_begin", *STEP, *STEP]
    manager.end()
    assert planning.ended


def test_the_planner_starts_when_no_kind_is_being_profiled(library: Library, tmp_path: Path) -> None:
    planning = Planning(tmp_path)
    manager = new_manager(skip=0, planning=planning)
    steps(manager, 1)
    steps(manager, 1)
    assert planning.starts == [True, False]
    steps(manager, 1)
    assert planning.starts == [True, False, True]


def test_runs_within_other_steps_do_not_hold_up_their_plans(library: Library, tmp_path: Path) -> None:
    planning = Planning(tmp_path)
    manager = new_manager(skip=0, planning=planning)
    inner, outer = signature("inner"), signature("outer")
    begin = library.sentinel_step_begin
    for _ in range(8):
        with manager.step(outer):
            library.sentinel_step_begin = lambda *_: 0  # type: ignore[method-assign]
            library.sentinel_step_end = lambda *_: None  # type: ignore[method-assign]
            steps(manager, 1, inner)
            del library.sentinel_step_begin, library.sentinel_step_end
    assert begin == library.sentinel_step_begin
    assert [kind.signature for kind in planning.added] == [outer]
    assert planning.starts[-1]
    assert [kind.runs for kind in manager.kinds.all] == [8, 0]


def test_a_kind_without_a_plan_says_why_and_is_not_profiled_again(
    library: Library, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    planning = Planning(tmp_path)
    manager = new_manager(skip=0, planning=planning)
    steps(manager, 2)
    planning.finish("the budget is below the floor")
    steps(manager, 50)
    assert "the budget is below the floor; they stay in slow memory" in capsys.readouterr().err
    assert library.calls.count("profile_begin") == 1
    assert manager.kinds.all[0].reason == "the budget is below the floor"


def planned(library: Library, tmp_path: Path, of: Any, **inputs: Any) -> tuple[Any, Planning]:
    """A manager whose first kind, of signature `of`, has a plan."""
    planning = Planning(tmp_path)
    manager = new_manager(skip=0, planning=planning)
    steps(manager, 2, of, **inputs)
    planning.finish()
    steps(manager, 1, of, **inputs)
    manager.skip = 3
    library.calls.clear()
    library.plan_kinds.clear()
    return manager, planning


def test_similar_kinds_share_a_plan_until_they_have_their_own(library: Library, tmp_path: Path) -> None:
    names = [f"op{i}" for i in range(20)]
    manager, _ = planned(library, tmp_path, signature(*names))
    steps(manager, 1, signature(*names, "summary"))
    steps(manager, 1, signature(*names[:10]))
    steps(manager, 1, signature(*names[:10], *"abcdefghij"))
    assert library.plan_kinds == [(1, 0), (2, 0), (3, 3)]
    assert library.calls == STEP * 3


def test_smaller_inputs_use_the_plan_of_larger_ones(library: Library, tmp_path: Path) -> None:
    of = signature(*TRAIN)
    manager, _ = planned(library, tmp_path, of, bucket=("x", (32, 8)), elements=256)
    steps(manager, 1, of, bucket=("x", (16, 8)), elements=100)
    steps(manager, 1, of, bucket=("x", (64, 8)), elements=512)
    assert library.plan_kinds == [(1, 0), (2, 0)]


def test_a_signature_has_ten_buckets_at_most(library: Library, tmp_path: Path) -> None:
    of = signature(*TRAIN)
    manager = new_manager(skip=100)
    for n in range(20):
        steps(manager, 1, of, bucket=("x", (n,)), elements=n)
    assert len(manager.kinds.all) == 10


def test_a_plan_that_stops_fitting_is_replaced_after_longer_and_longer_waits(
    library: Library, tmp_path: Path
) -> None:
    manager, planning = planned(library, tmp_path, signature(*TRAIN))
    library.reprofile = True
    profiles: list[int] = []
    for step in range(2000):
        before = library.calls.count("profile_begin")
        steps(manager, 1)
        if library.calls.count("profile_begin") > before:
            profiles.append(step)
        if planning.added:
            planning.finish()
    waits = [b - a for a, b in pairwise(profiles)]
    assert waits == sorted(waits)
    assert waits[1] == 2 * waits[0]
    assert manager.kinds.all[0].profiles <= 10


def test_steps_are_reported_with_their_kind_and_plan(library: Library, tmp_path: Path) -> None:
    of = signature(*TRAIN)
    manager, _ = planned(library, tmp_path, of)
    reports: list[Any] = []
    manager.on_step = reports.append
    steps(manager, 1, of)
    steps(manager, 1, signature("unlike"))
    assert [report["plan"] for report in reports] == [of.name, None]


def test_partial_steps_count_when_they_end(library: Library, tmp_path: Path) -> None:
    manager = new_manager(skip=5)
    end = manager.begin_partial_step(signature(*TRAIN))
    assert manager.steps == 0
    end(True)
    assert manager.steps == 1
    manager.begin_partial_step(signature(*TRAIN))(False)
    assert manager.steps == 1
    assert library.calls == ["step_begin", "step_end", "step_begin", "step_failed"]


def test_the_summary_names_what_has_no_plan(library: Library, tmp_path: Path) -> None:
    names = [f"op{i}" for i in range(20)]
    manager, planning = planned(library, tmp_path, signature(*names))
    steps(manager, 1, signature("rare"))
    summary = guest.also("guest.summary")
    real = SimpleNamespace(budget=1 << 20, peak=4 << 20, policy="sentinel", planner_ns=2_500_000_000)
    watch = SimpleNamespace(seen=9)
    result = summary.summarise(manager, real, None, 1000, watch)
    assert [kind["state"] for kind in result["kinds"]] == ["planned", "waiting"]
    text = "\n".join(summary.text(result))
    assert "4 training steps with policy sentinel" in text
    assert "budget 1.0 MiB of a peak of 4.0 MiB" in text
    assert "1 runs: no plan: it ran 1 times only" in text
    manager = new_manager(skip=1, planning=planning)
    lines = summary.text(summary.summarise(manager, real, None, 0, watch))
    assert lines[0] == "no training step was seen in 9 session runs"
    assert "--step-op NAME" in lines[1]


def test_the_summary_tells_what_planning_cost(library: Library) -> None:
    kinds, summary = guest.also("guest.bindings.kinds"), guest.also("guest.summary")
    kind = kinds.Kinds().get(signature(*TRAIN), ())
    kind.state = kinds.PLANNED
    for phase, times in {
        "before": [900, 200, 200],
        "profiling": [300],
        "planned": [150] + 995 * [100],
    }.items():
        for ns in times:
            kind.completed(0, phase, ns)
    result = summary._kind(kind)
    assert result["phases"] == {"before": 2, "profiling": 1, "planned": 996}  # without the first run
    assert result["median_ns"] == {"before": 200, "profiling": 300, "planned": 100}
    assert result["cost_ns"] == 2 * 100 + 200 + 50
    assert result["total_ns"] == 999 * 100 + result["cost_ns"]
