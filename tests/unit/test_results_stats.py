# SPDX-License-Identifier: Apache-2.0
"""Statistics of step times, for any data."""

from __future__ import annotations

import random
import statistics
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from results.records import Step
from results.runs import Run
from results.stats import (
    CONFIDENCE,
    Ratio,
    Summary,
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
    assert r.low <= 1.0 <= r.high
    assert not r.excludes_one


@few
@given(data, data, st.floats(min_value=0.01, max_value=100))
def test_ratio_scales_with_the_steps(a: list[list[float]], b: list[list[float]], c: float) -> None:
    before = ratio(a, b)
    after = ratio(a, [[c * t for t in repeat] for repeat in b])
    assert before is not None
    assert after is not None
    assert after.value == pytest.approx(c * before.value)
    assert after.low == pytest.approx(c * before.low)
    assert after.high == pytest.approx(c * before.high)


@few
@given(data, data)
def test_statistics_are_reproducible(a: list[list[float]], b: list[list[float]]) -> None:
    assert ratio(a, b) == ratio(a, b)
    assert summarise(a) == summarise(a)


@few
@given(data)
def test_summary_lies_within_its_samples(a: list[list[float]]) -> None:
    s = summarise(a)
    assert s is not None
    steps = [t for repeat in a for t in repeat]
    assert min(steps) <= s.low_ns <= s.high_ns <= max(steps)
    assert s.median_ns == pytest.approx(statistics.median(steps))
    assert s.centre_ns == pytest.approx(statistics.median([statistics.median(repeat) for repeat in a]))
    assert (s.repeats, s.steps) == (len(a), len(steps))


def test_intervals_of_equal_records_never_change() -> None:
    """Stored reports quote these figures: the draws of the bootstrap are part of the method."""
    a = [[10.0, 12.5, 11.0, 30.0], [9.0, 14.0, 10.5], [13.0, 11.5]]
    b = [[20.0, 26.0, 21.5], [19.0, 27.0, 22.0, 23.5]]
    assert summarise(a) == Summary(3, 9, 11.5, 11.75, 10.0, 14.0)
    assert ratio(a, b) == Ratio(1.8829787234042554, 1.5267857142857142, 2.405059523809522, 2)
    assert ratio(b, a) == Ratio(0.5310734463276836, 0.4161849710982659, 0.8413541666666648, 2)


def test_interval_of_equal_steps_is_a_point() -> None:
    s = summarise([[5.0, 5.0], [5.0]])
    assert s is not None
    assert (s.low_ns, s.centre_ns, s.high_ns) == (5.0, 5.0, 5.0)
    assert ratio([[4.0] * 3], [[8.0] * 3]) == Ratio(2.0, 2.0, 2.0, 1)


def test_interval_of_a_ratio_has_its_nominal_coverage() -> None:
    noise = random.Random(7)  # noqa: S311

    def cell(scale: float) -> list[list[float]]:
        offsets = [noise.lognormvariate(0, 0.05) for _ in range(10)]
        return [[scale * o * noise.lognormvariate(0, 0.05) for _ in range(10)] for o in offsets]

    ratios = [ratio(cell(1.0), cell(1.3), seed=n) for n in range(80)]
    covered = sum(r is not None and r.low <= 1.3 <= r.high for r in ratios) / len(ratios)
    assert covered >= CONFIDENCE - 0.07  # 80 trials: three standard deviations
    assert all(r is not None and r.excludes_one for r in ratios)


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
