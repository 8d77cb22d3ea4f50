# SPDX-License-Identifier: Apache-2.0
"""The order of repeats, running again what failed or is done, and what must not be mixed in a run."""

from __future__ import annotations

import json
from typing import Any

import pytest

from experiments import provenance
from testbed.common.errors import UsageError, WorkloadError
from testbed.host import accel
from tests.fakes.backend import FakeBackend
from tests.fakes.lab import SUITE, Lab

SEEDED = SUITE.replace("order_seed: null", "order_seed: 5")


def events(lab: Lab) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (lab.out / "events.jsonl").read_text().splitlines()]


def order(lab: Lab) -> list[tuple[str, int]]:
    return [(e["cell"], e["repeat"]) for e in events(lab) if e["event"] == "repeat-started"]


def test_repeats_run_in_rounds_of_all_cells_in_a_seeded_order(lab: Lab) -> None:
    lab.run(SEEDED)
    ran = order(lab)
    cells = [cell.id for cell in lab.stored().cells]
    rounds = [[cell for cell, number in ran if number == repeat] for repeat in range(3)]
    assert [number for _, number in ran] == [0] * 4 + [1] * 4 + [2] * 4
    assert [sorted(ids) for ids in rounds] == [sorted(cells)] * 3
    assert len(set(map(tuple, rounds))) > 1
    again = Lab(lab.folder / "again", lab.folder)
    again.run(SEEDED)
    assert order(again) == ran
    other = Lab(lab.folder / "other", lab.folder)
    other.run(SEEDED.replace("order_seed: 5", "order_seed: 6"))
    assert order(other) != ran
    assert json.loads((lab.out / "run.json").read_text())["resolved"]["order_seed"] == 5


def test_an_interrupted_run_continues_in_the_same_order(lab: Lab) -> None:
    whole = Lab(lab.folder / "whole", lab.folder)
    whole.run(SEEDED)
    lab.backend.failures[5] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        lab.run(SEEDED)
    lab.backend.failures.clear()
    lab.run(SEEDED)
    started = order(lab)
    assert started[:5] + started[6:] == order(whole)


def test_failed_repeats_are_run_again_alone(lab: Lab) -> None:
    lab.backend.failures.update({4: WorkloadError("once"), 5: KeyboardInterrupt()})
    with pytest.raises(KeyboardInterrupt):
        lab.run()
    lab.backend = FakeBackend(lab.folder)
    outcome = lab.run(which="failed")
    assert (outcome.done, outcome.kept) == (1, 4)
    assert [repeat.number for repeat in lab.stored().cells[1].repeats] == [0, 1]
    assert lab.run(which="failed").done == 0


def test_finished_repeats_are_replaced_when_asked(lab: Lab) -> None:
    lab.run()
    label = "cnn b8, slow-only"
    before = {repeat.number: repeat.path.stat().st_ino for repeat in lab.stored().cells[1].repeats}
    outcome = lab.run(which="all", only=[label])
    assert (outcome.done, outcome.kept) == (3, 0)
    cell = lab.stored().cells[1]
    assert all(repeat.path.stat().st_ino != before[repeat.number] for repeat in cell.repeats)
    assert len(cell.repeats) == 3
    assert [path.name for path in cell.repeats[0].path.parent.iterdir() if "tmp" in path.name] == []


def test_a_failed_repeat_does_not_replace_a_finished_one(lab: Lab) -> None:
    lab.run()
    lab.backend = FakeBackend(lab.folder, failures={0: WorkloadError("now")})
    assert len(lab.run(which="all").failures) == 1
    cell = lab.stored().cells[0]
    assert ([r.number for r in cell.repeats], [r.number for r in cell.failures]) == ([0, 1, 2], [0])


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("commit", lambda m: m.setattr(provenance, "revision", lambda digits: "fedcba")),
        ("QEMU", lambda m: m.setattr(accel, "qemu_version", lambda _: "fedcba")),
    ],
)
def test_repeats_of_another_origin_are_refused(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, name: str, change: Any
) -> None:
    lab.backend.failures[11] = WorkloadError("once")
    lab.run()
    change(monkeypatch)
    lab.backend = FakeBackend(lab.folder)
    with pytest.raises(
        UsageError, match=rf"has repeats of another {name}: 000 of cell .* now it is fedcba"
    ) as e:
        lab.run()
    assert "--force" in str(e.value.hint)
    assert lab.backend.orders == []
    assert lab.run(which="all").done == 12
    assert lab.run().kept == 12


def test_repeats_of_another_runtime_are_refused(lab: Lab) -> None:
    lab.backend.failures[11] = WorkloadError("once")
    lab.run()
    lab.backend = FakeBackend(lab.folder, runtime="another")
    with pytest.raises(UsageError, match="has repeats of another runtime: a digest, and now it is another"):
        lab.run()
    assert sum(len(cell.repeats) for cell in lab.stored().cells) == 11


def test_the_events_of_a_run_are_lines_of_json(lab: Lab) -> None:
    lab.backend.failures[0] = WorkloadError("no")
    lab.run(SUITE.replace("repeats: 3", "repeats: 1"))
    lines = events(lab)
    assert [e["event"] for e in lines[:5]] == [
        "run-started",
        "repeat-started",
        "repeat-ended",
        "cell-skipped",
        "repeat-started",
    ]
    assert (
        lines[0].items() >= {"command": "sentinel run suite.yaml", "repeats": 4, "order_seed": None}.items()
    )
    cell = lab.stored().cells[0]
    assert lines[2].items() >= {"cell": cell.id, "repeat": 0, "status": "failed", "message": "no"}.items()
    assert lines[-1].items() >= {"event": "run-ended", "done": 3, "failed_cells": 1}.items()
