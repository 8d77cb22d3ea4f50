# SPDX-License-Identifier: Apache-2.0
"""Reports: what they must say, and that the page is well-formed."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import lxml.etree
import lxml.html
import pytest
from rich.console import Console, RenderableType

from results import page as pages
from results.frames import cell_frame
from results.records import Step
from results.report import report, rows, to_dict
from results.runs import Run
from results.summary import NO_PERFORMANCE
from results.tensors import by_node
from testbed.common.errors import UsageError
from tests.fakes.run_records import (
    ALIKE,
    add,
    begin,
    cell_of,
    cells_of,
    fail,
    make_run,
    runtime_of,
    steps_of,
)

SVG = "{http://www.w3.org/2000/svg}"


def shown(table: RenderableType, width: int = 140) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


def text_of(page: Path) -> str:
    pieces = lxml.html.fromstring(page.read_text()).itertext()
    return " ".join(" ".join(pieces).split()).replace(" :", ":")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture
def troubled(tmp_path: Path) -> Run:
    """Names to escape, a wrong loss, failures, damage, both nodes alike, a cell not begun."""
    root = tmp_path / "run"
    fast, slow = cell_of("resnet20", "fast-only"), cell_of("resnet20", "slow-only")
    odd = {**fast, "id": "odd", "model": {"name": "a<b>&$x_1$", "batch": 8}}
    begin(root, [fast, slow, odd, cell_of("lstm", "fast-only")], suite="suite <script>")
    for cell in (fast, slow, odd):
        for repeat in range(2):
            steps = steps_of(cell, seed=repeat)
            if cell is slow and repeat == 1:
                steps[4] = steps[4].model_copy(update={"loss": (1.5).hex()})
            add(root, cell, repeat, steps, throttle=ALIKE)
    fail(root, fast, 0)
    fail(root, fast, 2, "Oops:\x1b[31m <at> & [bold]mm/migrate.c[/bold]\n")
    (root / "cells" / "odd" / "001" / "cell.json").unlink()
    return Run.load(root)


GOLDEN = """\
smoke, 2026-03-01 12:30 UTC
Placement                   Step time             Relative  Tensors on node 0  Moved per step
lstm b8
fast-only      12.6 ms (12.4 to 12.8)                    1           40.0 MiB               0
sentinel, 20%  14.4 ms (14.2 to 14.6)  1.14 (1.12 to 1.17)   8.00 of 8.00 MiB             904
sentinel, 40%  14.4 ms (14.2 to 14.6)  1.14 (1.12 to 1.17)   16.0 of 16.0 MiB             904
losses OK lstm b8: 9 repeats, 8 steps, equal bit for bit
step times are medians over repeats of each repeat's median, by the model clock, warm-up excluded; in
parentheses the middle 95% of a bootstrap over repeats and steps
repeats of every cell: 3, with 18 measured steps in all
relative time: in units of fast-only, within the same budget or without one
tensors on node 0: bytes at the end of the measured step that had most there, of the budget if any; what is
not a tensor is within no budget"""


def test_golden_table(tmp_path: Path) -> None:
    run = make_run(
        tmp_path / "run", models=("lstm",), placements=("fast-only", "sentinel"), fast_memory=("20%", "40%")
    )
    assert shown(report(run), 108) == GOLDEN


def test_rows(whole: Run) -> None:
    found = rows(whole)
    assert [row["cell"] for row in found] == [cell.id for cell in whole.cells]
    fast, slow, sentinel = found[:3]
    assert (slow["clock"], slow["reference"], slow["repeats"], slow["steps"]) == (
        "model", fast["cell"], 3, 18
    )  # fmt: skip
    assert (slow["label"], slow["fast_memory"]) == ("resnet20 b8, slow-only", None)
    assert (sentinel["label"], sentinel["fast_memory"]) == ("resnet20 b8, sentinel, 20%", "20%")
    assert (sentinel["tensor_bytes"], sentinel["budget_bytes"]) == ([8 << 20, 32 << 20], 8 << 20)
    assert (slow["tensor_bytes"], slow["budget_bytes"]) == ([0, 40 << 20], None)
    assert slow["relative_low"] < 3.4 < slow["relative_high"]
    assert slow["low_ns"] <= slow["centre_ns"] <= slow["high_ns"]
    assert json.loads(json.dumps(to_dict(whole)))["rows"] == found


def test_the_table_says_what_is_wrong(troubled: Run) -> None:
    text = " ".join(shown(report(troubled), 200).split())
    assert NO_PERFORMANCE in text
    assert "losses DIFFERENT resnet20 b8: at step 4" in text
    assert "guest hang: resnet20 b8, fast-only, repeat 0, try 1, finished later: no output for 60 s" in text
    assert "Oops:[31m <at> & [bold]mm/migrate.c[/bold]" in text
    assert "001/cell.json: missing; repeat left out" in text
    assert "incomplete: 1 of 4 cells have no finished repeat" in text
    assert "where there is one repeat" in text
    assert "\x1b" not in text


def test_only_some_cells_alike(tmp_path: Path) -> None:
    cells = [cell_of("lstm", "fast-only"), cell_of("lstm", "slow-only")]
    begin(tmp_path / "run", cells)
    add(tmp_path / "run", cells[0], 0, steps_of(cells[0]))
    add(tmp_path / "run", cells[1], 0, steps_of(cells[1]), throttle=ALIKE)
    notes = to_dict(Run.load(tmp_path / "run"))["notes"]
    assert f"{NO_PERFORMANCE}, in lstm b8, slow-only" in notes


def test_a_repeat_by_another_clock_is_flagged_and_the_rest_stays_on_the_model_clock(tmp_path: Path) -> None:
    root = tmp_path / "run"
    cells = cells_of(placements=("fast-only", "slow-only", "first-touch"))
    begin(root, cells)
    for cell in cells:
        for number in range(3):
            lost = cell is cells[2] or (cell is cells[1] and number == 2)
            add(root, cell, number, steps_of(cell, seed=number, model_clock=not lost))
    data = to_dict(Run.load(root))
    _, slow, touch = data["rows"]
    assert data["clock"] == "model"
    assert [row["clock"] for row in data["rows"]] == ["model", "model", None]
    assert [row["off_clock"] for row in data["rows"]] == [0, 1, 3]
    assert (slow["repeats"], slow["steps"], touch["repeats"], touch["steps"]) == (3, 12, 3, 0)
    assert slow["relative"] == pytest.approx(3.4, rel=0.05)  # a guest's clock would make it 40 times as much
    assert (touch["centre_ns"], touch["relative"], touch["reference"]) == (None, None, None)
    assert [line.partition(": ") for line in data["warnings"]] == [
        (where, ": ", "no model clock; its times are left out of every figure")
        for where in (
            "resnet20 b8, slow-only, repeat 2",
            *(f"resnet20 b8, first-touch, repeat {n}" for n in range(3)),
        )
    ]
    frame = cell_frame(Run.load(root))
    assert list(frame["clock"].fillna("-")) == ["model", "model", "-"]
    assert frame["centre_ns"].isna().tolist() == [False, False, True]
    assert "by another clock" in shown(report(Run.load(root)))
    page = text_of(pages.write(Run.load(root), tmp_path / "page.html"))
    assert "repeat 2: no model clock" in page


def test_times_are_held_against_the_same_budget_or_none(tmp_path: Path) -> None:
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


# What is on node 0


def old_run(path: Path, *, told: bool) -> Run:
    """Records of former versions: no budget in bytes, maybe no statistics of the runtime."""
    run = make_run(path, models=("lstm",), told=told)
    for provenance in path.glob("cells/*/*/provenance.json"):
        value = json.loads(provenance.read_text())
        del value["fast_memory"]
        provenance.write_text(json.dumps(value))
    return Run.load(run.path)


def test_records_without_figures_for_tensors_say_so(tmp_path: Path) -> None:
    run = old_run(tmp_path / "run", told=False)
    assert run.warnings == []
    text = " ".join(shown(report(run)).split())
    assert "Process on node 0" in text and "Tensors on node 0" not in text
    assert "these records do not tell tensors from the rest of the process" in text
    assert all(row["tensor_bytes"] is None for row in rows(run))
    page = text_of(pages.write(run, tmp_path / "page.html"))
    assert "Where the process's memory was" in page and "Where the tensors were" not in page


def test_records_without_a_budget_in_bytes_say_so(tmp_path: Path) -> None:
    run = old_run(tmp_path / "run", told=True)
    text = " ".join(shown(report(run)).split())
    assert "8.00 MiB" in text and "of 8.00 MiB" not in text
    assert "the budget in bytes is not recorded: lstm b8, sentinel, 20%" in text


def test_a_cell_without_a_figure_among_others_says_so(tmp_path: Path) -> None:
    root = tmp_path / "run"
    cells = cells_of(placements=("fast-only", "sentinel"), fast_memory=("20%", "40%"))
    begin(root, cells)
    for cell in cells:
        add(root, cell, 0, steps_of(cell, told=cell is not cells[2]))
    text = " ".join(shown(report(Run.load(root))).split())
    assert "not recorded" in text
    assert "no figure for tensors: resnet20 b8, sentinel, 40%" in text
    pages.write(Run.load(root), tmp_path / "page.html")


def test_more_tensors_on_node_0_than_the_budget_are_told(tmp_path: Path) -> None:
    root = tmp_path / "run"
    (cell,) = cells_of(placements=("first-touch",), fast_memory=("20%",))
    begin(root, [cell])
    steps = steps_of(cell)
    steps[0] = steps[0].model_copy(update={"runtime": runtime_of(30 << 20)})  # the warm-up has no budget yet
    add(root, cell, 0, steps)
    steps[5] = steps[5].model_copy(update={"runtime": runtime_of(10 << 20)})
    assert rows(Run.load(root))[0]["tensor_bytes"] == [8 << 20, 32 << 20]
    assert Run.load(root).warnings == to_dict(Run.load(root))["warnings"] == []
    add(root, cell, 1, steps)
    assert rows(Run.load(root))[0]["tensor_bytes"] == [10 << 20, 30 << 20]
    (line,) = to_dict(Run.load(root))["warnings"]
    assert line == "resnet20 b8, first-touch, 20%: over the budget: 10.0 of 8.00 MiB of tensors on node 0"


@pytest.mark.parametrize(
    "pools",
    [None, {}, [], {"a": 1}, {"a": {}}, {"a": {"resident": []}}, {"a": {"resident": ["1", 2]}},
     {"a": {"resident": [1, 2]}, "b": {"resident": [1]}}, {"a": {"resident": [1, 2]}, "b": {}}],
)  # fmt: skip
def test_statistics_of_another_form_are_no_figure(pools: Any) -> None:
    step = Step(step=0, warmup=False, guest_ns=1, loss="0x1p0", runtime={"pools": pools})
    assert by_node(step) is None


@pytest.mark.parametrize("kind", ["whole", "troubled"])
def test_the_page_is_well_formed_and_self_contained(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    page = pages.write(request.getfixturevalue(kind), tmp_path / "out" / "report.html")
    source = page.read_text()
    tree = lxml.etree.fromstring(source.encode(), lxml.etree.XMLParser(recover=False, resolve_entities=False))
    assert len(list(tree.iter(f"{SVG}svg"))) == 2
    ids = [element.get("id") for element in tree.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    for element in tree.iter():
        for name, value in element.attrib.items():
            if name.rpartition("}")[2] in ("href", "src"):
                assert value.startswith("#")
                assert value[1:] in ids
    assert not list(tree.iter("{*}script", "{*}link", "{*}img"))
    assert "#0a0" not in source  # no stand-in colour is left over
    assert "url(http" not in source


def test_the_page_says_what_it_must(whole: Run, tmp_path: Path) -> None:
    page = pages.write(whole, tmp_path / "report.html")
    text = text_of(page)
    for needed in (
        "times by the model clock",
        "5.05 ms (4.97 to 5.13)",
        "OK resnet20 b8: 9 repeats, 8 steps, equal bit for bit",
        f"sentinel run suite.yaml --out runs/{whole.cells[1].id}",
        "git_commit 0123456789abcdef",
        "throttle.method timing-plugin",
        "4.9.0",
        "8.00 of 8.00 MiB",
        "Where the tensors were",
    ):
        assert needed in text
    assert NO_PERFORMANCE not in text.lower()
    first = page.read_bytes()
    assert pages.write(whole, page).read_bytes() == first  # the same records give the same page


def test_the_page_of_a_troubled_run(troubled: Run, tmp_path: Path) -> None:
    page = pages.write(troubled, tmp_path / "report.html")
    text = text_of(page)
    assert "Times show function, not performance: both nodes have the same speed here." in text
    assert "DIFFERENT resnet20 b8: at step 4" in text
    assert "NOTHING TO COMPARE a<b>&$x_1$ b8: one repeat" in text
    assert "Oops:[31m <at> & [bold]mm/migrate.c[/bold]" in text
    assert f"cells/{troubled.cells[0].id}/000.failed-1" in text
    assert "suite <script>" in text


def test_the_page_of_a_run_just_begun(tmp_path: Path) -> None:
    begin(tmp_path / "run", [cell_of("lstm", "fast-only")])
    page = pages.write(Run.load(tmp_path / "run"), tmp_path / "report.html")
    assert "No repeat is finished yet." in text_of(page)


def test_a_page_that_cannot_be_written(whole: Run, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder"):
        pages.write(whole, tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be written"):
        pages.write(whole, tmp_path / "file" / "report.html")


@pytest.mark.parametrize(
    "changes",
    [
        {"placements": ("fast-only", "first-touch", "interleave", "sentinel", "sentinel-opt")},
        {"fast_memory": (), "placements": ("fast-only", "slow-only")},
        {"told": False},
    ],
    ids=["budgets", "no budgets", "no figures for tensors"],
)
def test_at_80_columns_the_table_fits_and_breaks_no_word(tmp_path: Path, changes: dict[str, Any]) -> None:
    run = make_run(tmp_path / "run", repeats=2, **changes)
    first = run.cells[0].resolved
    fail(run.path, first, 2)
    add(run.path, first, 2, steps_of(first, seed=2))  # which makes a column of repeats
    lines = shown(report(Run.load(run.path)), 80).splitlines()
    table = lines[1 : next(n for n, line in enumerate(lines) if line.startswith("losses"))]
    assert table[0].split()[0] == "Placement"  # columns, not blocks
    assert all(len(line) <= 80 for line in lines)
    words = {word for line in table for word in line.split()}
    whole = {word for line in shown(report(Run.load(run.path)), 400).splitlines() for word in line.split()}
    assert words <= whole
