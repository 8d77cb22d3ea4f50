# SPDX-License-Identifier: Apache-2.0
"""Sessions in the guest: TensorFlow has no time limit for the optimization of their graphs."""

from __future__ import annotations

import copy
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tests.fakes import guest


class ConfigProto:
    """The fields of TensorFlow's configuration that matter, unset."""

    def __init__(self, inter_op: int = 0, intra_op: int = 0, timeout: int = 0) -> None:
        self.inter_op_parallelism_threads, self.intra_op_parallelism_threads = inter_op, intra_op
        rewriting = SimpleNamespace(meta_optimizer_timeout_ms=timeout)
        self.graph_options = SimpleNamespace(rewrite_options=rewriting)

    def CopyFrom(self, other: ConfigProto) -> None:  # noqa: N802 (as in protobuf)
        vars(self).update(copy.deepcopy(vars(other)))


def fields(config: ConfigProto) -> tuple[int, int, int]:
    timeout = config.graph_options.rewrite_options.meta_optimizer_timeout_ms
    return config.inter_op_parallelism_threads, config.intra_op_parallelism_threads, timeout


@pytest.fixture
def session_config(monkeypatch: pytest.MonkeyPatch) -> Any:
    tensorflow = ModuleType("tensorflow")
    tensorflow.ConfigProto = ConfigProto  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tensorflow", tensorflow)
    return guest.load("guest.session_config")


@pytest.mark.parametrize(
    ("config", "threads", "expected"),
    [
        (None, None, (0, 0, -1)),
        (None, 2, (2, 2, -1)),
        (ConfigProto(inter_op=3), 2, (3, 2, -1)),
        (ConfigProto(timeout=1000), None, (0, 0, 1000)),
    ],
)
def test_configuration_is_completed_where_it_leaves_fields_open(
    session_config: Any, config: ConfigProto | None, threads: int | None, expected: tuple[int, int, int]
) -> None:
    before = None if config is None else fields(config)
    assert fields(session_config.complete(config, threads)) == expected
    assert config is None or fields(config) == before


def test_what_is_no_configuration_is_left_to_tensorflow(session_config: Any) -> None:
    assert session_config.complete("wrong", 2) == "wrong"


def test_all_sessions_are_completed(session_config: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class BaseSession:
        def __init__(self, target: str = "", graph: Any = None, config: Any = None) -> None:
            self.target, self.config = target, config

    created = []
    module = SimpleNamespace(BaseSession=BaseSession)
    for name in ("tensorflow.python", "tensorflow.python.client"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setattr(sys.modules["tensorflow.python.client"], "session", module, raising=False)
    session_config.complete_all(2, before=lambda: created.append("before"))
    session = BaseSession("local", config=ConfigProto(intra_op=1))
    assert session.target == "local"
    assert fields(session.config) == (2, 1, -1)
    assert fields(BaseSession().config) == (2, 2, -1)
    assert created == ["before", "before"]
