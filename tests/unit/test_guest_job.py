# SPDX-License-Identifier: Apache-2.0
"""The guest's side of a job: its barrier, its order and its records."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.fakes import guest


@pytest.fixture
def new_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that returns a job, which has not waited for its order."""
    module = guest.load("guest.job")
    said: list[str] = []
    monkeypatch.setattr(module.memory, "vmstat", lambda: {"pgfault": said.count("step_begin")})
    monkeypatch.setattr(module.memory, "residency", lambda: {"anon": {"0": 4096}, "file": {}})
    monkeypatch.setattr(module.memory, "set_sysctls", lambda values: said.append(f"sysctls {values}"))
    monkeypatch.setattr(module.memory, "place", lambda *policy: said.append(f"place {policy}"))
    monkeypatch.setattr(module.runtime, "limit", lambda *limit: said.append(f"limit {limit}"))
    for name in ("step_begin", "step_end", "observe", "pages", "compute", "trace_begin", "trace_end"):
        monkeypatch.setattr(module.timing_client, name, lambda name=name: said.append(name))

    def make(order: dict[str, Any] | None = None) -> Any:
        (tmp_path / "job.json").write_text(json.dumps({"seed": 7, "threads": 1}))
        job = module.Job(str(tmp_path))
        job.said = said
        if order is not None:
            waits = threading.Thread(target=job.wait_for_order, daemon=True)
            waits.start()
            while not (tmp_path / "waiting").exists():
                assert waits.is_alive()
            (tmp_path / "barrier").write_text(json.dumps(order))
            waits.join(60)
        return job

    return make


def manager() -> Any:
    said: list[str] = []
    return SimpleNamespace(
        said=said,
        use_plans=lambda folder: said.append(f"plans {folder}"),
        start_profiles=lambda folder, trace: said.append(f"profiles {folder}" + " after a trace" * trace),
    )


def run(job: Any, manager: Any = None) -> list[dict[str, Any]]:
    """Run all ordered steps and return their records."""
    while not job.over:
        job.before_step(manager)
        job.after_step("abc", 0.5, False)
    job.end()
    return [json.loads(line) for line in (Path(job.folder) / "steps.jsonl").read_text().splitlines()]


def test_the_process_waits_at_its_barrier(new_job: Any, tmp_path: Path) -> None:
    job = new_job()
    waits = threading.Thread(target=job.wait_for_order, daemon=True)
    waits.start()
    waits.join(0.2)
    assert waits.is_alive()
    assert json.loads((tmp_path / "waiting").read_text())["prepare_ns"] > 0
    assert (tmp_path / "barrier").is_fifo()
    (tmp_path / "barrier").write_text('{"steps": 2, "sysctls": {"a": "1"}}')
    waits.join(60)
    assert job.order["steps"] == 2
    assert job.said == ["sysctls {'a': '1'}", "compute"]


def test_each_step_has_a_record_and_the_last_line_ends_them(new_job: Any) -> None:
    order = {"steps": 2, "warmup": 1, "memory": {"policy": "bind", "nodes": [0]}}
    job = new_job(order)
    assert "place ('bind', [0])" in job.said
    *records, end = run(job)
    assert end == {"end": True}
    assert [(r["step"], r["warmup"], r["kind"]) for r in records] == [
        (0, True, "abc"),
        (1, False, "abc"),
        (2, False, "abc"),
    ]
    assert records[0]["loss"] == (0.5).hex()
    assert records[0]["vmstat"] == {"pgfault": 1}
    assert "runtime" not in records[0]


@pytest.mark.parametrize(
    ("order", "steps"), [({}, 2), ({"fast_memory": 1}, 3), ({"fast_memory": 1, "plan": "p"}, 6)]
)
def test_a_budget_and_a_plan_add_unmeasured_steps(new_job: Any, order: dict[str, Any], steps: int) -> None:
    assert new_job({"steps": 1, "warmup": 2, **order}).unmeasured == steps


def test_plans_take_effect_at_the_end_of_the_warmup(new_job: Any) -> None:
    job, managed = new_job({"steps": 1, "warmup": 2, "fast_memory": 1, "plan": "/plans"}), manager()
    job.before_step(managed)
    job.after_step("abc", None, False)
    assert managed.said == []
    job.before_step(managed)
    job.after_step("abc", None, False)
    job.before_step(managed)
    assert managed.said == ["plans /plans"]


def test_a_limit_takes_effect_at_the_end_of_the_warmup(new_job: Any) -> None:
    job = new_job({"steps": 1, "warmup": 1, "fast_memory": 4096, "limit": "interleave"})
    run(job)
    assert job.said.count("limit ('interleave', 4096)") == 1


def test_the_second_profiled_step_is_observed(new_job: Any, tmp_path: Path) -> None:
    folder = tmp_path / "profiles"
    job, managed = new_job({"steps": 2, "warmup": 1, "profile": str(folder), "observe": True}), manager()
    run(job, managed)
    assert managed.said == [f"profiles {folder}"]
    assert folder.is_dir()
    steps = [word for word in job.said if word in ("step_begin", "observe", "pages")]
    assert steps == ["step_begin", "step_begin", "observe", "step_begin", "pages"]


def test_the_step_before_the_profiled_ones_is_traced(new_job: Any, tmp_path: Path) -> None:
    order = {"steps": 3, "warmup": 1, "profile": str(tmp_path / "p"), "trace": True, "observe": True}
    job, managed = new_job(order), manager()
    run(job, managed)
    assert managed.said == [f"profiles {tmp_path / 'p'} after a trace"]
    words = ("step_begin", "step_end", "trace_begin", "trace_end", "observe")
    assert [word for word in job.said if word in words] == [
        *("step_begin", "step_end"),
        *("step_begin", "trace_begin", "trace_end", "step_end"),
        *("step_begin", "step_end"),
        *("observe", "step_begin", "step_end"),
    ]


def test_without_a_number_of_steps_a_job_is_never_over(new_job: Any) -> None:
    job = new_job({"steps": None, "warmup": 0})
    for _ in range(50):
        job.before_step(None)
        job.after_step("abc", None, False)
    assert not job.over


def test_steps_that_have_not_settled_are_not_measured(new_job: Any) -> None:
    job = new_job({"steps": 2, "warmup": 1})
    for settled in (True, False, False, True, True):
        assert not job.over
        job.before_step(None)
        job.after_step("abc", None, False, settled)
    assert job.over
    records = (Path(job.folder) / "steps.jsonl").read_text().splitlines()
    assert [json.loads(line)["warmup"] for line in records] == [True, True, True, False, False]


def test_an_online_step_is_settled_when_its_plan_has_been_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    module = guest.load("guest.script_job")
    job = module.ScriptJob.__new__(module.ScriptJob)
    job._last_step, job._planned_steps = None, module.collections.Counter()
    states = {"a": "profiling", "b": "waiting"}
    kinds = SimpleNamespace(all=[])
    job._manager = SimpleNamespace(kinds=kinds)

    def settled(kind: str, plan: str | None) -> bool:
        kinds.all = [SimpleNamespace(name=name, state=state) for name, state in states.items()]
        job._note({"kind": kind, "plan": plan, "ns": 1})
        return bool(job._settled())

    assert not settled("a", None)
    states["a"] = "planned"
    assert [settled("a", "a") for _ in range(6)] == [False] * 4 + [True] * 2
    assert settled("b", "a")  # the plan of a similar kind
    assert not settled("b", None)
    states["b"] = "unplanned"
    assert settled("b", None)
    assert job._settled()  # not managed
