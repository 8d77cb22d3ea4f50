# SPDX-License-Identifier: Apache-2.0
"""Statistics: what must hold for any data."""

from __future__ import annotations

import random
import statistics
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from results import losses
from results.frames import cell_frame, step_frame
from results.runs import Run
from results.stats import (
    CONFIDENCE,
    Ratio,
    clock_of,
    has_clock,
    measured,
    per_step,
    ratio,
    samples,
    shares,
    summarise,
)
from results.units import digits, duration, plain
from tests.fakes.run_records import add, begin, cell_of, make_run, steps_of

times = st.floats(min_value=1e3, max_value=1e10)
data = st.lists(st.lists(times, min_size=1, max_size=6), min_size=1, max_size=5)
few = settings(max_examples=60, deadline=None)


@few
@given(data)
def test_a_run_against_itself_is_one_within_its_spread(a: list[list[float]]) -> None:
    found = ratio(a, a)
    assert found is not None
    assert found.value == 1.0
    assert found.low <= 1.0 <= found.high
    assert not found.excludes_one


@few
@given(data, data, st.floats(min_value=0.01, max_value=100))
def test_scaling_all_steps_scales_the_ratio(a: list[list[float]], b: list[list[float]], c: float) -> None:
    before = ratio(a, b)
    after = ratio(a, [[c * t for t in repeat] for repeat in b])
    assert before is not None
    assert after is not None
    assert after.value == pytest.approx(c * before.value)
    assert after.low == pytest.approx(c * before.low)
    assert after.high == pytest.approx(c * before.high)


@few
@given(data, data)
def test_the_same_records_give_the_same_numbers(a: list[list[float]], b: list[list[float]]) -> None:
    assert ratio(a, b) == ratio(a, b)
    assert summarise(a) == summarise(a)


@few
@given(data)
def test_a_summary_lies_within_its_data(a: list[list[float]]) -> None:
    s = summarise(a)
    assert s is not None
    everything = [t for repeat in a for t in repeat]
    assert min(everything) <= s.low_ns <= s.high_ns <= max(everything)
    assert s.median_ns == pytest.approx(statistics.median(everything))
    assert s.centre_ns == pytest.approx(statistics.median([statistics.median(repeat) for repeat in a]))
    assert (s.repeats, s.steps) == (len(a), len(everything))


def test_equal_steps_have_no_spread() -> None:
    s = summarise([[5.0, 5.0], [5.0]])
    assert s is not None
    assert (s.low_ns, s.centre_ns, s.high_ns) == (5.0, 5.0, 5.0)
    assert ratio([[4.0] * 3], [[8.0] * 3]) == Ratio(2.0, 2.0, 2.0, 1)


def test_the_spread_of_a_ratio_covers_as_often_as_it_says() -> None:
    noise = random.Random(7)  # noqa: S311

    def cell(scale: float) -> list[list[float]]:
        offsets = [noise.lognormvariate(0, 0.05) for _ in range(10)]
        return [[scale * o * noise.lognormvariate(0, 0.05) for _ in range(10)] for o in offsets]

    found = [ratio(cell(1.0), cell(1.3), seed=n) for n in range(80)]
    covered = sum(r is not None and r.low <= 1.3 <= r.high for r in found) / len(found)
    assert covered >= CONFIDENCE - 0.07  # 80 trials: three standard deviations
    assert all(r is not None and r.excludes_one for r in found)


def test_nothing_measured_is_none() -> None:
    assert summarise([]) is None
    assert ratio([], [[1.0]]) is None
    assert ratio([[1.0]], []) is None


def test_warmup_is_left_out_and_the_clock_chosen(tmp_path: Path) -> None:
    cells_ = [cell_of("resnet20", "fast-only"), cell_of("lstm", "fast-only")]
    begin(tmp_path / "run", cells_)
    add(tmp_path / "run", cells_[0], 0, steps_of(cells_[0]))
    add(tmp_path / "run", cells_[1], 0, steps_of(cells_[1], model_clock=False))
    run = Run.load(tmp_path / "run")
    with_model, without = run.cells[0].repeats, run.cells[1].repeats
    assert [step.step for step in measured(with_model[0])] == [2, 3, 4, 5, 6, 7]
    assert (clock_of(with_model), clock_of(without), clock_of([])) == ("model", "guest", "guest")
    assert samples(with_model, "guest")[0][0] == 40 * samples(with_model, "model")[0][0]


@pytest.mark.parametrize("lacking", [(2,), (7,), (2, 3, 4, 5, 6, 7)])
def test_a_repeat_without_the_model_clock_is_left_out_and_the_others_keep_it(
    tmp_path: Path, lacking: tuple[int, ...]
) -> None:
    """One step without a time is enough: clocks are never mixed, not within a repeat either."""
    cell = cell_of("lstm", "fast-only")
    begin(tmp_path / "run", [cell])
    for number in range(3):
        steps = steps_of(cell, seed=number)
        if number == 1:
            steps = [s.model_copy(update={"model_ns": None}) if s.step in lacking else s for s in steps]
        add(tmp_path / "run", cell, number, steps)
    repeats = Run.load(tmp_path / "run").cells[0].repeats
    assert clock_of(repeats) == "model"
    assert [has_clock(repeat, "model") for repeat in repeats] == [True, False, True]
    assert samples(repeats, "model") == samples([repeats[0], repeats[2]], "model")
    assert len(samples(repeats, "guest")) == 3


def test_a_warm_up_step_needs_no_model_clock(tmp_path: Path) -> None:
    cell = cell_of("lstm", "fast-only")
    begin(tmp_path / "run", [cell])
    steps = steps_of(cell)
    add(tmp_path / "run", cell, 0, [steps[0].model_copy(update={"model_ns": None}), *steps[1:]])
    assert len(samples(Run.load(tmp_path / "run").cells[0].repeats, "model")) == 1


def test_residency_and_counters(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", models=("lstm",), repeats=2)
    fast, slow, sentinel = (cell.repeats for cell in run.cells)
    assert shares(fast) == {"0": 1.0, "1": 0.0}
    assert shares(slow) == {"0": 0.0, "1": 1.0}
    assert shares(sentinel)["0"] == pytest.approx(0.2, abs=1e-6)
    assert shares(fast, "file") == {}
    assert per_step(sentinel) == {"pgmigrate_success": 904.5}
    assert per_step([]) == {}


def test_frames(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", repeats=2, model_clock=False)
    steps, by_cell = step_frame(run), cell_frame(run)
    assert len(steps) == 6 * 2 * 6  # cells, repeats, measured steps
    assert steps["model_ns"].isna().all()
    assert set(steps["placement"]) == {"fast-only", "slow-only", "sentinel"}
    assert list(by_cell["cell"]) == [cell.id for cell in run.cells]
    assert set(by_cell["clock"]) == {"guest"}
    grouped = steps.groupby(["cell", "repeat"])["guest_ns"].median().groupby("cell").median()
    for row in by_cell.to_dict("records"):
        assert row["centre_ns"] == pytest.approx(grouped[row["cell"]])


def test_frames_of_a_run_just_begun(tmp_path: Path) -> None:
    begin(tmp_path / "run", [cell_of("lstm", "fast-only")])
    run = Run.load(tmp_path / "run")
    assert step_frame(run).empty
    assert list(cell_frame(run)["repeats"]) == [0]


def sequence(name: str, values: dict[int, float]) -> losses.Sequence:
    return losses.Sequence(name, {step: loss.hex() for step, loss in values.items()})


def test_losses() -> None:
    a, b = sequence("a", {0: 2.0, 1: 1.5}), sequence("b", {1: 1.5, 2: 1.0})
    assert losses.check("m", [a, b]).text == "2 repeats, 1 steps, equal bit for bit"
    off = sequence("c", {2: 1.0 + 2**-52})
    found = losses.check("m", [a, b, off])
    assert found.outcome == "DIFFERENT"
    assert "at step 2 b has 1 (0x1.0000000000000p+0), c has 1 (0x1.0000000000001p+0)" in found.text
    assert losses.check("m", [a]).outcome == "NOTHING TO COMPARE"
    assert losses.check("m", [a, sequence("d", {9: 1.0})]).outcome == "NOTHING TO COMPARE"
    assert losses.check("m", [sequence("a", {0: 0.0}), sequence("b", {0: -0.0})]).outcome == "DIFFERENT"
    hollow = losses.check("m", [sequence("a", {0: float("nan")}), sequence("b", {0: float("nan")})])
    assert "not all are finite" in hollow.text


def test_units() -> None:
    assert duration(5.0e6, low=4.9e6, high=5.07e6) == "5.00 ms (4.90 to 5.07)"
    assert [duration(ns) for ns in (7, 1.5e3, 123.4e6, 61e9)] == ["7.00 ns", "1.50 us", "123 ms", "61.0 s"]
    assert [digits(v) for v in (0, 0.123456, 12.34, 99.96, 12345)] == ["0", "0.123", "12.3", "100", "12345"]
    assert plain("a\x1b[31m\n b\ud800") == "a[31m b"
