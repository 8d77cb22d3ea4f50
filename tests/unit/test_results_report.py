# SPDX-License-Identifier: Apache-2.0
"""The report of a run: its table, notes, warnings and JSON."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from results import migration, plans
from results.notes import NO_PERFORMANCE
from results.records import Step
from results.report import report, rows, to_dict
from results.runs import Run
from results.tensors import by_node
from tests.fakes.run_records import (
    EQUALLY_FAST,
    add,
    begin,
    cell_of,
    cells_of,
    fail,
    make_run,
    runtime_of,
    steps_of,
)
from tests.fakes.terminal import render, render_words

GOLDEN = """\
smoke, 2026-03-01 12:30 UTC
Policy     Budget          Step time           Relative  Tensors on node 0  Promoted, demoted        Exposed
lstm b8
fast-only                    12.6 ms                  1           40.0 MiB
                      (12.3 to 12.9)
sentinel   20%               16.3 ms               1.29   8.00 of 8.00 MiB          1.00 MiB,  100 us (0.6%)
                      (16.0 to 16.6)     (1.27 to 1.32)                              2.00 MiB
sentinel   40%               16.3 ms               1.29   16.0 of 16.0 MiB          1.00 MiB,  100 us (0.6%)
                      (16.0 to 16.6)     (1.27 to 1.32)                              2.00 MiB
losses equal: lstm b8: 9 repeats, 8 steps, bit for bit
step time: geometric mean over repeats of each repeat's median, by the model clock, without warm-up; in
parentheses: 95% interval (Student's t over repeats)
each cell has 3 repeats with 18 measured steps in total
relative to fast-only of the same model and settings
tensors on node 0: bytes at the end of the measured step with most of them there, and the budget; the rest
of the process has no budget
promoted, demoted: bytes that the runtime moved per measured step; exposed: time that computation waited for
migrations"""


def test_table_of_a_run(tmp_path: Path) -> None:
    run = make_run(
        tmp_path / "run", models=("lstm",), placements=("fast-only", "sentinel"), fast_memory=("20%", "40%")
    )
    assert render(report(run), 108) == GOLDEN.splitlines()


def test_json_rows_of_a_run(whole: Run) -> None:
    json_rows = rows(whole)
    assert [row["cell"] for row in json_rows] == [cell.id for cell in whole.cells]
    fast, slow, sentinel = json_rows[:3]
    assert (slow["clock"], slow["reference"], slow["repeats"], slow["steps"]) == (
        "model", fast["cell"], 3, 18
    )  # fmt: skip
    assert (slow["label"], slow["budget"]) == ("resnet20 b8, slow-only", None)
    assert (sentinel["label"], sentinel["budget"]) == ("resnet20 b8, sentinel, 20%", "20%")
    assert (sentinel["tensor_bytes"], sentinel["budget_bytes"]) == ([8 << 20, 32 << 20], 8 << 20)
    assert (slow["tensor_bytes"], slow["budget_bytes"]) == ([0, 40 << 20], None)
    assert slow["relative_low"] < 3.4 < slow["relative_high"]
    assert slow["speed"]["low"] < 1 / 3.4 < slow["speed"]["high"]
    assert (slow["migration_per_step"], slow["budget_share"], sentinel["budget_share"]) == (None, None, 0.2)
    assert sentinel["migration_per_step"] == {
        "promoted": 1 << 20, "demoted": 2 << 20, "late": 1 << 19, "failed": 0, "crowded": 0,
        "exposed_ns": 100_000,
    }  # fmt: skip
    assert slow["low_ns"] <= slow["centre_ns"] <= slow["high_ns"]
    assert json.loads(json.dumps(to_dict(whole)))["rows"] == json_rows


def test_table_shows_failures_and_damage(troubled: Run) -> None:
    text = render_words(report(troubled))
    assert NO_PERFORMANCE in text
    assert "losses differ: resnet20 b8: at step 4" in text
    assert (
        "guest hang: resnet20 b8, fast-only, repeat 0, attempt 1, finished later: no output for 60 s" in text
    )
    assert "Oops:[31m <at> & [bold]mm/migrate.c[/bold]" in text
    assert "001/cell.json: missing; repeat skipped" in text
    assert "incomplete: 1 of 4 cells have no finished repeat" in text
    assert "a single repeat has no interval" in text
    assert "\x1b" not in text


def test_note_names_the_cells_with_equally_fast_nodes(tmp_path: Path) -> None:
    cells = [cell_of("lstm", "fast-only"), cell_of("lstm", "slow-only")]
    begin(tmp_path / "run", cells)
    add(tmp_path / "run", cells[0], 0, steps_of(cells[0]))
    add(tmp_path / "run", cells[1], 0, steps_of(cells[1]), throttle=EQUALLY_FAST)
    notes = to_dict(Run.load(tmp_path / "run"))["notes"]
    assert f"{NO_PERFORMANCE}, in lstm b8, slow-only" in notes


def test_repeats_without_the_model_clock_are_excluded(tmp_path: Path) -> None:
    root = tmp_path / "run"
    cells = cells_of(placements=("fast-only", "slow-only", "first-touch"))
    begin(root, cells)
    for cell in cells:
        for number in range(3):
            guest_only = cell is cells[2] or (cell is cells[1] and number == 2)
            add(root, cell, number, steps_of(cell, seed=number, model_clock=not guest_only))
    data = to_dict(Run.load(root))
    _, slow, touch = data["rows"]
    assert data["clock"] == "model"
    assert [row["clock"] for row in data["rows"]] == ["model", "model", None]
    assert [row["off_clock"] for row in data["rows"]] == [0, 1, 3]
    assert (slow["repeats"], slow["steps"], touch["repeats"], touch["steps"]) == (3, 12, 3, 0)
    assert slow["relative"] == pytest.approx(3.4, rel=0.05)  # 40 times as much by the guest clock
    assert (touch["centre_ns"], touch["relative"], touch["reference"]) == (None, None, None)
    assert [line.partition(": ") for line in data["warnings"]] == [
        (where, ": ", "no model clock; excluded from all figures")
        for where in (
            "resnet20 b8, slow-only, repeat 2",
            *(f"resnet20 b8, first-touch, repeat {n}" for n in range(3)),
        )
    ]
    assert "other clock" in render_words(report(Run.load(root)))


def test_times_are_relative_to_the_same_budget_or_none(tmp_path: Path) -> None:
    placements = ("first-touch", "fast-only", "slow-only", "sentinel", "sentinel-opt")
    run = make_run(tmp_path / "run", models=("lstm",), placements=placements, fast_memory=("20%", "40%"))
    label = {row["cell"]: row["label"] for row in rows(run)}
    assert {row["label"]: label.get(row["reference"]) for row in rows(run)} == {
        "lstm b8, first-touch, 20%": None,
        "lstm b8, first-touch, 40%": None,
        "lstm b8, fast-only": None,
        "lstm b8, slow-only": "lstm b8, fast-only",
        **{
            f"lstm b8, {placement}, {share}": f"lstm b8, first-touch, {share}"
            for placement in ("sentinel", "sentinel-opt")
            for share in ("20%", "40%")
        },
    }


def older_run(path: Path, *, tensor_statistics: bool) -> Run:
    """Store and read a run whose records lack the budget in bytes."""
    run = make_run(path, models=("lstm",), tensor_statistics=tensor_statistics)
    for provenance in path.glob("cells/*/*/provenance.json"):
        value = json.loads(provenance.read_text())
        del value["fast_memory"]
        provenance.write_text(json.dumps(value))
    return Run.load(run.path)


def test_report_without_tensor_statistics_shows_the_process(tmp_path: Path) -> None:
    run = older_run(tmp_path / "run", tensor_statistics=False)
    assert run.warnings == []
    text = render_words(report(run))
    assert "Process on node 0" in text and "Tensors on node 0" not in text
    assert "no tensor statistics: Process on node 0 is the share of the process's anonymous memory" in text
    assert all(row["tensor_bytes"] is None for row in rows(run))


def test_report_notes_a_missing_budget_in_bytes(tmp_path: Path) -> None:
    run = older_run(tmp_path / "run", tensor_statistics=True)
    text = render_words(report(run))
    assert "8.00 MiB" in text and "of 8.00 MiB" not in text
    assert "budget in bytes not recorded: lstm b8, sentinel, 20%" in text


def test_report_notes_cells_without_tensor_statistics(tmp_path: Path) -> None:
    root = tmp_path / "run"
    cells = cells_of(placements=("fast-only", "sentinel"), fast_memory=("20%", "40%"))
    begin(root, cells)
    for cell in cells:
        add(root, cell, 0, steps_of(cell, tensor_statistics=cell is not cells[2]))
    text = render_words(report(Run.load(root)))
    assert "not recorded" in text
    assert "no tensor statistics: resnet20 b8, sentinel, 40%" in text


def test_report_warns_of_an_exceeded_budget(tmp_path: Path) -> None:
    root = tmp_path / "run"
    (cell,) = cells_of(placements=("first-touch",), fast_memory=("20%",))
    begin(root, [cell])
    steps = steps_of(cell)
    steps[0] = steps[0].model_copy(
        update={"runtime": runtime_of(30 << 20)}
    )  # the budget applies after the warm-up
    add(root, cell, 0, steps)
    steps[5] = steps[5].model_copy(update={"runtime": runtime_of(10 << 20)})
    assert rows(Run.load(root))[0]["tensor_bytes"] == [8 << 20, 32 << 20]
    assert Run.load(root).warnings == to_dict(Run.load(root))["warnings"] == []
    add(root, cell, 1, steps)
    assert rows(Run.load(root))[0]["tensor_bytes"] == [10 << 20, 30 << 20]
    (line,) = to_dict(Run.load(root))["warnings"]
    assert line == "resnet20 b8, first-touch, 20%: over budget: 10.0 of 8.00 MiB of tensors on node 0"


@pytest.mark.parametrize(
    "pools",
    [None, {}, [], {"a": 1}, {"a": {}}, {"a": {"resident": []}}, {"a": {"resident": ["1", 2]}},
     {"a": {"resident": [1, 2]}, "b": {"resident": [1]}}, {"a": {"resident": [1, 2]}, "b": {}}],
)  # fmt: skip
def test_tensor_bytes_need_valid_statistics(pools: Any) -> None:
    step = Step(step=0, warmup=False, guest_ns=1, loss="0x1p0", runtime={"pools": pools})
    assert by_node(step) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"placements": ("fast-only", "first-touch", "interleave", "sentinel", "sentinel-opt")},
        {"fast_memory": (), "placements": ("fast-only", "slow-only")},
        {"tensor_statistics": False},
    ],
    ids=["budgets", "no budgets", "no tensor statistics"],
)
def test_table_fits_80_columns_without_breaking_words(tmp_path: Path, changes: dict[str, Any]) -> None:
    run = make_run(tmp_path / "run", repeats=2, **changes)
    first = run.cells[0].resolved
    fail(run.path, first, 2)
    add(run.path, first, 2, steps_of(first, seed=2))  # unequal counts, so there is a column of repeats
    table = report(Run.load(run.path))
    lines = render(table, 80)
    body = lines[1 : next(n for n, line in enumerate(lines) if line.startswith("losses"))]
    assert body[0].split()[0] == "Policy"  # columns, not blocks
    assert all(len(line) <= 80 for line in lines)
    words = {word for line in body for word in line.split()}
    assert words <= set(render_words(table).split())


def test_predictions_weigh_the_plans_of_a_steps_kinds(planned: Run) -> None:
    cell = next(cell for cell in planned.cells if cell.resolved["placement"] == "sentinel")
    (plan,), _ = plans.read_plans(planned, cell.repeats)
    a, b = dataclasses.replace(plan, kind="a"), dataclasses.replace(plan, kind="b")
    step_ns = plan.plan.predicted["step_ns"]

    def predicted(kinds: list[str], session_runs: int, *of: plans.Planned) -> float | None:
        steps = [
            Step(step=n, warmup=n == 0, guest_ns=1, kind=kind, runtime={"steps": session_runs * n})
            for n, kind in enumerate(kinds)
        ]
        prediction = plans.predict(of, [dataclasses.replace(cell.repeats[0], steps=steps)])
        return prediction.step_ns if prediction else None

    assert predicted(["a", "a", "a"], 2, a, b) == 2 * step_ns  # a model's step runs all kinds
    assert predicted(["a", "a", "b"], 1, a, b) == step_ns  # a script's step runs its own
    assert predicted(["b", "a", "a"], 1, a, b) == step_ns
    assert predicted(["a", "a", "b"], 1, a) is None  # no plan for b
    assert predicted(["a"], 1, a) is None  # no measured step
    assert predicted(["a", "a"], 1) is None
    assert plans.predict([plan], cell.repeats) is not None  # older records do not name kinds


def test_migrations_are_the_growth_of_valid_counters(planned: Run) -> None:
    cell = next(cell for cell in planned.cells if cell.resolved["placement"] == "sentinel")
    (repeat, *_) = cell.repeats
    found = migration.migration([repeat])
    assert found is not None and (found.promoted, found.exposed_ns) == (1 << 20, 100_000)
    totals: list[Any] = [None, {}, {"promoted": -1}, 7, [], "x", {"late": 1.5}, {}]
    damaged = [
        step.model_copy(update={"runtime": {**step.runtime, "total": total}})
        for step, total in zip(repeat.steps, totals, strict=True)
    ]
    assert migration.migration([dataclasses.replace(repeat, steps=damaged)]) is None
    restarted = [*repeat.steps[:4], repeat.steps[2], repeat.steps[5]]  # counters that shrink are no growth
    again = migration.migration([dataclasses.replace(repeat, steps=restarted)])
    assert again is not None and again.promoted == (1 + 1 + 3) / 3 * (1 << 20)
