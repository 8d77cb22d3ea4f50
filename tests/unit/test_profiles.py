# SPDX-License-Identifier: Apache-2.0
"""Profiles of a training process, with the machine replaced."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from experiments import job, profiles
from experiments.profiles import Profiles
from sentinel.planner.formats import files
from testbed import vm
from testbed.common.cache import Cache
from testbed.common.cache_entry import Entry
from testbed.common.errors import WorkloadError
from testbed.timing import preset
from testbed.vm import snapshot
from tests.fakes import networks

WAITING = Entry("snapshot", "key", Path(), {})


class Guest:
    """A fake guest that writes a profile of each kind, and one record for each of `records`."""

    def __init__(self, kinds: list[str], records: list[tuple[str | None, int | None]]) -> None:
        self.orders: list[dict[str, Any]] = []
        self.kinds, self.records = kinds, records

    def shell(self) -> contextlib.AbstractContextManager[Any]:
        return contextlib.nullcontext(self)

    def get(self, source: str, target: Path) -> None:
        assert source == self.orders[-1]["profile"]
        target.mkdir()
        for number, kind in enumerate(self.kinds):
            files.write_profile(target / f"{kind}.json.gz", networks.resnet(seed=1, blocks=1 + number))

    def release(
        self, shell: Any, watchdog: Any, order: dict[str, Any], on_step: Any, *, per_step: float
    ) -> None:
        self.orders.append(order)
        for kind, time in self.records:
            on_step({"model_ns": time, "warmup": False, **({} if kind is None else {"kind": kind})})

    def profiles(self, monkeypatch: pytest.MonkeyPatch, *, script: bool = False) -> Profiles:
        machine = SimpleNamespace(shell=self.shell, watchdog=lambda: None, limits=SimpleNamespace(step=15.0))

        @contextlib.contextmanager
        def running(name: str, saved: Any, *, uri: str | None) -> Iterator[Any]:
            yield machine

        monkeypatch.setattr(vm, "running", running)
        monkeypatch.setattr(job, "release", self.release)
        saved = SimpleNamespace(with_preset=lambda _: None)
        monkeypatch.setattr(snapshot, "load", lambda entry, *, cache: saved)
        costs = preset.load("optane-6dimm")
        return profiles.ensure_profiles(WAITING, costs, script=script, name="p", cache=Cache())


@pytest.mark.parametrize(
    ("kinds", "records", "durations"),
    [
        (["a"], [("a", 9), ("a", 7)], {"a": 7}),
        (["a"], [(None, 9), (None, 7)], {"a": 7}),
        (["a", "b"], [("a", 1), ("b", 2), ("a", 3), ("b", 4)], {"a": 3, "b": 4}),
        (["a", "b"], [("a", 9), ("a", 7)], {"a": None, "b": None}),
    ],
    ids=["one kind", "records without a kind", "two kinds", "iterations of two kinds"],
)
def test_each_kind_has_its_profile_and_its_time_in_fast_memory(
    monkeypatch: pytest.MonkeyPatch,
    kinds: list[str],
    records: list[tuple[str | None, int | None]],
    durations: dict[str, float | None],
) -> None:
    guest = Guest(kinds, records)
    recorded = guest.profiles(monkeypatch)
    assert {kind: p.fast_step_ns for kind, p in recorded.kinds.items()} == durations
    assert recorded.peak == recorded.kinds[kinds[-1]].peak > 0
    assert [order["memory"]["nodes"] for order in guest.orders] == [[0], [1]]
    assert ["profile" in order for order in guest.orders] == [False, True]
    again = guest.profiles(monkeypatch)
    assert [p.path for p in again.kinds.values()] == [p.path for p in recorded.kinds.values()]
    assert len(guest.orders) == 2, "the profiles are not cached"


@pytest.mark.parametrize(
    ("kinds", "steps"),
    [("aaaa", 2), ("abab", 4), ("aabb", 4), ("abbb", 4), ("aaba", 4)],
)
def test_the_steps_of_a_script_are_profiled_until_each_kind_has_run_twice(
    monkeypatch: pytest.MonkeyPatch, kinds: str, steps: int
) -> None:
    guest = Guest(sorted(set(kinds)), [(kind, 1) for kind in kinds])
    guest.profiles(monkeypatch, script=True)
    assert [order["steps"] for order in guest.orders] == [profiles.SCRIPT_STEPS, steps]


@pytest.mark.parametrize(
    ("kinds", "records", "message"),
    [
        ([], [("a", 7)], "wrote no profile"),
        (["a"], [("a", None)], "the model clock is missing"),
        (["a"], [], "had no step"),
    ],
)
def test_a_training_that_cannot_be_profiled_is_reported(
    monkeypatch: pytest.MonkeyPatch,
    kinds: list[str],
    records: list[tuple[str | None, int | None]],
    message: str,
) -> None:
    with pytest.raises(WorkloadError, match=message):
        Guest(kinds, records).profiles(monkeypatch)
