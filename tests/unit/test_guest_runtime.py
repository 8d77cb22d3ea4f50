# SPDX-License-Identifier: Apache-2.0
"""The runtime's Python bindings on a fake library: files, messages, and the order of calls."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import gzip
import json
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.fakes import guest

PROFILE = {
    "format": "sentinel-profile",
    "clock": "model",
    "step_ns": 5,
    "ops": {"name": ["ä"], "begin_ns": [0], "end_ns": [5]},
    "tensors": [],
}


class Library:
    """A fake of the C library that records its calls."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.profile: str | None = json.dumps(PROFILE, ensure_ascii=False)
        self.refusal = b""
        self.plan = b""
        self.left = 0  # steps still to record
        self.step = 0
        self._texts: dict[int, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return lambda *_: self.calls.append(name.removeprefix("sentinel_"))

    def sentinel_step_begin(self) -> int:
        self.calls.append("step_begin")
        self.step += 1
        return self.step

    def sentinel_step_end(self, step: int, completed: bool) -> None:
        assert step == self.step
        self.calls.append("step_end" if completed else "step_failed")
        self.left -= bool(self.left and completed)

    def sentinel_profile_begin(self) -> int:
        self.calls.append("profile_begin")
        self.left = 2
        return 0

    def sentinel_profile_left(self) -> int:
        return self.left

    def _lent(self, text: str | None) -> int | None:
        if text is None:
            return None
        buffer = ctypes.create_string_buffer(text.encode())
        self._texts[ctypes.addressof(buffer)] = buffer
        return ctypes.addressof(buffer)

    def sentinel_profile_end(self) -> int | None:
        self.calls.append("profile_end")
        return self._lent(self.profile)

    def sentinel_statistics(self) -> int | None:
        return self._lent('{"steps": 3}')

    def sentinel_free(self, pointer: int) -> None:
        del self._texts[pointer]

    def sentinel_plan_begin(self, text: bytes, length: int, error: Any, size: int) -> int:
        assert length == len(text)
        assert size == len(error)
        self.plan = text
        error.value = self.refusal
        self.calls.append("plan_begin")
        return -1 if self.refusal else 0

    @property
    def lent(self) -> int:
        return len(self._texts)


@pytest.fixture
def runtime() -> Any:
    return guest.load("guest.bindings.runtime")


def trainer_module() -> Any:
    return guest.also("guest.bindings.trainer")


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


def steps(trainer: Any, count: int) -> None:
    for _ in range(count):
        with trainer.step():
            pass


def test_a_trainer_profiles_then_executes_the_plan(runtime: Any, library: Library, tmp_path: Path) -> None:
    profile, plan = tmp_path / "profile.json", tmp_path / "plan.json"

    def planner(profile_path: str, path: str) -> None:
        assert json.loads(Path(profile_path).read_text()) == PROFILE
        Path(path).write_text("a plan")

    trainer = trainer_module().Trainer(str(profile), str(plan), skip=1, planner=planner)
    steps(trainer, 4)
    step = ["step_begin", "step_end"]
    assert library.calls == [*step, "profile_begin", *step, *step, "profile_end", "plan_begin", *step]
    assert library.plan == b"a plan"


def test_a_trainer_executes_a_given_plan_from_the_first_step(
    runtime: Any, library: Library, tmp_path: Path
) -> None:
    (tmp_path / "plan.json").write_text("{}")
    steps(trainer_module().Trainer(plan=str(tmp_path / "plan.json")), 1)
    assert library.calls == ["plan_begin", "step_begin", "step_end"]


def test_a_failure_is_printed_and_training_continues(
    runtime: Any, library: Library, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def planner(*_: str) -> None:
        raise ValueError("no room")

    steps(
        trainer_module().Trainer(str(tmp_path / "p.json"), str(tmp_path / "none"), skip=0, planner=planner), 3
    )
    assert capsys.readouterr().err == "sentinel: no room; training continues unmanaged\n"
    steps(trainer_module().Trainer("/none/p.json", skip=0), 3)
    assert "cannot write a profile to /none/p.json" in capsys.readouterr().err
    assert library.calls.count("step_end") == 6


def test_a_profile_is_written_when_training_ends_early(
    runtime: Any, library: Library, tmp_path: Path
) -> None:
    trainer = trainer_module().Trainer(str(tmp_path / "p.json"), skip=0)
    steps(trainer, 1)
    trainer.end()
    trainer.end()
    assert library.calls.count("profile_end") == 1
    assert (tmp_path / "p.json").exists()


def test_failed_runs_are_not_steps(runtime: Any, library: Library, tmp_path: Path) -> None:
    trainer = trainer_module().Trainer(str(tmp_path / "p.json"), skip=1)
    for failing in (True, False, True, False, True, False):
        with contextlib.suppress(KeyError), trainer.step():
            if failing:
                raise KeyError
    failed, done = ["step_begin", "step_failed"], ["step_begin", "step_end"]
    profiled = ["profile_begin", *failed, *done, *failed, *done, "profile_end"]
    assert library.calls == [*failed, *done, *profiled]


def test_training_that_ends_before_its_profile_says_so(
    runtime: Any, library: Library, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = trainer_module().Trainer(str(tmp_path / "p.json"), skip=4)
    steps(trainer, 3)
    trainer.end()
    assert (
        capsys.readouterr().err == "sentinel: no profile: it starts after 4 steps, and the training had 3\n"
    )


def test_threads_share_a_trainer(runtime: Any, library: Library, tmp_path: Path) -> None:
    trainer = trainer_module().Trainer(str(tmp_path / "p.json"), skip=0)
    library.sentinel_step_end = lambda *_: library.calls.append("step_end")  # type: ignore[method-assign]
    threads = [threading.Thread(target=steps, args=(trainer, 20)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    library.left = 0
    steps(trainer, 2)
    assert library.calls.count("step_end") == 82
    assert library.calls.count("profile_begin") == library.calls.count("profile_end") == 1


def test_a_forked_child_does_not_use_the_runtime(
    runtime: Any, library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trainer_module().Trainer(str(tmp_path / "p.json"), skip=0)
    steps(trainer, 1)
    calls = list(library.calls)
    monkeypatch.setattr(trainer_module().os, "getpid", lambda: -1)
    steps(trainer, 3)
    trainer.end()
    assert library.calls == calls
    assert not trainer.in_own_process()


class Op:
    """A fake operation of a graph."""

    def __init__(self, kind: str, *inputs: Any, control: tuple[Any, ...] = ()) -> None:
        self.type = self.name = kind
        self.inputs = [SimpleNamespace(op=i) for i in inputs]
        self.control_inputs = list(control)


def test_trains_recognises_operations_that_update_variables(runtime: Any) -> None:
    loss = Op("Mean", Op("MatMul", Op("Placeholder")))
    update = Op("ApplyMomentum", Op("MatMul", loss))
    loop = Op("Merge")
    loop.inputs.append(SimpleNamespace(op=Op("NextIteration", loop)))
    assert not trainer_module().trains([loss, loop])
    assert trainer_module().trains([loss, Op("NoOp", control=(Op("NoOp", control=(update,)),))])
    assert trainer_module().trains([Op("ResourceApplyAdam")])


def test_wrapped_sessions_report_training_runs_only(monkeypatch: pytest.MonkeyPatch) -> None:
    wrap = guest.load("guest.wrap")
    monkeypatch.setitem(__import__("sys").modules, "tensorflow", SimpleNamespace(Tensor=type(None)))

    class Graph:
        def as_graph_element(self, name: str) -> Op:
            return {"train": Op("ApplyAdam"), "loss": Op("Mean")}[name]

    graphs = [Graph()]
    said: list[str] = []

    class Session:
        def __init__(self) -> None:
            self.graph = graphs[0]

        def run(self, fetches: Any, feed: Any = None) -> Any:
            said.append(f"run {fetches}")
            if feed == "bad":
                raise ValueError(feed)
            return fetches

    @contextlib.contextmanager
    def step() -> Iterator[None]:
        said.append("before")
        try:
            yield
        finally:
            said.append("after")

    wrap.watch(Session, SimpleNamespace(step=step))
    session = Session()
    assert session.run("loss") == "loss"
    assert session.run({"a": ["loss"], "b": "train"}, feed=1) == {"a": ["loss"], "b": "train"}
    with pytest.raises(ValueError, match="bad"):
        session.run("train", "bad")
    session.run("unknown")
    assert [line.split()[0] for line in said] == ["run", *["before", "run", "after"] * 2, "run"]
    alive = weakref.ref(graphs.pop())
    del session
    gc.collect()
    assert alive() is None


def test_a_hooked_session_has_a_step_for_each_of_its_runs(
    runtime: Any, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = SimpleNamespace(SessionRunHook=object)
    monkeypatch.setitem(__import__("sys").modules, "tensorflow", SimpleNamespace(train=train))

    class Session:
        def run(self, fetches: Any, feed: Any = None) -> Any:
            library.calls.append("run")
            if feed == "end of data":
                raise StopIteration(feed)
            return fetches

    def monitored(fetches: Any, feed: Any = None) -> Any:
        hook.before_run(SimpleNamespace(original_args=SimpleNamespace(fetches=fetches)))
        sessions[0].run("another hook's")
        return sessions[0].run(fetches={"caller": fetches, "hook": "loss"}, feed=feed)

    hook = guest.also("guest.bindings.hook").SentinelHook()
    sessions = [Session()]
    hook.after_create_session(sessions[0], None)
    assert monitored(["train"])["caller"] == ["train"]
    with pytest.raises(StopIteration):
        monitored(["train"], "end of data")
    monitored(["train"])
    whole = ["run", "step_begin", "run", "step_end"]
    assert library.calls == [*whole, "run", "step_begin", "run", "step_failed", *whole]
    sessions.append(Session())
    hook.after_create_session(sessions[1], None)
    gc.disable()  # python2.7 would not free a session in a cycle
    try:
        last = weakref.ref(sessions.pop())
        assert last() is None
    finally:
        gc.enable()


def test_wrapped_sessions_prepare_before_training_runs_only(monkeypatch: pytest.MonkeyPatch) -> None:
    wrap = guest.load("guest.wrap")
    said: list[str] = []
    monkeypatch.setitem(__import__("sys").modules, "tensorflow", SimpleNamespace(Tensor=type(None)))

    class Session:
        class graph:  # noqa: N801 (an attribute of sessions)
            as_graph_element = Op

        def run(self, fetches: Any) -> None:
            said.append(fetches)

    @contextlib.contextmanager
    def step() -> Iterator[None]:
        said.append("before")
        yield
        said.append("after")

    trainer = SimpleNamespace(step=step)
    wrap.watch(Session, trainer, lambda: said.append("prepare"))
    Session().run("Mean")
    Session().run("ApplyAdam")
    assert said == ["Mean", "prepare", "before", "ApplyAdam", "after"]


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
