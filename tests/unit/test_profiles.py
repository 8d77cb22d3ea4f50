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
PROFILES = {kind: networks.resnet(seed=1, blocks=blocks) for blocks, kind in enumerate("ab", 1)}
PROFILED_NS = {kind: profile.step_ns for kind, profile in PROFILES.items()}
ITERATION = {kind: 7 * ns / sum(PROFILED_NS.values()) for kind, ns in PROFILED_NS.items()}


class Guest:
    """A fake guest that writes a profile of each kind, and one record for each of `records`."""

    def __init__(self, kinds: list[str], records: list[tuple[str | None, int | None]]) -> None:
        self.orders: list[dict[str, Any]] = []
        self.presets: list[preset.Preset] = []
        self.kinds, self.records = kinds, records

    def shell(self) -> contextlib.AbstractContextManager[Any]:
        return contextlib.nullcontext(self)

    def get(self, source: str, target: Path) -> None:
        assert source == self.orders[-1]["profile"]
        target.mkdir()
        for kind in self.kinds:
            files.write_profile(target / f"{kind}.json.gz", PROFILES[kind])

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
        saved = SimpleNamespace(with_preset=self.presets.append)
        monkeypatch.setattr(snapshot, "load", lambda entry, *, cache: saved)
        costs = preset.load("optane-6dimm")
        return profiles.ensure_profiles(WAITING, costs, script=script, name="p", cache=Cache())


@pytest.mark.parametrize(
    ("kinds", "records", "durations"),
    [
        (["a"], [("a", 9), ("a", 8), ("a", 7)], {"a": 7}),
        (["a"], [(None, 9), (None, 8), (None, 7)], {"a": 7}),
        (["a", "b"], [("a", 1), ("b", 2), ("a", 3), ("b", 4), ("a", 5)], {"a": 5, "b": PROFILED_NS["b"]}),
        (["a", "b"], [("a", 9), ("a", 8), ("a", 7)], ITERATION),
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
    assert [order["memory"]["nodes"] for order in guest.orders] == [[1], [1]]
    costs = preset.load("optane-6dimm")
    assert guest.presets == [costs.all_fast(), costs]
    assert costs.all_fast().nodes == (costs.nodes[0], costs.nodes[0])
    for profiled in recorded.kinds.values():
        assert profiled.profile.ops.fast_ns is not None
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
    assert [order["steps"] for order in guest.orders] == [profiles.SCRIPT_STEPS + 1, steps]


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
