# SPDX-License-Identifier: Apache-2.0
"""Reports and comparisons: what they must say, and that the page is well-formed."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import lxml.etree
import lxml.html
import pytest
from rich.console import Console
from rich.table import Table

from results.compare import Comparison, compare
from results.report import report, rows, to_dict, write_html
from results.runs import Run
from results.summary import NO_PERFORMANCE
from testbed.common.errors import UsageError
from tests.fakes.run_records import ALIKE, add, begin, cell_of, fail, make_run, steps_of

SVG = "{http://www.w3.org/2000/svg}"


def shown(table: Table, width: int = 140) -> str:
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
    odd = cell_of("a<b>&$x_1$", {"policy": "sentinel", "fast": "20%"})
    fast, sentinel = cell_of("resnet20", "fast"), cell_of("resnet20", "sentinel")
    begin(root, [fast, sentinel, odd, cell_of("lstm", "fast")], suite="suite <script>")
    for cell in (fast, sentinel, odd):
        for repeat in range(2):
            steps = steps_of("sentinel", seed=repeat)
            if cell is sentinel and repeat == 1:
                steps[4] = steps[4].model_copy(update={"loss": (1.5).hex()})
            add(root, cell, repeat, steps, throttle=ALIKE)
    fail(root, fast, 0)
    fail(root, fast, 2, "Oops:\x1b[31m <at> & [bold]mm/migrate.c[/bold]\n")
    (root / "cells" / odd["id"] / "001" / "cell.json").unlink()
    return Run.load(root)


GOLDEN = """\
smoke, 2026-03-01 12:30 UTC
┏━━━━━━━━━┳━━━━━━━━━━━┳━━━━━━━━━┳━━━━━━━┳━━━━━━━━━━━━━━━━━━━━━━━━┳━━━━━━━━━━━━━━━━━━━━━┳━━━━━━━━┳━━━━━━━━━━━━┓
┃ Model   ┃ Placement ┃ Repeats ┃ Steps ┃              Step time ┃            Relative ┃ Node 0 ┃ Moved/step ┃
┡━━━━━━━━━╇━━━━━━━━━━━╇━━━━━━━━━╇━━━━━━━╇━━━━━━━━━━━━━━━━━━━━━━━━╇━━━━━━━━━━━━━━━━━━━━━╇━━━━━━━━╇━━━━━━━━━━━━┩
│ lstm b8 │ fast      │       3 │    18 │ 12.5 ms (12.2 to 12.7) │                   1 │ 100.0% │          0 │
│ lstm b8 │ sentinel  │       3 │    18 │ 14.4 ms (14.2 to 14.6) │ 1.15 (1.13 to 1.18) │  20.0% │        904 │
└─────────┴───────────┴─────────┴───────┴────────────────────────┴─────────────────────┴────────┴────────────┘
losses OK lstm b8: 6 repeats, 8 steps, equal bit for bit
step times are medians over repeats of each repeat's median, by the model clock, warm-up excluded; in
parentheses the middle 95% of a bootstrap over repeats and steps
relative time: in units of the first placement listed that is alike in all else"""


def test_golden_table(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", models=("lstm",), placements=("fast", "sentinel"))
    assert shown(report(run)) == GOLDEN


def test_rows(whole: Run) -> None:
    found = rows(whole)
    assert [row["cell"] for row in found] == [cell.id for cell in whole.cells]
    slow = found[1]
    assert (slow["clock"], slow["reference"], slow["repeats"], slow["steps"]) == (
        "model", "resnet20-fast", 3, 18
    )  # fmt: skip
    assert slow["relative_low"] < 3.4 < slow["relative_high"]
    assert slow["low_ns"] <= slow["centre_ns"] <= slow["high_ns"]
    assert json.loads(json.dumps(to_dict(whole)))["rows"] == found


def test_the_table_says_what_is_wrong(troubled: Run) -> None:
    text = " ".join(shown(report(troubled), 200).split())
    assert NO_PERFORMANCE in text
    assert "losses DIFFERENT resnet20 b8: at step 4" in text
    assert "guest hang: resnet20 b8, fast, repeat 0, try 1, finished later: no output for 60 s" in text
    assert "Oops:[31m <at> & [bold]mm/migrate.c[/bold]" in text
    assert "001/cell.json: missing; repeat left out" in text
    assert "incomplete: 1 of 4 cells have no finished repeat" in text
    assert "where there is one repeat" in text
    assert "\x1b" not in text


def test_only_some_cells_alike(tmp_path: Path) -> None:
    cells = [cell_of("lstm", "fast"), cell_of("lstm", "slow")]
    begin(tmp_path / "run", cells)
    add(tmp_path / "run", cells[0], 0, steps_of("fast"))
    add(tmp_path / "run", cells[1], 0, steps_of("slow", model_clock=False), throttle=ALIKE)
    notes = to_dict(Run.load(tmp_path / "run"))["notes"]
    assert f"{NO_PERFORMANCE}, in lstm b8, slow" in notes
    assert "only some cells have the model clock; the guest clock is used for all" in notes


@pytest.mark.parametrize("kind", ["whole", "troubled"])
def test_the_page_is_well_formed_and_self_contained(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    page = write_html(request.getfixturevalue(kind), tmp_path / "out" / "report.html")
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
    page = write_html(whole, tmp_path / "report.html")
    text = text_of(page)
    for needed in (
        "times by the model clock",
        "5.00 ms (4.90 to 5.07)",
        "OK resnet20 b8: 9 repeats, 8 steps, equal bit for bit",
        "sentinel run suite.yaml --only lstm-slow",
        "git_commit 0123456789abcdef",
        "throttle.method timing-plugin",
        "4.9.0",
        "node 1 80.0%",
    ):
        assert needed in text
    assert NO_PERFORMANCE not in text.lower()
    first = page.read_bytes()
    assert write_html(whole, page).read_bytes() == first  # the same records give the same page


def test_the_page_of_a_troubled_run(troubled: Run, tmp_path: Path) -> None:
    page = write_html(troubled, tmp_path / "report.html")
    text = text_of(page)
    assert "Times show function, not performance: both nodes have the same speed here." in text
    assert "DIFFERENT resnet20 b8: at step 4" in text
    assert "NOTHING TO COMPARE a<b>&$x_1$ b8: one repeat" in text
    assert "Oops:[31m <at> & [bold]mm/migrate.c[/bold]" in text
    assert "cells/resnet20-fast/000.failed-1" in text
    assert "suite <script>" in text


def test_the_page_of_a_run_just_begun(tmp_path: Path) -> None:
    begin(tmp_path / "run", [cell_of("lstm", "fast")])
    page = write_html(Run.load(tmp_path / "run"), tmp_path / "report.html")
    assert "No repeat is finished yet." in text_of(page)


def test_a_page_that_cannot_be_written(whole: Run, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder"):
        write_html(whole, tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be written"):
        write_html(whole, tmp_path / "file" / "report.html")


# Comparison


def verdicts(comparison: Comparison) -> set[str]:
    return {pair.verdict for pair in comparison.pairs}


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
    assert "1.250 (" in shown(compare(whole, other).table())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"throttle": ALIKE}, "in B both nodes have the same speed"),
        ({"accelerator": "kvm"}, "the accelerators differ (A tcg; B kvm)"),
        ({"model_clock": False}, "the clocks differ (A model, B guest)"),
    ],
)
def test_no_verdict(whole: Run, tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    found = compare(whole, make_run(tmp_path / "run", factor=2, **change))
    assert verdicts(found) == {f"no verdict: {reason}"}
    assert all(row["ratio"] == pytest.approx(2, rel=1e-3) for row in found.rows())  # said, but not judged


def test_matching_by_model_and_placement(whole: Run, tmp_path: Path) -> None:
    mine = cell_of("resnet20", "fast", kernel="6.1")
    twins = [cell_of("lstm", "slow", kernel=kernel) for kernel in ("a", "b")]
    pending = cell_of("lstm", "sentinel")
    begin(tmp_path / "run", [mine, *twins, pending])
    add(tmp_path / "run", mine, 0, steps_of("fast"))
    for twin in twins:
        add(tmp_path / "run", twin, 0, steps_of("slow"))
    found = compare(whole, Run.load(tmp_path / "run"))
    first, second = found.rows()
    assert (first["b"], first["matched"]) == ("resnet20-fast-6.1", "model and placement")
    assert first["differs"] == {"kernel": [None, "6.1"]}
    assert second["verdict"] == "no verdict: no measured step in B"
    assert [cell.id for cell in found.only_b] == ["lstm-slow-a", "lstm-slow-b"]  # two candidates: no guess
    assert [cell.id for cell in found.only_a] == [
        "resnet20-slow",
        "resnet20-sentinel",
        "lstm-fast",
        "lstm-slow",
    ]
    text = shown(found.table())
    assert "differs in kernel None -> 6.1" in text
    assert "only in B: lstm b8, slow (lstm-slow-a)" in text
    assert json.loads(json.dumps(found.to_dict()))["rows"] == found.rows()


def test_losses_that_differ_between_runs(whole: Run, troubled: Run) -> None:
    rows_ = {row["a"]: row for row in compare(whole, troubled).rows()}
    assert rows_["resnet20-fast"]["losses"] == "OK"
    assert rows_["resnet20-sentinel"]["losses"] == "DIFFERENT"
