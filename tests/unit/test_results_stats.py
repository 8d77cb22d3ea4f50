# SPDX-License-Identifier: Apache-2.0
"""Statistics of step times, for any data."""

from __future__ import annotations

import math
import statistics
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from results.records import Step
from results.runs import Run
from results.stats import (
    clock_of,
    has_clock,
    measured,
    per_step,
    ratio,
    samples,
    shares,
    summarise,
)
from tests.fakes.run_records import add, begin, cell_of, make_run, steps_of

times = st.floats(min_value=1e3, max_value=1e10)
data = st.lists(st.lists(times, min_size=1, max_size=6), min_size=1, max_size=5)
few = settings(max_examples=60, deadline=None)


@few
@given(data)
def test_ratio_of_equal_samples_is_one(a: list[list[float]]) -> None:
    r = ratio(a, a)
    assert r is not None
    assert r.value == 1.0
    assert (r.low is None) == (len(a) == 1)
    assert r.low is None or r.high is None or r.low <= 1.0 <= r.high
    assert r.p in (None, pytest.approx(1.0))


@few
@given(data, data, st.floats(min_value=0.01, max_value=100))
def test_ratio_scales_with_the_steps(a: list[list[float]], b: list[list[float]], c: float) -> None:
    before = ratio(a, b)
    after = ratio(a, [[c * t for t in repeat] for repeat in b])
    assert before is not None
    assert after is not None
    assert after.value == pytest.approx(c * before.value)
    if before.low and before.high and before.high < 1e100:
        assert after.low == pytest.approx(c * before.low, rel=1e-3)
        assert after.high == pytest.approx(c * before.high, rel=1e-3)


@few
@given(data)
def test_summary_has_the_geometric_mean_of_the_repeats(a: list[list[float]]) -> None:
    s = summarise(a)
    assert s is not None
    steps = [t for repeat in a for t in repeat]
    assert s.median_ns == pytest.approx(statistics.median(steps))
    assert s.centre_ns == pytest.approx(
        statistics.geometric_mean([statistics.median(repeat) for repeat in a]), rel=1e-6
    )
    assert (s.repeats, s.steps) == (len(a), len(steps))
    assert (s.low_ns is None) == (len(a) == 1)
    if s.low_ns is not None and s.high_ns is not None:
        assert s.low_ns <= s.centre_ns <= s.high_ns


def test_interval_of_a_summary_is_students() -> None:
    """By hand: logs have mean ln 100, variance (ln 1.02)^2, and t(0.975, 2 degrees) is 4.3027."""
    s = summarise([[98.0392156862745], [100.0], [102.0]])
    assert s is not None
    half = 4.302653 * math.log(1.02) / math.sqrt(3)
    assert s.centre_ns == pytest.approx(100)
    assert s.low_ns == pytest.approx(100 * math.exp(-half))
    assert s.high_ns == pytest.approx(100 * math.exp(half))


def test_interval_of_equal_repeats_is_a_point() -> None:
    s = summarise([[5.0, 5.0], [5.0]])
    assert s is not None
    assert s.low_ns == s.centre_ns == s.high_ns == pytest.approx(5.0)
    r = ratio([[4.0]] * 3, [[8.0]] * 3)
    assert r is not None
    assert r.low == r.value == r.high == pytest.approx(2.0)
    assert (r.p, r.repeats) == (0.0, 3)


def test_statistics_without_samples_are_none() -> None:
    assert summarise([]) is None
    assert ratio([], [[1.0]]) is None
    assert ratio([[1.0]], []) is None


def test_samples_exclude_warmup_and_use_the_model_clock(tmp_path: Path) -> None:
    cells = [cell_of("resnet20", "fast-only"), cell_of("lstm", "fast-only")]
    begin(tmp_path / "run", cells)
    add(tmp_path / "run", cells[0], 0, steps_of(cells[0]))
    add(tmp_path / "run", cells[1], 0, steps_of(cells[1], model_clock=False))
    run = Run.load(tmp_path / "run")
    with_model, without = run.cells[0].repeats, run.cells[1].repeats
    assert [step.step for step in measured(with_model[0])] == [2, 3, 4, 5, 6, 7]
    assert (clock_of(with_model), clock_of(without), clock_of([])) == ("model", "guest", "guest")
    assert samples(with_model, "guest")[0][0] == 40 * samples(with_model, "model")[0][0]


def test_each_step_counts_with_the_median_of_its_kind(tmp_path: Path) -> None:
    cell = cell_of("resnet20", "fast-only")
    run = tmp_path / "run"
    begin(run, [cell])
    kinds, times = "aabaab", [10, 20, 300, 30, 20, 500]
    steps = [
        Step(step=i, warmup=False, guest_ns=ns, model_ns=ns, kind=kind, loss="0x0p+0")
        for i, (kind, ns) in enumerate(zip(kinds, times, strict=True))
    ]
    add(run, cell, 0, steps)
    (data,) = samples(Run.load(run).cells[0].repeats, "model")
    mean = (4 * 20 + 2 * 400) / 6
    summary = summarise([data])
    assert summary is not None
    assert summary.centre_ns == pytest.approx(mean)
    assert data == pytest.approx([mean * t for t in (0.5, 1, 0.75, 1.5, 1, 1.25)])


@pytest.mark.parametrize("steps_without_clock", [(2,), (7,), (2, 3, 4, 5, 6, 7)])
def test_samples_exclude_repeats_with_a_step_without_the_clock(
    tmp_path: Path, steps_without_clock: tuple[int, ...]
) -> None:
    cell = cell_of("lstm", "fast-only")
    begin(tmp_path / "run", [cell])
    for number in range(3):
        steps = steps_of(cell, seed=number)
        if number == 1:
            steps = [
                s.model_copy(update={"model_ns": None}) if s.step in steps_without_clock else s for s in steps
            ]
        add(tmp_path / "run", cell, number, steps)
    repeats = Run.load(tmp_path / "run").cells[0].repeats
    assert clock_of(repeats) == "model"
    assert [has_clock(repeat, "model") for repeat in repeats] == [True, False, True]
    assert samples(repeats, "model") == samples([repeats[0], repeats[2]], "model")
    assert len(samples(repeats, "guest")) == 3


def test_warmup_steps_need_no_model_clock(tmp_path: Path) -> None:
    cell = cell_of("lstm", "fast-only")
    begin(tmp_path / "run", [cell])
    steps = steps_of(cell)
    add(tmp_path / "run", cell, 0, [steps[0].model_copy(update={"model_ns": None}), *steps[1:]])
    assert len(samples(Run.load(tmp_path / "run").cells[0].repeats, "model")) == 1


def test_shares_and_counters_are_means_over_steps(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", models=("lstm",), repeats=2)
    fast, slow, sentinel = (cell.repeats for cell in run.cells)
    assert shares(fast) == {"0": 1.0, "1": 0.0}
    assert shares(slow) == {"0": 0.0, "1": 1.0}
    assert shares(sentinel)["0"] == pytest.approx(0.2, abs=1e-6)
    assert shares(fast, "file") == {}
    assert per_step(sentinel) == {"pgmigrate_success": 904.5}
    assert per_step([]) == {}
