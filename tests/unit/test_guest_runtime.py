# SPDX-License-Identifier: Apache-2.0
"""The runtime's Python bindings on a fake library: files, messages, and the order of calls."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import guest
from tests.fakes.runtime_library import PROFILE, Library


@pytest.fixture
def runtime() -> Any:
    return guest.load("guest.bindings.runtime")


@pytest.fixture
def library(runtime: Any) -> Library:
    library = Library()
    runtime._state = runtime._State(library, None)
    return library


def test_without_the_library_calls_fail_with_the_reason(
    runtime: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(runtime.RuntimeUnavailable, match="not loaded: call load"):
        runtime.stats()
    with pytest.raises(runtime.RuntimeUnavailable, match="no runtime library at /none "):
        runtime.load("/none")
    monkeypatch.setenv("SENTINEL_RUNTIME", str(tmp_path / "x.so"))
    with pytest.raises(runtime.RuntimeUnavailable, match=r"x\.so \(set SENTINEL_RUNTIME"):
        runtime.load()
    monkeypatch.setenv("LD_PRELOAD", "/other.so:/opt/sentinel/libsentinel.so")
    with pytest.raises(runtime.RuntimeUnavailable, match="too early"):
        runtime.load("/opt/sentinel/libsentinel.so")
    assert not runtime.loaded()


@pytest.mark.parametrize("name", ["step.json", "step.json.gz"])
def test_a_profile_is_written_atomically_and_reproducibly(
    runtime: Any, library: Library, tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    contents = []
    for _ in range(2):
        runtime.start_profile(str(path))
        with runtime.step():
            library.calls.append("run")
        assert runtime.end_profile() == PROFILE
        contents.append(path.read_bytes())
    assert library.calls == ["profile_begin", "step_begin", "run", "step_end", "profile_end"] * 2
    assert contents[0] == contents[1]
    text = gzip.decompress(contents[0]) if name.endswith(".gz") else contents[0]
    assert json.loads(text) == PROFILE
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert library.lent == 0


def test_a_profile_that_cannot_be_written_is_refused_with_the_reason(
    runtime: Any, library: Library, tmp_path: Path
) -> None:
    with pytest.raises(OSError, match="cannot write a profile to /none/step"):
        runtime.start_profile("/none/step.json")
    with pytest.raises(ValueError, match="without start_profile"):
        runtime.end_profile()
    library.profile = None
    runtime.start_profile(str(tmp_path / "step.json"))
    with pytest.raises(ValueError, match="no step has run"):
        runtime.end_profile()
    assert list(tmp_path.iterdir()) == []
    library.profile = json.dumps({**PROFILE, "step_ns": 0})
    runtime.start_profile(str(tmp_path / "step.json"))
    with pytest.raises(ValueError, match=r"step.json: the step took 0 ns by the model clock, .*region_begin"):
        runtime.end_profile()
    assert list(tmp_path.iterdir()) == []


def test_a_step_ends_when_its_run_fails(runtime: Any, library: Library) -> None:
    with pytest.raises(KeyError), runtime.step():
        raise KeyError
    assert library.calls == ["step_begin", "step_failed"]


def test_plans_are_read_with_and_without_compression(runtime: Any, library: Library, tmp_path: Path) -> None:
    for name, data in (("a.json", b"{}"), ("b.json.gz", gzip.compress(b"{}")), ("c", gzip.compress(b"{}"))):
        (tmp_path / name).write_bytes(data)
        runtime.load_plan(str(tmp_path / name))
        assert library.plan == b"{}"


def test_a_bad_plan_is_reported_in_one_line_with_its_path(
    runtime: Any, library: Library, tmp_path: Path
) -> None:
    whole = gzip.compress(b"{}" * 100)
    files = {"torn.gz": whole[:-12], "header.gz": whole[:5], "changed.gz": whole[:12] + b"\xff" * 20}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(runtime.BadPlan, match=rf"{name}: .") as caught:
            runtime.load_plan(str(tmp_path / name))
        assert "\n" not in str(caught.value)
    with pytest.raises(runtime.BadPlan, match=r"none: No such file"):
        runtime.load_plan(str(tmp_path / "none"))
    assert library.calls == []
    (tmp_path / "plan.json").write_text("{}")
    library.refusal = b"has no 'graph'"
    with pytest.raises(runtime.BadPlan, match=r"plan\.json: has no 'graph'$"):
        runtime.load_plan(str(tmp_path / "plan.json"))


def test_statistics_are_parsed_and_freed(runtime: Any, library: Library) -> None:
    assert runtime.stats() == {"steps": 3}
    assert library.lent == 0


def test_a_region_begins_and_ends_once_and_not_in_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    model = guest.load("timing_client")
    marks: list[int] = []
    monkeypatch.setattr(model, "mark", marks.append)
    region = model.Region()
    region.end()
    for _ in range(3):
        region.begin()
    monkeypatch.setattr(model.os, "getpid", lambda: -1)
    region.end()
    monkeypatch.undo()
    monkeypatch.setattr(model, "mark", marks.append)
    region.end()
    region.end()
    assert marks == [model.REGION_BEGIN, model.REGION_END]
