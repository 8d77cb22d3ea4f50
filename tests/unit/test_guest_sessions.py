# SPDX-License-Identifier: Apache-2.0
"""The ways to run a graph that are steps, on a fake of TensorFlow's session."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tests.fakes import guest


class Op:
    """A fake operation; its name tells whether it trains."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.type = "ApplyAdam" if name == "train" else "Mean"
        self.inputs: list[Any] = []
        self.control_inputs: list[Any] = []


class Tensor:
    """A fake tensor of an operation, of unknown shape."""

    def __init__(self, name: str) -> None:
        self.op, self.name = Op(name), f"{name}:0"
        self.shape = SimpleNamespace(is_fully_defined=lambda: False, dims=None)


class Graph:
    """A fake graph."""

    def get_collection(self, _: str) -> list[Any]:
        return []

    def as_graph_element(self, name: str) -> Any:
        return Tensor(name.removesuffix(":0")) if ":" in name else Op(name)


class FetchHandler:
    """Sorts fetches into operations and tensors."""

    def __init__(self, graph: Graph, fetches: Any, feeds: Any) -> None:
        self._fetches = fetches if isinstance(fetches, list) else [fetches]

    def targets(self) -> list[Op]:
        return [fetch for fetch in self._fetches if isinstance(fetch, Op)]

    def fetches(self) -> list[Tensor]:
        return [fetch for fetch in self._fetches if isinstance(fetch, Tensor)]


@pytest.fixture
def session_class(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A fake of TensorFlow's BaseSession, where the guest's code looks for it."""

    class BaseSession:
        def __init__(self, target: str = "") -> None:
            self.graph, self._target, self.ran = Graph(), target, 0

        def _do_run(self, handle: Any, *arguments: Any) -> str:
            self.ran += 1
            if arguments[3] == "fail":
                raise ValueError("failed")
            return "result"

        def make_callable(self, fetches: Any, feed_list: Any = None, accept_options: bool = False) -> Any:
            return lambda *_: self._do_run(None, [], [], {}, None, None) if feed_list else "called"

        def _make_callable_from_options(self, options: Any) -> Any:
            return lambda *_: "from options"

        def partial_run_setup(self, fetches: Any, feeds: Any = None) -> str:
            return "handle"

    module = ModuleType("tensorflow.python.client.session")
    module.BaseSession, module._FetchHandler = BaseSession, FetchHandler  # type: ignore[attr-defined]
    client = ModuleType("tensorflow.python.client")
    client.session = module  # type: ignore[attr-defined]
    for name, fake in {
        "tensorflow": ModuleType("tensorflow"),
        "tensorflow.python": ModuleType("tensorflow.python"),
        "tensorflow.python.client": client,
        "tensorflow.python.client.session": module,
    }.items():
        monkeypatch.setitem(sys.modules, name, fake)
    return BaseSession


class Manager:
    """Records the steps."""

    def __init__(self) -> None:
        self.steps: list[Any] = []

    @contextlib.contextmanager
    def step(self, signature: Any, bucket: Any, elements: int, remote: str | None) -> Iterator[None]:
        entry = [bucket, elements, remote, "failed"]
        self.steps.append(entry)
        yield
        entry[-1] = "completed"

    def begin_partial_step(self, signature: Any) -> Any:
        entry = ["open"]
        self.steps.append(entry)
        return lambda completed: entry.__setitem__(0, "completed" if completed else "failed")


@pytest.fixture
def manager(session_class: Any) -> Manager:
    """A manager that watches all sessions."""
    manager = Manager()
    sessions = guest.load("guest.bindings.sessions")
    sessions.watch_all(sessions.Watch(manager))
    return manager


TRAIN, LOSS = Op("train"), Tensor("loss")


def run(session: Any, targets: list[Op], fetches: list[Tensor], feeds: Any = None, handle: Any = None) -> Any:
    return session._do_run(handle, targets, fetches, feeds or {}, None, None)


def test_training_runs_are_steps_and_others_are_not(session_class: Any, manager: Manager) -> None:
    session = session_class()
    assert run(session, [], [LOSS]) == "result"
    assert manager.steps == []
    assert run(session, [TRAIN], [LOSS]) == "result"
    assert manager.steps == [[(), 0, None, "completed"]]
    assert session.ran == 2


def test_a_failed_run_raises_its_own_error(session_class: Any, manager: Manager) -> None:
    with pytest.raises(ValueError, match="failed"):
        session_class()._do_run(None, [TRAIN], [], {}, "fail", None)
    assert manager.steps[0][-1] == "failed"


def test_shapes_of_feeds_make_buckets(session_class: Any, manager: Manager) -> None:
    run(session_class(), [TRAIN], [], {Tensor("x"): SimpleNamespace(shape=(5, 3))})
    assert manager.steps == [[(("x:0", (8, 4)),), 15, None, "completed"]]


def test_runs_on_a_server_name_an_operation(session_class: Any, manager: Manager) -> None:
    run(session_class("grpc://localhost:1"), [TRAIN], [LOSS])
    assert manager.steps[0][2] == "train"


def test_callables_are_steps_at_each_call(session_class: Any, manager: Manager) -> None:
    session = session_class()
    train = session.make_callable(TRAIN)
    loss = session.make_callable(LOSS)
    assert manager.steps == []
    assert [train(), train(), loss()] == ["called", "called", "called"]
    assert len(manager.steps) == 2
    options = SimpleNamespace(target=["train"], fetch=["loss:0"], feed=["x:0"])
    keras = session._make_callable_from_options(options)
    assert keras(SimpleNamespace(shape=(2, 2))) == "from options"
    assert manager.steps[2][:2] == [(("x:0", (2, 2)),), 4]


def test_a_partial_run_is_one_step_until_all_is_fetched(session_class: Any, manager: Manager) -> None:
    session = session_class()
    handle = session.partial_run_setup([LOSS, Tensor("train")], [Tensor("x")])
    assert manager.steps == [["open"]]
    run(session, [], [LOSS], handle=handle)
    assert manager.steps == [["open"]]
    run(session, [], [Tensor("train")], handle=handle)
    assert manager.steps == [["completed"]]
    session.partial_run_setup([LOSS])
    assert len(manager.steps) == 1  # does not train


def test_a_partial_run_that_fails_ends_its_step(session_class: Any, manager: Manager) -> None:
    session = session_class()
    handle = session.partial_run_setup([Tensor("train")])
    with pytest.raises(ValueError, match="failed"):
        session._do_run(handle, [], [], {}, "fail", None)
    assert manager.steps == [["failed"]]


def test_only_the_hooked_session_is_watched(session_class: Any) -> None:
    sessions = guest.load("guest.bindings.sessions")
    hooked, other, manager = session_class(), session_class(), Manager()
    sessions.watch_session(hooked, sessions.Watch(manager))
    for session in (hooked, other):
        run(session, [TRAIN], [])
    assert len(manager.steps) == 1
