# SPDX-License-Identifier: Apache-2.0
"""Runs as pandas frames, and their export."""

from __future__ import annotations

import importlib.util
import re
import statistics
from pathlib import Path

import pandas as pd
import pytest

import results
from results import export, frames
from results.report import rows
from results.runs import Run
from testbed.common.errors import UsageError
from tests.fakes.run_records import (
    TENSOR_BYTES,
    add,
    begin,
    cell_of,
    cells_of,
    make_run,
    steps_of,
    troubled_run,
)


def test_frames_have_a_row_per_cell_repeat_and_step(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", repeats=2)
    loaded = results.load(run.path)
    assert [len(frame) for frame in loaded] == [6, 6 * 2, 6 * 2 * 8]
    assert list(loaded.cells["cell"]) == [cell.id for cell in run.cells]
    assert list(loaded.cells["policy"].unique()) == ["fast-only", "slow-only", "sentinel"]
    steps = loaded.steps[~loaded.steps["warmup"]]
    medians = steps.groupby(["cell", "repeat"])["model_ns"].median()
    by_repeat = loaded.repeats.set_index(["cell", "repeat"])["model_median_ns"]
    assert by_repeat.sort_index().equals(medians.astype("Float64").rename("model_median_ns"))
    centres = loaded.cells.set_index("cell")["centre_ns"].sort_index()
    expected = by_repeat.groupby("cell").agg(statistics.geometric_mean)
    assert list(centres) == pytest.approx(list(expected))


def test_frames_agree_with_the_report(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", models=("lstm",))
    cells = results.load(run.path).cells
    for row, (_, frame_row) in zip(rows(run), cells.iterrows(), strict=True):
        shared = row.keys() & set(cells.columns) - {"budget", "settings"}
        assert len(shared) > 15
        for name in shared:
            assert row[name] == frame_row[name] or (row[name] is None and pd.isna(frame_row[name])), name


def test_frames_convert_units_by_node(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", models=("lstm",), placements=("sentinel",))
    cells, repeats, steps = results.load(run.path)
    (budget,) = cells["budget_bytes"]
    assert budget == TENSOR_BYTES // 5
    for frame in (cells, repeats, steps):
        assert set(frame["tensors_node0_bytes"]) == {budget}
        assert set(frame["tensors_node1_bytes"]) == {TENSOR_BYTES - budget}
    assert cells["anon_node0_share"][0] == pytest.approx(0.2)
    assert steps["vmstat_pgmigrate_success_count"][7] == 907


def test_frames_of_several_runs_are_concatenated(tmp_path: Path) -> None:
    paths = [make_run(tmp_path / name, models=("lstm",), repeats=1).path for name in ("a", "b")]
    loaded = results.load(*paths)
    assert list(loaded.cells["run"].unique()) == [str(path) for path in paths]


def test_frames_include_failed_attempts_and_missing_values(tmp_path: Path) -> None:
    run = troubled_run(tmp_path / "run")
    with pytest.warns(UserWarning, match="odd"):
        cells, repeats, _ = results.load(run.path)
    failed = repeats[repeats["status"] == "failed"]
    assert list(failed["attempt"]) == [1, 1]
    assert list(failed["verdict"]) == ["guest hang"] * 2
    assert failed["guest_median_ns"].isna().all()
    assert list(cells["repeats"]) == [2, 2, 1, 0]
    assert list(cells["centre_ns"].isna()) == [False, False, False, True]


def test_frames_without_the_model_clock(tmp_path: Path) -> None:
    cells = cells_of(placements=("fast-only", "slow-only"))
    begin(tmp_path / "run", cells)
    add(tmp_path / "run", cells[0], 0, steps_of(cells[0]))
    add(tmp_path / "run", cells[1], 0, steps_of(cells[1], model_clock=False))
    loaded = results.load(tmp_path / "run")
    assert list(loaded.cells["clock"].fillna("-")) == ["model", "-"]
    assert list(loaded.repeats["model_median_ns"].isna()) == [False, True]
    assert loaded.steps["model_ns"].isna().sum() == 8


@pytest.mark.parametrize("with_repeats", [False, True])
def test_frames_have_the_columns_and_types_of_the_schema(tmp_path: Path, with_repeats: bool) -> None:
    if with_repeats:
        make_run(tmp_path / "run", models=("lstm",), repeats=1)
    else:
        begin(tmp_path / "run", [cell_of("lstm", "fast-only")])
    for name, frame in results.load(tmp_path / "run")._asdict().items():
        patterns = [(re.sub("<[a-z]+>", ".+", field.name), field.dtype) for field in frames.SCHEMAS[name]]
        for column in frame:
            (dtype,) = {dtype for pattern, dtype in patterns if re.fullmatch(pattern, column)}
            assert str(frame[column].dtype) == dtype
        assert not frame.columns.has_duplicates


def test_columns_of_times_and_bytes_end_in_their_unit() -> None:
    quantities = ("median", "centre", "guest", "model_", "real", "anon", "file", "tensors", "peak", "vmstat")
    units = ("_ns", "_s", "_bytes", "_share", "_count", "_mean")
    for schema in frames.SCHEMAS.values():
        for field in schema:
            if field.name.startswith(quantities):
                assert field.name.endswith(units), field.name


@pytest.mark.parametrize("file_format", ["csv", "parquet"])
def test_export_writes_repeats_and_steps(tmp_path: Path, file_format: export.FileFormat) -> None:
    if file_format == "parquet":
        pytest.importorskip("pyarrow")
    run = make_run(tmp_path / "run", models=("lstm",))
    paths = export.write([run], tmp_path / "out", file_format)
    assert [path.name for path in paths] == [f"repeats.{file_format}", f"steps.{file_format}"]
    for path, frame in zip(paths, results.load(run.path)[1:], strict=True):
        read = pd.read_csv(path) if file_format == "csv" else pd.read_parquet(path)
        assert list(read) == list(frame)
        pd.testing.assert_frame_equal(read.astype(frame.dtypes.to_dict()), frame)


def test_export_of_a_run_without_repeats(tmp_path: Path) -> None:
    begin(tmp_path / "run", [cell_of("lstm", "fast-only")])
    paths = export.write([Run.load(tmp_path / "run")], tmp_path, "csv")
    assert [len(pd.read_csv(path)) for path in paths] == [0, 0]


def test_export_to_parquet_names_the_missing_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="Parquet files need the Python package pyarrow") as caught:
        export.write([], tmp_path, "parquet")
    assert caught.value.hint == "pip install 'sentinel-testbed[parquet]', or use --csv"
    assert list(tmp_path.iterdir()) == []
