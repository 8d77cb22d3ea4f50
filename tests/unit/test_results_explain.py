# SPDX-License-Identifier: Apache-2.0
"""Planned steps against their execution: what became of each move, and why."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lxml import etree

from results import explain_report
from results.decoding import DamagedError
from results.executed import Executed, execute, tensor_names
from results.fast_memory import fast_bytes
from results.plots.timeline import chart
from results.runs import Run
from results.writer import write_profile
from sentinel.planner.formats import files
from sentinel.planner.formats.plan import Move, TensorPlacement
from sentinel.planner.simulate import simulate
from testbed.common.errors import ExitCode
from tests.browser import browser
from tests.fakes import executed as fake
from tests.fakes.executed import ON_TIME, SIZE, moved
from tests.fakes.run_records import add, begin, cells_of
from tests.unit.test_results_browser import SCROLLED, Theme, column, opened

Command = Callable[..., tuple[int, str, str]]


def executed(*moves: dict[str, Any], planned: bool = True, **record: Any) -> Executed:
    """Return how the hand-made plan was executed."""
    step = fake.step(*moves, **record)
    return execute(
        fake.plan(fake.profile()), fake.simulation() if planned else None, None, step, ns=800_000.0
    )


def with_move(record: dict[str, Any]) -> Executed:
    """Return the execution in which one move was not as planned."""
    return executed(*(record if record["move"] == m["move"] else m for m in ON_TIME))


def test_moves_that_end_before_their_deadline_are_on_time() -> None:
    step = executed(*ON_TIME)
    assert dict(step.statuses) == {"on time": 4}
    first = step.moves[0]
    assert (first.tensor, first.verb, first.size) == ("op0:0", "demote", SIZE)
    assert first.planned == (100_000, 200_000) and first.planned_due == 300_000
    assert first.measured == (120_000, 215_000) and first.copied == 170_000
    assert (first.ready, first.due, first.late_ns, first.reason) == (110_000, 310_000, 0, "")
    assert step.untimely == []


@pytest.mark.parametrize(
    ("record", "late_ns", "reason"),
    [
        (
            moved(0, ready=110, due=310, begin=120, end=400, remap=405),
            95_000,
            "its copy took 280 us, planned 100 us",
        ),
        (
            moved(0, ready=110, due=310, begin=120, end=170, remap=330),
            20_000,
            "was copied at 170 us, but in use until 330 us",
        ),
        (
            moved(0, ready=250, due=310, begin=250, end=350, remap=360),
            50_000,
            "had 60.0 us until its deadline, planned 200 us",
        ),
        (
            moved(3, ready=520, due=640, begin=630, end=670, remap=680),
            40_000,
            "began 110 us after it might",
        ),
    ],
)
def test_late_move_has_a_reason(record: dict[str, Any], late_ns: float, reason: str) -> None:
    (move,) = with_move(record).untimely
    assert (move.number, move.status, move.late_ns) == (record["move"], "late", late_ns)
    assert move.reason == reason


def test_promotion_that_waited_names_whose_frames_it_waited_for() -> None:
    step = executed(
        moved(0, ready=110, due=310, begin=250, end=300, remap=345),
        moved(1, ready=310, due=420, begin=350, end=430, remap=440),
        *ON_TIME[2:],
    )
    second = step.moves[1]
    assert (second.status, second.late_ns) == ("late", 20_000)
    assert second.reason.split("; ") == [
        "waited for the frames of op0:0 until 345 us",
        "its copy took 80.0 us, planned 50.0 us",
    ]
    assert [move.number for move in step.untimely] == [0, 1]  # the first is late by 35 us


def test_promotion_whose_frames_were_not_left_names_them() -> None:
    step = executed(
        moved(0, "cancelled", ready=110, due=310, begin=120, reason="stuck"),
        moved(1, "cancelled", ready=310, due=420, reason="stuck"),
        *ON_TIME[2:],
    )
    assert "needed a further operation" in step.moves[0].reason
    assert step.moves[1].reason.endswith("still waited for the frames of op0:0")


def test_move_behind_others_names_their_number() -> None:
    plan = fake.plan(fake.profile())
    plan = dataclasses.replace(plan, moves=[move._replace(map=None, frame=None) for move in plan.moves])
    records = (
        moved(0, ready=110, due=310, begin=120, end=170),
        moved(1, ready=310, due=420, begin=320, end=370),
    )
    third = moved(2, ready=130, due=220, begin=170, end=230)
    step = execute(plan, None, None, fake.step(*records, third), ns=8e5)
    assert step.moves[2].reason == "began late, since the migration thread had 1 other moves until 170 us"


@pytest.mark.parametrize(
    ("record", "status", "reason"),
    [
        (
            moved(3, "cancelled", ready=520, due=640, begin=525, reason="written"),
            "cancelled",
            "written during",
        ),
        (moved(3, "cancelled", ready=520, reason="died"), "cancelled", "last tensor died"),
        (moved(3, "cancelled", due=640, reason="given up"), "cancelled", "given up at its deadline"),
        (moved(3, "cancelled"), "cancelled", "reason not recorded"),
        (moved(3, "failed"), "failed", "the system refused it"),
        (moved(3, "none"), "unfinished", "unfinished at the step's end"),
    ],
)
def test_move_that_was_not_executed_has_a_reason(record: dict[str, Any], status: str, reason: str) -> None:
    (move,) = with_move(record).untimely
    assert move.status == status
    assert reason in move.reason


def test_worst_moves_come_first() -> None:
    step = executed(
        moved(0, ready=110, due=310, begin=120, end=170, remap=320),
        moved(1, ready=310, due=420, begin=320, end=370, remap=460),
        moved(2, "absent"),
        moved(3, "cancelled", reason="written"),
    )
    assert [move.number for move in step.untimely] == [3, 1, 0]
    assert step.moves[2].status == "absent"


def test_older_record_without_the_begin_of_the_step_has_no_times() -> None:
    step = executed(*(moved(n, begin=1, end=2, remap=3) for n in range(4)), begin=None)
    assert step.measured_begin is None
    assert {move.status for move in step.moves} == {"moved"}
    assert all(move.measured is None for move in step.moves)


@pytest.mark.parametrize(
    ("moves", "message"),
    [
        ([moved(4)], "step 1: runtime.moves are of another plan: it has no move 4"),
        ([moved(0), moved(0)], "step 1: damaged: runtime.moves has a move twice"),
        ([moved(0, "lost")], "step 1: damaged: runtime.moves.0.outcome"),
        ([{"move": "x", "outcome": "moved"}], "step 1: damaged: runtime.moves.0.move"),
        ([{**moved(0), "begin_ns": 1e99}], "step 1: damaged: runtime.moves.0.begin_ns"),
    ],
)
def test_damaged_record_is_refused_in_one_line(moves: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(DamagedError) as caught:
        executed(*moves)
    assert str(caught.value).startswith(message)


def test_operations_between_recorded_times_are_drawn_in_proportion_to_the_plan() -> None:
    begin = executed(*ON_TIME).measured_begin
    assert begin is not None
    us = begin / 1000
    assert us[[0, 1, 3, 4, 5, 6, 7]].tolist() == [0, 110, 310, 420, 520, 640, 800]
    assert us[2] == 210  # half of the way from op1 to op3
    recorded = executed(*ON_TIME, ops=[0, 10, 20, 30, 40, 50, 60]).measured_begin
    assert recorded is not None and recorded.tolist() == [0, 10, 20, 30, 40, 50, 60, 800_000]


def test_tensor_names_count_what_moves_with_the_largest() -> None:
    plan = fake.plan(fake.profile())
    small = TensorPlacement("op2", 0, 0, 64, "long", 64, 0, None)
    variable = TensorPlacement(None, 0, 0, SIZE, "long", None, 0, "weights")
    plan = dataclasses.replace(
        plan,
        tensors=[*plan.tensors, small, variable],
        moves=[*plan.moves[:2], Move(0, 1, 3, None, SIZE, len(plan.tensors) + 1)],
    )
    assert tensor_names(plan) == ["op0:0 and 1 more", "op1:1", "weights"]


def test_fast_memory_follows_the_moves() -> None:
    profile = fake.profile()
    plan, begin = fake.plan(profile), np.linspace(0, 700, 8)
    spans = [(100.0, 210.0), (300.0, 350.0), (400.0, 410.0), None]
    times, size = fast_bytes(profile, plan, begin, spans)
    at = dict(zip(times.tolist(), (size - 4096).tolist(), strict=True))
    assert at == {0: SIZE, 210: 0, 300: SIZE, 410: 0}
    _, size = fast_bytes(profile, plan, begin, [None] * 4)
    assert (size - 4096).tolist() == [0, SIZE, 0]  # until the death of the first group


def test_chart_has_planned_and_measured_bars_on_one_axis() -> None:
    step = executed(moved(0, ready=110, due=310, begin=120, end=400, remap=480), *ON_TIME[1:])
    drawn = chart(step, fake.profile(), fake.simulation())
    assert drawn is not None and drawn.memory is not None
    layers, promotions, demotions = drawn.lanes
    assert len(layers.bars) == 8  # four layers, planned and measured
    assert [(bar.x, bar.width) for bar in promotions.bars if bar.css == "plan "] == [
        (37.5, 6.25),
        (62.5, 6.25),
    ]
    late = [bar for bar in demotions.bars if "late" in bar.css]
    assert [(bar.css, bar.x, bar.width) for bar in late] == [
        ("done late", 15.0, 35.0),
        ("done map late", 50.0, 10.0),
        ("plan late", 12.5, 12.5),
    ]
    assert "demote op0:0, 64.0 KiB: late by 170 us; planned 100 us to 200 us" in late[0].title
    assert drawn.ticks == [
        (0.0, "0"),
        (25.0, "200 us"),
        (50.0, "400 us"),
        (75.0, "600 us"),
        (100.0, "800 us"),
    ]
    assert chart(executed(planned=False, begin=None), None, None) is None


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with a cell without a plan, and one whose third step is the median of three."""
    profile = fake.profile()
    files.write_profile(tmp_path / "profile.json.gz", profile)
    folder = tmp_path / "run"
    cells = cells_of(
        models=({"name": "lstm"},), placements=("fast-only", "sentinel-opt"), fast_memory=("60%",)
    )
    begin(folder, cells)
    kept = write_profile(folder, tmp_path / "profile.json.gz")
    plan = fake.plan(profile)
    plan = dataclasses.replace(plan, made={**plan.made, "profile": files.digest(kept)})
    files.write_plan(tmp_path / "plan.json.gz", plan)
    late = moved(0, ready=110, due=310, begin=120, end=400, remap=480)
    total = {"promoted": 2 * SIZE, "copied": 3 * SIZE, "remaps": 4, "crowded": 0, "exposed_ns": 170_000}
    steps = [
        fake.step(number=0, total=dict.fromkeys(total, 0)).model_copy(update={"warmup": True}),
        fake.step(late, *ON_TIME[1:], number=1, total=total),
        fake.step(*ON_TIME, number=2, total=total).model_copy(update={"model_ns": 900_000}),
        fake.step(*ON_TIME, number=3, total=total).model_copy(update={"model_ns": 700_000}),
    ]
    add(folder, cells[0], 0, [step.model_copy(update={"runtime": {}}) for step in steps])
    add(folder, cells[1], 0, steps, plans={"plan.json.gz": tmp_path / "plan.json.gz"})
    return folder


def test_explain_sets_a_run_against_its_plan(run: Path, sentinel_: Command) -> None:
    code, out, err = sentinel_("explain", run)
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines[0].startswith("lstm b8, sentinel-opt, 60%: step 1 of repeat 0, the median of 3")
    assert "step time 700 us 800 us (+14.3%)" in lines
    assert "promoted 128 KiB 128 KiB" in lines
    assert "copied for frames 192 KiB 192 KiB" in lines
    assert "exposed time 0 ns 170 us" in lines
    assert "4 moves: 3 on time, 1 late" in lines
    assert "demote op0:0, 64.0 KiB: late by 170 us" in lines
    code, out, _ = sentinel_("explain", run, "lstm b8, sentinel-opt, 60%", "--json")
    (plan,) = json.loads(out)["plans"]
    assert (plan["step"], plan["mechanism"], plan["statuses"]) == (1, "frames", {"on time": 3, "late": 1})
    assert plan["measured"]["exposed_ns"] == 170_000
    assert plan["moves"][0]["measured"] == {"begin_ns": 120_000, "end_ns": 480_000}
    profile = fake.profile()
    spans = simulate(profile, fake.plan(profile)).timeline.spans
    assert plan["moves"][1]["planned"]["begin_ns"] == spans[1][0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("lstm b8, slow-only",), "lstm b8, slow-only: no such cell"),
        (("lstm b8, fast-only",), "cell {id}: no plan"),
        (("lstm b8, sentinel-opt, 60%", "--repeat", "7"), "no finished repeat 7"),
        (("--profile", "x"), "--profile and --plots are for a PROFILE or a PLAN"),
    ],
)
def test_wrong_requests_are_usage_errors(
    run: Path, sentinel_: Command, words: tuple[str, ...], message: str
) -> None:
    code, out, err = sentinel_("explain", run, *words)
    assert (code, out) == (ExitCode.USAGE, "")
    assert message.format(id=Run.load(run).cells[0].id) in err.splitlines()[0]
    assert len(err.splitlines()) <= 2


def test_folder_that_is_no_run_is_refused(tmp_path: Path, sentinel_: Command) -> None:
    code, _, err = sentinel_("explain", tmp_path)
    assert code == ExitCode.USAGE
    assert err.splitlines()[0] == f"error: {tmp_path}: not a run: no run.json"


def test_file_has_no_cells(run: Path, sentinel_: Command) -> None:
    code, _, err = sentinel_("explain", run.parent / "plan.json.gz", "cell")
    assert code == ExitCode.USAGE
    assert err.startswith("error: CELL, --repeat and --html need a RUN")


def test_damaged_record_is_skipped_with_a_warning(run: Path, sentinel_: Command) -> None:
    (path,) = run.glob("cells/*/000/plan.json.gz")
    steps = path.with_name("steps.jsonl")
    steps.write_text(steps.read_text().replace('"outcome":"moved"', '"outcome":"lost"'))
    code, out, err = sentinel_("explain", run)
    assert (code, out) == (0, "")
    assert err.splitlines()[0].startswith(f"warning: {steps}: step 1: damaged: runtime.moves.0.outcome")
    path.write_bytes(b"{")
    code, out, err = sentinel_("explain", run)
    assert "plan skipped" in err and len(err.splitlines()) == 1


def test_run_that_lost_its_profile_says_that_planned_times_are_unknown(run: Path, sentinel_: Command) -> None:
    for path in (run / "profiles").iterdir():
        path.unlink()
    code, out, _ = sentinel_("explain", run)
    assert code == 0
    assert "the run did not keep the profile" in " ".join(out.split())
    assert "measured 120 us to 480 us, due 310 us" in " ".join(out.split())


def test_moves_that_are_not_recorded_are_noted(planned: Run, sentinel_: Command) -> None:
    code, out, _ = sentinel_("explain", planned.path, "lstm b8, sentinel, 60%")
    assert code == 0
    assert "no moves recorded" in out
    assert "the record has no single moves by move_pages, only their sums" in " ".join(out.split())


def test_counts_grow_from_the_record_before() -> None:
    before = fake.step(number=0, total={"promoted": 5, "copied": 7})
    step = fake.step(*ON_TIME, total={"promoted": 9, "copied": 3, "late": -1})
    grown = execute(fake.plan(fake.profile()), None, before, step, ns=8e5).counts
    assert grown == {"promoted": 4}  # a counter that shrank is damaged
    figures = {name: text for name, _, text in explain_report.figures(executed(*ON_TIME))}
    assert figures["promoted"] == "-"


def test_json_of_a_step_has_no_times_that_are_not_known() -> None:
    value = explain_report.executed_dict(executed(planned=False, begin=None))
    assert value["statuses"] == {"not recorded": 4}
    assert value["moves"][0]["planned"] is None and value["moves"][0]["due_ns"] is None


def test_page_shows_the_timeline_in_a_browser(run: Path, sentinel_: Command) -> None:
    html = run / "step.html"
    code, _, err = sentinel_("explain", run, "--html", html)
    assert (code, err) == (0, f"timeline in {html}\n")
    text = html.read_text()
    etree.fromstring(text.encode())
    with browser() as chromium:
        tab, events = opened(chromium, html)
        heading = "lstm b8, sentinel-opt, 60%: step 1 of repeat 0, the median of 3, by the model clock"
        assert tab.text_content("h2") == heading
        titles: list[str] = tab.eval_on_selector_all(
            "rect.done.late title", "all => all.map(e => e.textContent)"
        )
        assert titles[0].startswith("demote op0:0, 64.0 KiB: late by 170 us; planned")
        drawn = "[...document.querySelectorAll('.timeline svg')].map(e => Math.round(e.clientWidth))"
        width = tab.evaluate(drawn)[0]
        tab.check("input.zoom4")
        assert set(tab.evaluate(drawn)) == {4 * width}
        tab.click("th button:text-is('Late by')")
        assert column(tab, "Tensor")[0] == "op0:0"
        assert events == []
        themes: list[tuple[Theme, str]] = [("light", "rgb(0, 120, 90)"), ("dark", "rgb(79, 207, 166)")]
        for theme, colour in themes:
            narrow, events = opened(chromium, html, width=360, theme=theme)
            assert narrow.evaluate("document.documentElement.scrollWidth") == 360
            assert narrow.evaluate(SCROLLED) == []
            bar = "document.querySelector('rect.done:not(.late, .wait, .layer0, .layer1)')"
            assert narrow.evaluate(f"getComputedStyle({bar}).fill") == colour
            assert events == []


def test_page_shows_names_as_text(run: Path, sentinel_: Command) -> None:
    attack = "<script>alert(1)</script>"
    (path,) = run.glob("cells/*/000/plan.json.gz")
    plan = files.read_plan(path)
    plan = dataclasses.replace(plan, tensors=[t._replace(op=attack) for t in plan.tensors], made={})
    files.write_plan(path, plan)
    assert sentinel_("explain", run, "--html", run / "step.html")[0] == 0
    text = (run / "step.html").read_text()
    assert attack not in text and "&lt;script&gt;alert(1)" in text


def test_page_into_a_folder_is_refused(run: Path, sentinel_: Command) -> None:
    code, _, err = sentinel_("explain", run, "--html", run)
    assert code == ExitCode.USAGE and len(err.splitlines()) <= 2
