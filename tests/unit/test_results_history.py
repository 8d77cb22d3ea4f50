# SPDX-License-Identifier: Apache-2.0
"""A cell over the results of a baseline: its points, and where the step time changed."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from lxml import etree

from results import history, measured
from results.measured import Measured, MeasuredCell, Measurement
from results.plots import history as plots
from sentinel.cli import main
from testbed.common.errors import ExitCode, UsageError
from tests.fakes.sides import measured as measured_of
from tests.fakes.sides import measured_cell

LABEL = "cnn b8, sentinel"


def results(levels: Sequence[float], *, spread: float = 0.01, seed: int = 1) -> list[tuple[str, Measured]]:
    """One result for each level in seconds, of five repeats."""
    random = np.random.default_rng(seed)
    return [
        (
            f"r{n:02}",
            measured_of(measured_cell((level * np.exp(spread * random.standard_normal(5))).tolist())),
        )
        for n, level in enumerate(levels)
    ]


def changes(levels: Sequence[float], **options: float) -> dict[str, float]:
    found = history.of_cell(results(levels, seed=int(options.pop("seed", 1))), LABEL, min_effect=0.02)
    return {point.result: point.change for point in found.points if point.change is not None}


def test_a_change_of_level_is_found_where_it_began() -> None:
    found = changes([1.0] * 6 + [1.05] * 6)
    assert list(found) == ["r06"]
    assert found["r06"] == pytest.approx(1.05, abs=0.01)
    found = changes([1.0] * 5 + [1.2] * 4 + [0.9] * 5)
    assert list(found) == ["r05", "r09"]


def test_equal_results_have_no_change() -> None:
    alarms = sum(bool(changes([1.0] * 20, seed=seed)) for seed in range(100))
    assert alarms <= 2


def test_a_change_below_the_minimum_effect_is_none() -> None:
    found = history.of_cell(results([1.0] * 8 + [1.015] * 8, spread=1e-5), LABEL, min_effect=0.02)
    assert not any(point.change for point in found.points)
    found = history.of_cell(results([1.0] * 8 + [1.015] * 8, spread=1e-5), LABEL, min_effect=0.01)
    assert [point.result for point in found.points if point.change] == ["r08"]


def test_points_have_intervals_and_commits() -> None:
    (point,) = history.of_cell(results([1.0]), "cnn", min_effect=0.02).points
    assert point.low_ns is not None and point.high_ns is not None
    assert point.low_ns < point.step_ns < point.high_ns
    assert point.step_ns == pytest.approx(1e9, rel=0.02)
    assert (point.repeats, point.change) == (5, None)
    assert point.commit == "0123456789abcdef0123456789abcdef01234567"


def test_unknown_and_ambiguous_cells_are_refused_with_the_known_ones() -> None:
    cells = measured_of(measured_cell([1.0], "cnn"), measured_cell([1.0], "cnn2", seed=8))
    with pytest.raises(UsageError, match="lstm: no such cell") as caught:
        history.of_cell([("r", cells)], "lstm", min_effect=0.02)
    assert LABEL in (caught.value.hint or "")
    with pytest.raises(UsageError, match="cn: several cells match"):
        history.of_cell([("r", cells)], "cn", min_effect=0.02)


def test_results_without_a_finished_repeat_of_the_cell_have_no_point() -> None:
    pending = MeasuredCell(id="cnn", resolved={"id": "cnn"}, failures=1)  # only its id is known
    unmeasured = measured_of(measured_cell([1.0]))
    warmup_only = unmeasured.cells[0].model_copy(
        update={"repeats": [Measurement(repeat=0, steps=0, origin=0)]}
    )
    series = [
        ("r0", measured_of(pending)),
        ("r1", measured_of(measured_cell([1.0, 1.0]))),
        ("r2", measured_of(warmup_only)),
    ]
    for name in (LABEL, "cnn", "cn"):
        found = history.of_cell(series, name, min_effect=0.02)
        assert [point.result for point in found.points] == ["r1"]
        assert (found.label, found.clock, found.skipped) == (LABEL, "model", ["r0", "r2"])
    with pytest.raises(UsageError, match=f"{LABEL}: no result has a finished repeat"):
        history.of_cell(series[2:], "cnn", min_effect=0.02)
    with pytest.raises(UsageError, match="cnn: no result has a finished repeat"):
        history.of_cell(series[:1], "cnn", min_effect=0.02)


def test_clocks_of_results_are_never_mixed() -> None:
    series = [
        ("r0", measured_of(measured_cell([1.0, 1.0]))),
        ("r1", measured_of(measured_cell([1.0, 1.0], clock="guest"))),
    ]
    found = history.of_cell(series, LABEL, min_effect=0.02)
    assert ([point.result for point in found.points], found.skipped) == (["r0"], ["r1"])
    assert history.of_cell(series[1:], LABEL, min_effect=0.02).clock == "guest"


def test_plot_is_one_svg_file() -> None:
    root = etree.fromstring(
        plots.page(history.of_cell(results([1.0, 1.0, 1.3]), LABEL, min_effect=0.02)).encode()
    )
    assert root.tag.endswith("svg")
    assert "+30" in "".join(root.itertext()) or "+29" in "".join(root.itertext())


def test_command_shows_all_results(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, result in results([1.0, 1.0, 1.0, 1.2, 1.2]):
        measured.write(tmp_path / "main" / f"{name}.json", result)
    run: Callable[..., int] = lambda *words: main._run([*words, "--store", str(tmp_path)], debug=False)  # noqa: E731
    assert run("history", LABEL, "--plot", str(tmp_path / "h.svg")) == 0
    out = capsys.readouterr().out
    assert ("r03" in out and "+20" in out) or "+19" in out
    assert (tmp_path / "h.svg").read_text().startswith("<svg")
    assert run("history", LABEL, "--json") == 0
    assert len(json.loads(capsys.readouterr().out)["points"]) == 5
    assert run("history", LABEL, "--baseline", "none") == ExitCode.USAGE
    pending = MeasuredCell(id="cnn", resolved={"id": "cnn"})
    measured.write(tmp_path / "pending" / "[b]r0.json", measured_of(pending))
    capsys.readouterr()
    assert run("history", "cnn", "--baseline", "pending") == ExitCode.USAGE
    assert "cnn: no result has a finished repeat with measured steps" in capsys.readouterr().err
    measured.write(tmp_path / "pending" / "[b]r1.json", results([1.0])[0][1])
    assert run("history", "cnn", "--baseline", "pending") == 0
    assert "no time by that clock: [b]r0" in capsys.readouterr().out
