# SPDX-License-Identifier: Apache-2.0
"""The backend of virtual machines, with the machine itself replaced."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from experiments import job
from experiments.backend import Callbacks, VirtualMachines
from testbed import vm
from testbed.common.cache_entry import Entry
from testbed.timing import counters, preset
from testbed.vm import snapshot


@pytest.fixture
def events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What the backend does, in order."""
    events: list[tuple[Any, ...]] = []

    class Shell(contextlib.nullcontext[None]):
        def __enter__(self) -> Any:
            return SimpleNamespace(put=lambda source, target: events.append(("put", source, target)))

    machine = SimpleNamespace(
        console_path=tmp_path / "console.log",
        counters_path=tmp_path / "counters.jsonl",
        limits=SimpleNamespace(step=15.0),
        watchdog=lambda: None,
        shell=Shell,
    )

    @contextlib.contextmanager
    def running(name: str, saved: Any, *, uri: str | None) -> Iterator[Any]:
        events.append(("start", saved, uri))
        try:
            yield machine
        finally:
            events.append(("end",))

    def release(
        shell: Any, watchdog: Any, order: dict[str, Any], on_step: Any, *, per_step: float, on_output: Any
    ) -> None:
        events.append(("release", order, per_step))
        on_output(b"epoch 1")
        on_step({"step": 0})

    def load(entry: Entry, *, cache: Any) -> Any:
        return SimpleNamespace(with_preset=lambda costs: (entry.key, costs))

    monkeypatch.setattr(vm, "running", running)
    monkeypatch.setattr(job, "release", release)
    monkeypatch.setattr(snapshot, "load", load)
    monkeypatch.setattr(counters, "check", lambda path: events.append(("check", path.name)))
    return events


WAITING = Entry("snapshot", "key", Path(), {})


def train(
    events: list[tuple[Any, ...]], costs: Any, order: dict[str, Any], inputs: Mapping[str, Path]
) -> None:
    VirtualMachines(uri="test:///default").train(
        WAITING,
        costs,
        order,
        inputs=inputs,
        callbacks=Callbacks(
            on_start=lambda console: events.append(("console", console.name)),
            on_step=lambda record: events.append(("step", record)),
            on_output=lambda data: events.append(("output", data)),
            on_summary=lambda summary: events.append(("summary", summary)),
        ),
    )


def test_training_restores_the_snapshot_and_checks_the_counters(events: list[tuple[Any, ...]]) -> None:
    costs, order = preset.load("optane-6dimm"), {"steps": 1, "plan": "/run/sentinel/plans"}
    train(events, costs, order, {"/run/sentinel/plans": Path("plans")})
    assert events == [
        ("start", ("key", costs), "test:///default"),
        ("console", "console.log"),
        ("put", Path("plans"), "/run/sentinel/plans"),
        ("release", order, 15.0),
        ("output", b"epoch 1"),
        ("step", {"step": 0}),
        ("check", "counters.jsonl"),
        ("end",),
    ]


def test_a_process_that_plans_has_more_time_and_leaves_a_summary(
    events: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "read_summary", lambda shell: {"steps": 3})
    train(events, None, {"online": {}}, {})
    assert ("release", {"online": {}}, 75.0) in events
    assert events[-2:] == [("summary", {"steps": 3}), ("end",)]


def test_training_without_a_preset_has_no_counters(events: list[tuple[Any, ...]]) -> None:
    train(events, None, {"steps": 1}, {})
    assert [event[0] for event in events] == ["start", "console", "release", "output", "step", "end"]


def test_a_machine_without_slow_memory_is_not_calibrated() -> None:
    boot: Any = SimpleNamespace(preset=None, remote=None)
    assert VirtualMachines().calibrate(boot) is None
