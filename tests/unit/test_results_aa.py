# SPDX-License-Identifier: Apache-2.0
"""The truth check finds few false alarms in noise, and its spread settles later comparisons sooner."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from click.testing import CliRunner

from results import aa, measured, repeatability
from results.compare import compare
from results.sides import Side
from sentinel.cli import truth
from testbed.common.errors import UsageError
from tests.fakes.sides import measured as measured_of
from tests.fakes.sides import measured_cell, side


def noisy(repeats: int, *, seed: int = 1, factor: float = 1.0) -> Side:
    noise = random.Random(seed)  # noqa: S311
    return side(measured_cell([factor * noise.lognormvariate(0, 0.01) for _ in range(repeats)]))


def test_equal_sides_rarely_alarm() -> None:
    result = aa.check(noisy(20), pairs=300)
    assert result.rate <= 0.02
    (cell,) = result.cells
    assert (cell.repeats, cell.spread.freedom) == (10, 19)
    assert 0.006 < cell.spread.sd < 0.014
    assert cell.same > 200


def test_result_depends_on_the_seed_only() -> None:
    assert aa.check(noisy(6), pairs=50, seed=3) == aa.check(noisy(6), pairs=50, seed=3)


def test_cells_with_few_repeats_are_skipped() -> None:
    both = side(measured_cell([1.0] * 6, "cnn"), measured_cell([1.0] * 5, "lstm"))
    result = aa.check(both, pairs=5)
    assert [cell.label for cell in result.cells] == ["cnn b8, sentinel"]
    assert result.skipped == ["lstm b8, sentinel: 5 repeats"]
    with pytest.raises(UsageError, match="no cell has 6 repeats"):
        aa.check(noisy(5))


def test_stored_spread_settles_comparisons_of_single_repeats(tmp_path: Path) -> None:
    for one in aa.to_store(aa.check(noisy(20), pairs=10)):
        repeatability.save(tmp_path, one)
    spreads = repeatability.load(tmp_path)
    a, b = side(measured_cell([1.0])), side(measured_cell([1.1]), kernel="0ther")
    assert [str(pair.verdict) for pair in compare(a, b).pairs] == ["inconclusive: needs 3 repeats"]
    assert [str(pair.verdict) for pair in compare(a, b, spreads=spreads).pairs] == ["slower"]
    other = side(measured_cell([1.1], steps=99))
    assert [pair.known for pair in compare(a, other, spreads=spreads).pairs] == [False]


def test_damaged_repeatability_is_reported(tmp_path: Path) -> None:
    (tmp_path / "repeatability").mkdir()
    (tmp_path / "repeatability" / "x.json").write_text('{"sd": -1}')
    with pytest.raises(UsageError, match="damaged"):
        repeatability.load(tmp_path)


def test_command_prints_the_rate_and_stores_the_spread(tmp_path: Path) -> None:
    times = [time / 1e9 for time in noisy(8).cells[0].times("model")]
    measured.write(tmp_path / "main" / "1.json", measured_of(measured_cell(times)))
    said = CliRunner().invoke(truth.aa, ["main", "--store", str(tmp_path), "--pairs", "20", "--json"])
    printed = json.loads(said.stdout)
    assert (printed["pairs"], len(printed["cells"])) == (20, 1)
    assert len(repeatability.load(tmp_path)) == 1
