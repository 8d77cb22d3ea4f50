# SPDX-License-Identifier: Apache-2.0
"""Baselines keep the figures of runs, one file each, and name one of them as current."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from results import compare, measured, store
from results.runs import Run
from results.sides import Side
from testbed.common.errors import UsageError
from tests.fakes.run_records import add, begin, cell_of, make_run, steps_of
from tests.fakes.sides import measured as measured_of
from tests.fakes.sides import measured_cell


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("small") / "run", models=("lstm",), placements=("fast-only",))


def put(root: Path, name: str, **changes: Any) -> Path:
    """Store a synthetic result under a name."""
    path = root / "main" / f"{name}.json"
    measured.write(path, measured_of(measured_cell([1.0, 1.1, 1.2]), **changes))
    return path


def test_saved_result_compares_like_its_run(small: Run, tmp_path: Path) -> None:
    entry = store.save(tmp_path, "main", small)
    assert entry.path == tmp_path / "main" / "20260301T123000Z-0123456789.json"
    assert entry.path.stat().st_size < 10_000
    side = store.side(tmp_path, "main")
    direct, stored = (compare.compare(Side.of_runs(small), other) for other in (Side.of_runs(small), side))
    assert [pair.ratio for pair in stored.pairs] == [pair.ratio for pair in direct.pairs]
    assert [pair.losses.outcome for pair in stored.pairs] == ["equal"]
    assert stored.origins == {}


def test_saving_a_run_again_replaces_its_result(small: Run, tmp_path: Path) -> None:
    first, second = store.save(tmp_path, "main", small), store.save(tmp_path, "main", small)
    assert first == second
    assert len(store.entries(tmp_path, "main")) == 1


def test_newest_result_is_current_unless_another_is_chosen(tmp_path: Path) -> None:
    put(tmp_path, "20260301T000000Z-a"), put(tmp_path, "20260302T000000Z-b", day=2)
    assert store.current(tmp_path, "main").name == "20260302T000000Z-b"
    assert store.use(tmp_path, "main", "20260301T000000Z-a").current
    assert store.current(tmp_path, "main").name == "20260301T000000Z-a"
    assert store.use(tmp_path, "main", "newest").name == "20260302T000000Z-b"


def test_saved_result_becomes_current_even_if_it_is_older(small: Run, tmp_path: Path) -> None:
    put(tmp_path, "20270101T000000Z-later")
    store.save(tmp_path, "main", small)
    assert store.current(tmp_path, "main").name == "20260301T123000Z-0123456789"


@pytest.mark.parametrize("name", ["", "../x", "-x", "Main", "repeatability"])
def test_invalid_names_are_refused(small: Run, tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="cannot name a baseline"):
        store.save(tmp_path, name, small)


def test_unknown_names_list_the_known_ones(tmp_path: Path) -> None:
    put(tmp_path, "20260301T000000Z-a")
    with pytest.raises(UsageError, match="neither a folder nor a baseline") as e:
        store.side(tmp_path, "other")
    assert e.value.hint is not None and "main" in e.value.hint
    with pytest.raises(UsageError, match="no baseline 'other'"):
        store.current(tmp_path, "other")
    with pytest.raises(UsageError, match="has no result 'x'"):
        store.use(tmp_path, "main", "x")


def test_missing_current_result_is_reported(tmp_path: Path) -> None:
    put(tmp_path, "20260301T000000Z-a")
    (tmp_path / "main" / "current").write_text("gone\n")
    with pytest.raises(UsageError, match="the result in use is missing"):
        store.side(tmp_path, "main")


def test_run_without_finished_repeats_is_refused(tmp_path: Path) -> None:
    begin(tmp_path / "run", [cell_of("lstm", "fast-only")])
    with pytest.raises(UsageError, match="no finished repeat"):
        store.save(tmp_path / "store", "main", Run.load(tmp_path / "run"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 99}, "newer than this program"),
        (
            {"cells": [{"id": "a", "resolved": {}, "repeats": [{"repeat": 0, "steps": 1, "origin": 7}]}]},
            "no origin",
        ),
        ({"cells": [{"id": "a", "resolved": {}}, {"id": "a", "resolved": {}}]}, "the same id"),
        ({"surprise": 1}, "surprise"),
        ({"created": "yesterday"}, "created"),
    ],
)
def test_damaged_results_are_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = put(tmp_path, "20260301T000000Z-a")
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UsageError, match=message):
        store.side(tmp_path, "main")


@pytest.mark.parametrize("text", ["", "[", '{"format": 1', "null", '{"format": NaN}'])
def test_results_that_are_no_json_are_refused(tmp_path: Path, text: str) -> None:
    path = put(tmp_path, "20260301T000000Z-a")
    path.write_text(text)
    with pytest.raises(UsageError, match="damaged"):
        store.side(tmp_path, "main")


def test_several_runs_are_one_side(tmp_path: Path) -> None:
    cell = cell_of("lstm", "fast-only")
    for name in ("a", "b"):
        begin(tmp_path / name, [cell])
        for repeat in range(2):
            add(tmp_path / name, cell, repeat, steps_of(cell, seed=repeat))
    side = store.side(tmp_path / "store", f"{tmp_path / 'a'},{tmp_path / 'b'}")
    (merged,) = side.cells
    assert [sample.name for sample in merged.samples] == [
        f"{run}, repeat {repeat}" for run in "ab" for repeat in (0, 1)
    ]
    with pytest.raises(UsageError, match="given twice"):
        store.side(tmp_path / "store", f"{tmp_path / 'a'},{tmp_path / 'a'}/")
