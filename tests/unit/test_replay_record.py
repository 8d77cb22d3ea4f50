# SPDX-License-Identifier: Apache-2.0
"""Replayed steps as the runtime records executed ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sentinel.planner.formats import files
from sentinel.planner.formats.plan import Move, Plan
from sentinel.replay import engine, record, trace
from sentinel.replay.planned import planned
from testbed.common.errors import ExitCode
from testbed.timing import preset
from tests.fakes.access_traces import PAGES, Recording
from tests.fakes.frames import with_frames
from tests.unit.test_replay import moving_variable, plan

OPTANE = preset.load("optane-6dimm")
SIZE = PAGES * trace.PAGE


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> trace.Trace:
    recording = Recording()
    recording.step()
    path: Path = recording.write(tmp_path_factory.mktemp("trace"))
    return trace.read(path)


def executed(recorded: trace.Trace, plan: Plan, **options: Any) -> tuple[engine.Replayed, dict[str, Any]]:
    scenario = planned(recorded, recorded.kinds["kind"], plan)
    replayed = engine.run(recorded, scenario, OPTANE, **options)
    return replayed, record.executed(replayed, scenario, recorded.kinds["kind"])


def test_promotion_due_at_the_end_is_late_by_what_the_end_waits(recorded: trace.Trace) -> None:
    replayed, value = executed(recorded, moving_variable())
    promotion, demotion = value["moves"]
    assert (promotion["move"], promotion["outcome"], promotion["reason"]) == (0, "moved", None)
    assert promotion["ready_ns"] == round(replayed.event_ns[0])
    assert promotion["due_ns"] == round(replayed.computed_ns) < round(replayed.step_ns)
    assert promotion["end_ns"] - promotion["due_ns"] == pytest.approx(replayed.exposed_ns, rel=0.01)
    assert promotion["remap_ns"] is None
    assert (demotion["outcome"], demotion["begin_ns"]) == ("unfinished", None)
    assert value["ops"] == [round(replayed.event_ns[e]) for e in (0, 2)]
    assert value["step"] == {"begin_ns": 0, "step_ns": round(replayed.step_ns)}
    assert record.counters(replayed)["promoted"] == SIZE


def test_window_that_needs_a_further_operation_is_stuck(recorded: trace.Trace) -> None:
    frames = with_frames(plan(moves=[Move(1, 1, 2, 0, SIZE, None)]), recorded.kinds["kind"].profile)
    frames = dataclasses.replace(frames, moves=[frames.moves[0]._replace(map=2)])
    replayed, value = executed(recorded, frames, cores=4)
    (move,) = value["moves"]
    assert move["outcome"] == "cancelled"
    assert move["ready_ns"] == round(replayed.event_ns[2])  # `a` has ended when `b` begins
    assert move["begin_ns"] < move["end_ns"]
    assert move["remap_ns"] is None


def test_move_of_a_variable_that_was_not_traced_keeps_the_numbers_of_the_others(
    recorded: trace.Trace,
) -> None:
    known = moving_variable()
    unknown = known.tensors[1]._replace(name="gone")
    changed = dataclasses.replace(
        known,
        tensors=[*known.tensors, unknown],
        moves=[Move(0, 0, 2, None, SIZE, 2), *known.moves],
    )
    assert [move["move"] for move in executed(recorded, changed)[1]["moves"]] == [1, 2]


def test_replay_command_explains_a_plan(
    tmp_path: Path, sentinel_: Callable[..., tuple[int, str, str]]
) -> None:
    recording = Recording()
    recording.step()
    path, plan_file = recording.write(tmp_path), tmp_path / "plan.json"
    predicted = {"step_ns": 400_000, "exposed_ns": 0, "moved_bytes": 2 * SIZE}
    files.write_plan(plan_file, moving_variable(predicted=predicted))
    words = ("replay", path, "--preset", "optane-6dimm")
    code, out, _ = sentinel_(*words, "--plan", plan_file, "--explain")
    assert code == 0
    assert "promote w, 2.00 MiB: unfinished" in out
    assert "2 moves: 2 unfinished" in out
    code, _, err = sentinel_(*words, "--explain")
    assert (code, err) == (ExitCode.USAGE, "error: --explain needs a --plan\n")
