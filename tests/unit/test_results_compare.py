# SPDX-License-Identifier: Apache-2.0
"""Comparisons match cells by id or by all varied settings, and refuse verdicts that times do not permit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from results import compare as comparisons
from results.compare import Comparison
from results.compare_report import rows, table, to_dict
from results.runs import Run
from results.sides import Side
from tests.fakes.run_records import EQUALLY_FAST, Cell, add, begin, cell_of, cells_of, make_run, steps_of
from tests.fakes.terminal import render, render_words


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("whole") / "run")


def run_of(path: Path, cells: list[Cell], *, model_clock: bool = True) -> Run:
    """Store and read a run with one repeat of each cell."""
    begin(path, cells)
    for cell in cells:
        add(path, cell, 0, steps_of(cell, model_clock=model_clock))
    return Run.load(path)


def compare(a: Run, b: Run, **options: Any) -> Comparison:
    return comparisons.compare(Side.of_runs(a), Side.of_runs(b), **options)


def verdicts(comparison: Comparison) -> set[str]:
    return {str(pair.verdict) for pair in comparison.pairs}


def labels(comparison: Comparison) -> tuple[list[tuple[str, str]], list[str], list[str]]:
    """Return the labels of the pairs, of the cells only in A, and of the cells only in B."""
    label = comparison.axes.label
    return (
        [(label(pair.a.resolved), label(pair.b.resolved)) for pair in comparison.pairs],
        [label(cell.resolved) for cell in comparison.only_a],
        [label(cell.resolved) for cell in comparison.only_b],
    )


def test_run_does_not_differ_from_itself(whole: Run) -> None:
    comparison = compare(whole, whole)
    assert {pair.verdict.word for pair in comparison.pairs} <= {"same", "inconclusive"}
    assert verdicts(compare(whole, whole, min_effect=0.1)) == {"same"}
    assert all(row["ratio"] == 1 and row["matched"] == "id" for row in rows(comparison))
    assert {row["losses"] for row in rows(comparison)} == {"equal"}
    assert (comparison.only_a, comparison.only_b) == ([], [])


def test_verdict_tells_slower_from_faster(whole: Run, tmp_path: Path) -> None:
    other = make_run(tmp_path / "run", factor=1.25)
    assert verdicts(compare(whole, other)) == {"slower"}
    assert verdicts(compare(other, whole)) == {"faster"}
    comparison = compare(whole, other)
    assert all(row["ratio"] == pytest.approx(1.25, rel=1e-3) for row in rows(comparison))
    assert any("1.250 (" in line for line in render(table(comparison), 120))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"throttle": EQUALLY_FAST}, "both nodes are equally fast in B"),
        ({"accelerator": "kvm"}, "the accelerators differ (A tcg; B kvm)"),
    ],
)
def test_verdict_needs_slow_memory_and_one_accelerator(
    whole: Run, tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    comparison = compare(whole, make_run(tmp_path / "run", factor=2, **change))
    assert verdicts(comparison) == {f"not comparable: {reason}"}
    assert all(row["ratio"] == pytest.approx(2, rel=1e-3) for row in rows(comparison))


def test_times_by_different_clocks_are_not_compared(whole: Run, tmp_path: Path) -> None:
    comparison = compare(whole, make_run(tmp_path / "run", model_clock=False))
    assert verdicts(comparison) == {"not comparable: the clocks differ (A model, B guest)"}
    assert {(row["clock"], row["ratio"], row["a_ns"], row["b_ns"]) for row in rows(comparison)} == {
        (None,) * 4
    }


def test_repeat_without_the_clock_is_excluded_with_a_warning(whole: Run, tmp_path: Path) -> None:
    root = tmp_path / "run"
    cells = [cell.resolved for cell in whole.cells[:2]]
    begin(root, cells)
    for cell in cells:
        for number in range(3):
            guest_only = cell is cells[0] and number == 1
            add(root, cell, number, steps_of(cell, seed=number, model_clock=not guest_only))
    comparison = compare(whole, Run.load(root))
    assert [(row["clock"], row["b_repeats"]) for row in rows(comparison)] == [("model", 2), ("model", 3)]
    assert all(row["ratio"] == pytest.approx(1, abs=0.05) for row in rows(comparison))
    line = "B: resnet20 b8, fast-only, repeat 1: no model clock; excluded from all figures"
    assert to_dict(comparison)["warnings"] == [line]
    assert f"warning: {line}" in render_words(table(comparison))


SHARES = ("20%", "40%")


@pytest.mark.parametrize("kernel", ["4.9", "6.1"])  # the same ids, and others
def test_cells_match_cells_with_the_same_budget(tmp_path: Path, kernel: str) -> None:
    suite: dict[str, Any] = {"placements": ("fast-only", "sentinel"), "fast_memory": SHARES}
    before, after = cells_of(**suite, kernel="4.9"), cells_of(**suite, kernel=kernel)
    comparison = compare(run_of(tmp_path / "a", before), run_of(tmp_path / "b", list(reversed(after))))
    names = ["resnet20 b8, fast-only", *(f"resnet20 b8, sentinel, {share}" for share in SHARES)]
    assert labels(comparison) == ([(name, name) for name in names], [], [])


def test_cells_with_different_budgets_do_not_match(tmp_path: Path) -> None:
    small, large = (cell_of("resnet20", "sentinel", share) for share in SHARES)
    comparison = compare(run_of(tmp_path / "a", [small]), run_of(tmp_path / "b", [large]))
    assert labels(comparison) == ([], ["resnet20 b8, sentinel, 20%"], ["resnet20 b8, sentinel, 40%"])
    text = render_words(table(comparison))
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
def test_cells_match_by_every_setting_that_varies(tmp_path: Path, parts: tuple[dict[str, Any], ...]) -> None:
    """The halves of each run differ in one setting; the runs differ in their warm-up."""
    before = [cell for part in parts for cell in cells_of(**part)]
    after = [cell for part in parts for cell in cells_of(**part, warmup=3)]
    comparison = compare(run_of(tmp_path / "a", before), run_of(tmp_path / "b", after[1:]))
    paired, only_a, only_b = labels(comparison)
    assert all(a == b for a, b in paired)
    assert len({a for a, _ in paired}) == len(before) - 1
    assert (len(only_a), only_b) == (1, [])
    assert all(row["differs"] == {"warmup": [1, 3]} for row in rows(comparison))


def test_differing_settings_are_listed(tmp_path: Path) -> None:
    comparison = compare(
        run_of(tmp_path / "a", [cell_of("lstm", "fast-only", kernel="4.9")]),
        run_of(tmp_path / "b", [cell_of("lstm", "fast-only", kernel="6.1")]),
    )
    (row,) = rows(comparison)
    assert (row["matched"], row["differs"]) == ("axes", {"kernel": ["4.9", "6.1"]})
    text = render_words(table(comparison))
    assert "matched by model, policy, budget; differs in kernel 4.9 -> 6.1" in text
    assert json.loads(json.dumps(to_dict(comparison)))["rows"] == rows(comparison)


def test_cell_without_repeats_matches_by_id(whole: Run, tmp_path: Path) -> None:
    begin(tmp_path / "run", [whole.cells[0].resolved, {"id": "other"}])
    comparison = compare(whole, Run.load(tmp_path / "run"))
    assert verdicts(comparison) == {"not comparable: no measured steps in B"}
    assert labels(comparison)[2] == ["other"]


def test_losses_are_compared_between_runs(whole: Run, tmp_path: Path) -> None:
    cells = [cell.resolved for cell in whole.cells[:2]]
    begin(tmp_path / "run", cells)
    for cell in cells:
        steps = steps_of(cell)
        if cell is cells[1]:
            steps[4] = steps[4].model_copy(update={"loss": (1.5).hex()})
        add(tmp_path / "run", cell, 0, steps)
    assert [row["losses"] for row in rows(compare(whole, Run.load(tmp_path / "run")))] == ["equal", "differ"]


@pytest.mark.parametrize("width", [80, 100, 160])
def test_table_fits_without_breaking_words(whole: Run, tmp_path: Path, width: int) -> None:
    lines = render(table(compare(whole, make_run(tmp_path / "run", accelerator="kvm"))), width)
    body = lines[2 : next(n for n, line in enumerate(lines) if line.startswith("losses"))]
    assert all(len(line) <= width for line in body)
    words = {word for line in body for word in line.split()}
    assert words >= {"fast-only", "sentinel", "20%", "accelerators", "differ", "Policy", "Budget", "B/A"}
