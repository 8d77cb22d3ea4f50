# SPDX-License-Identifier: Apache-2.0
"""Comparisons: cells are held only against those that are alike in all that varies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from results.compare import Comparison, compare
from results.runs import Run
from tests.fakes.run_records import ALIKE, Cell, add, begin, cell_of, cells_of, make_run, steps_of
from tests.unit.test_results_tables import shown


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("whole") / "run")


def run_of(path: Path, cells: list[Cell], *, model_clock: bool = True) -> Run:
    """A run of those cells with one repeat each."""
    begin(path, cells)
    for cell in cells:
        add(path, cell, 0, steps_of(cell, model_clock=model_clock))
    return Run.load(path)


def verdicts(comparison: Comparison) -> set[str]:
    return {pair.verdict for pair in comparison.pairs}


def labels(comparison: Comparison) -> tuple[list[tuple[str, str]], list[str], list[str]]:
    """What was paired, and what is in one run alone."""
    label = comparison.axes.label
    return (
        [(label(pair.a.resolved), label(pair.b.resolved)) for pair in comparison.pairs],
        [label(cell.resolved) for cell in comparison.only_a],
        [label(cell.resolved) for cell in comparison.only_b],
    )


def test_a_run_against_itself(whole: Run) -> None:
    found = compare(whole, whole)
    assert verdicts(found) == {"no difference seen"}
    assert all(row["ratio"] == 1 and row["matched"] == "id" for row in found.rows())
    assert {row["losses"] for row in found.rows()} == {"OK"}
    assert (found.only_a, found.only_b) == ([], [])


def test_slower_and_faster(whole: Run, tmp_path: Path) -> None:
    other = make_run(tmp_path / "run", factor=1.25)
    assert verdicts(compare(whole, other)) == {"slower"}
    assert verdicts(compare(other, whole)) == {"faster"}
    assert all(row["ratio"] == pytest.approx(1.25, rel=1e-3) for row in compare(whole, other).rows())
    assert any("1.250 (" in line for line in shown(compare(whole, other).table(), 120))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"throttle": ALIKE}, "in B both nodes have the same speed"),
        ({"accelerator": "kvm"}, "the accelerators differ (A tcg; B kvm)"),
    ],
)
def test_no_verdict(whole: Run, tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    found = compare(whole, make_run(tmp_path / "run", factor=2, **change))
    assert verdicts(found) == {f"no verdict: {reason}"}
    assert all(row["ratio"] == pytest.approx(2, rel=1e-3) for row in found.rows())  # said, but not judged


def test_times_by_different_clocks_are_not_compared_at_all(whole: Run, tmp_path: Path) -> None:
    found = compare(whole, make_run(tmp_path / "run", model_clock=False))
    assert verdicts(found) == {"no verdict: the clocks differ (A model, B guest)"}
    assert {(row["clock"], row["ratio"], row["a_ns"], row["b_ns"]) for row in found.rows()} == {(None,) * 4}


def test_a_repeat_by_another_clock_is_flagged_and_left_out(whole: Run, tmp_path: Path) -> None:
    root = tmp_path / "run"
    cells = [cell.resolved for cell in whole.cells[:2]]
    begin(root, cells)
    for cell in cells:
        for number in range(3):
            lost = cell is cells[0] and number == 1
            add(root, cell, number, steps_of(cell, seed=number, model_clock=not lost))
    found = compare(whole, Run.load(root))
    assert [(row["clock"], row["repeats"]) for row in found.rows()] == [("model", 2), ("model", 3)]
    assert all(row["ratio"] == pytest.approx(1, abs=0.05) for row in found.rows())
    line = "B: resnet20 b8, fast-only, repeat 1: no model clock; its times are left out of every figure"
    assert found.to_dict()["warnings"] == [line]
    assert f"warning: {line}" in " ".join(shown(found.table(), 200))


SHARES = ("20%", "40%")


@pytest.mark.parametrize("kernel", ["4.9", "6.1"])  # the same ids, and others
def test_budgets_are_matched_with_the_same_budgets(tmp_path: Path, kernel: str) -> None:
    suite: dict[str, Any] = {"placements": ("fast-only", "sentinel"), "fast_memory": SHARES}
    before, after = cells_of(**suite, kernel="4.9"), cells_of(**suite, kernel=kernel)
    found = compare(run_of(tmp_path / "a", before), run_of(tmp_path / "b", list(reversed(after))))
    names = ["resnet20 b8, fast-only", *(f"resnet20 b8, sentinel, {share}" for share in SHARES)]
    assert labels(found) == ([(name, name) for name in names], [], [])


def test_a_budget_is_never_held_against_another(tmp_path: Path) -> None:
    small, large = (cell_of("resnet20", "sentinel", share) for share in SHARES)
    found = compare(run_of(tmp_path / "a", [small]), run_of(tmp_path / "b", [large]))
    assert labels(found) == ([], ["resnet20 b8, sentinel, 20%"], ["resnet20 b8, sentinel, 40%"])
    text = " ".join(shown(found.table(), 200))
    assert "only in A: resnet20 b8, sentinel, 20%" in text and "only in B: resnet20 b8, sentinel, 40%" in text
    assert "faster" not in text and "slower" not in text


@pytest.mark.parametrize(
    "parts",
    [
        ({"models": ({"name": "lstm", "hidden": 64},)}, {"models": ({"name": "lstm", "hidden": 128},)}),
        ({"kernel": "4.9"}, {"kernel": "6.1"}),
        ({"preset": "optane-6dimm"}, {"preset": "cxl-asic"}),
        ({"seed": 1}, {"seed": 2}),
        ({"threads": 1}, {"threads": 2}),
    ],
    ids=lambda parts: next(iter(parts[0])),
)
def test_whatever_varies_in_a_run_is_matched_by(tmp_path: Path, parts: tuple[dict[str, Any], ...]) -> None:
    """Two halves of a run differ in one thing; in the other run all cells have two warm-up steps more."""
    before = [cell for part in parts for cell in cells_of(**part)]
    after = [cell for part in parts for cell in cells_of(**part, warmup=3)]
    found = compare(run_of(tmp_path / "a", before), run_of(tmp_path / "b", after[1:]))
    paired, only_a, only_b = labels(found)
    assert all(a == b for a, b in paired)
    assert len({a for a, _ in paired}) == len(before) - 1
    assert (len(only_a), only_b) == (1, [])
    assert all(row["differs"] == {"warmup": [1, 3]} for row in found.rows())


def test_what_differs_between_runs_is_told(tmp_path: Path) -> None:
    found = compare(
        run_of(tmp_path / "a", [cell_of("lstm", "fast-only", kernel="4.9")]),
        run_of(tmp_path / "b", [cell_of("lstm", "fast-only", kernel="6.1")]),
    )
    (row,) = found.rows()
    assert (row["matched"], row["differs"]) == ("axes", {"kernel": ["4.9", "6.1"]})
    text = " ".join(shown(found.table(), 200))
    assert "matched by model, placement, budget; differs in kernel 4.9 -> 6.1" in text
    assert json.loads(json.dumps(found.to_dict()))["rows"] == found.rows()


def test_a_cell_not_yet_run_is_matched_by_its_id(whole: Run, tmp_path: Path) -> None:
    begin(tmp_path / "run", [whole.cells[0].resolved, {"id": "other"}])
    found = compare(whole, Run.load(tmp_path / "run"))
    assert verdicts(found) == {"no verdict: no measured step in B"}
    assert labels(found)[2] == ["other"]


def test_losses_that_differ_between_runs(whole: Run, tmp_path: Path) -> None:
    cells = [cell.resolved for cell in whole.cells[:2]]
    begin(tmp_path / "run", cells)
    for cell in cells:
        steps = steps_of(cell)
        if cell is cells[1]:
            steps[4] = steps[4].model_copy(update={"loss": (1.5).hex()})
        add(tmp_path / "run", cell, 0, steps)
    assert [row["losses"] for row in compare(whole, Run.load(tmp_path / "run")).rows()] == ["OK", "DIFFERENT"]


@pytest.mark.parametrize("width", [80, 100, 160])
def test_the_table_fits_and_breaks_no_word(whole: Run, tmp_path: Path, width: int) -> None:
    lines = shown(compare(whole, make_run(tmp_path / "run", accelerator="kvm")).table(), width)
    table = lines[2 : next(n for n, line in enumerate(lines) if line.startswith("losses"))]
    assert all(len(line) <= width for line in table)
    words = {word for line in table for word in line.split()}
    assert words >= {"fast-only", "sentinel,", "20%", "accelerators", "differ", "Placement", "B/A"}
