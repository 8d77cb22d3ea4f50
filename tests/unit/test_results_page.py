# SPDX-License-Identifier: Apache-2.0
"""The HTML page of a run: well-formed, self-contained, escaped."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import lxml.etree
import lxml.html
import numpy as np
import pytest

from results import columns, page, summary
from results.notes import NO_PERFORMANCE
from results.plans import read_plans
from results.plots import headline
from results.records import Throttle
from results.runs import Run
from results.units import duration
from sentinel.planner.formats import files
from testbed.common.errors import UsageError
from tests.fakes import networks
from tests.fakes.profiles import LAYERS, MEGA, small, variable, written_then_read
from tests.fakes.run_records import SLOW, add, begin, cell_of, cells_of, make_run, steps_of

SVG = "{http://www.w3.org/2000/svg}"


def text_of(path: Path) -> str:
    """Return the text of a page with single spaces."""
    pieces = lxml.html.fromstring(path.read_text()).itertext()
    return " ".join(" ".join(pieces).split()).replace(" :", ":")


@pytest.mark.parametrize("kind", ["whole", "troubled"])
def test_page_is_well_formed_and_self_contained(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    path = page.write(request.getfixturevalue(kind), tmp_path / "out" / "report.html")
    source = path.read_text()
    tree = lxml.etree.fromstring(source.encode(), lxml.etree.XMLParser(recover=False, resolve_entities=False))
    assert len(list(tree.iter(f"{SVG}svg"))) == {"whole": 6, "troubled": 4}[kind]
    ids = [element.get("id") for element in tree.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    for element in tree.iter():
        for name, value in element.attrib.items():
            if name.rpartition("}")[2] in ("href", "src"):
                assert value.startswith("#")
                assert value[1:] in ids
    assert not list(tree.iter("{*}link", "{*}img", "{*}iframe", "{*}object"))
    (script,) = tree.iter("{*}script")
    assert script.attrib == {}
    assert not [name for element in tree.iter() for name in element.attrib if name.startswith("on")]
    assert "#0a0" not in source  # no placeholder is left
    assert "url(http" not in source


def test_page_shows_figures_losses_and_provenance(whole: Run, tmp_path: Path) -> None:
    path = page.write(whole, tmp_path / "report.html")
    text = text_of(path)
    for expected in (
        "not calibrated; times by the model clock.",
        "5.04 ms (4.91 to 5.16)",
        "equal resnet20 b8: 9 repeats, 8 steps, bit for bit",
        f"sentinel run suite.yaml --out runs/{whole.cells[1].id}",
        "git_commit 0123456789abcdef",
        "throttle.method timing-plugin",
        "4.9.0",
        "8.00 of 8.00 MiB",
        "Tensors on node 0 against the budget",
        "paper: ResNet-32, batch 128",
    ):
        assert expected in text
    assert NO_PERFORMANCE not in text.lower()
    content = path.read_bytes()
    assert page.write(whole, path).read_bytes() == content


def test_page_shows_failures_and_escapes_names(troubled: Run, tmp_path: Path) -> None:
    path = page.write(troubled, tmp_path / "report.html")
    text = text_of(path)
    assert "Not performance measurements: both nodes are equally fast." in text
    assert "differ resnet20 b8: at step 4" in text
    assert "not compared a<b>&$x_1$ b8: one repeat" in text
    assert "Oops:[31m <at> & [bold]mm/migrate.c[/bold]" in text
    assert f"cells/{troubled.cells[0].id}/000.failed-1" in text
    assert "suite <script>" in text


def test_page_of_a_run_without_repeats(tmp_path: Path) -> None:
    begin(tmp_path / "run", [cell_of("lstm", "fast-only")])
    path = page.write(Run.load(tmp_path / "run"), tmp_path / "report.html")
    text = text_of(path)
    assert "No finished repeats yet." in text
    assert "No cell has run yet" in text
    assert f"1 cell not run yet Only its id is known: {cell_of('lstm', 'fast-only')['id']}." in text


def test_page_folds_many_equal_losses(tmp_path: Path) -> None:
    models = tuple({"name": "lstm", "hidden": hidden} for hidden in range(8, 15))
    cells = cells_of(models=models, placements=("fast-only",))
    begin(tmp_path / "run", cells)
    for cell in cells:
        for repeat in range(2):
            add(tmp_path / "run", cell, repeat, steps_of(cell))
    path = page.write(Run.load(tmp_path / "run"), tmp_path / "report.html")
    assert "equal 7 of 7, bit for bit equal lstm b8 hidden 8" in text_of(path)


def test_page_refuses_paths_that_cannot_be_written(whole: Run, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder"):
        page.write(whole, tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be written"):
        page.write(whole, tmp_path / "file" / "report.html")


def test_page_without_tensor_statistics_shows_the_process(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", models=("lstm",), tensor_statistics=False)
    text = text_of(page.write(run, tmp_path / "page.html"))
    assert "Memory of the process by node" in text and "against the budget" not in text


def test_page_compares_plans_with_what_the_runtime_did(planned: Run, tmp_path: Path) -> None:
    path = page.write(planned, tmp_path / "report.html")
    text = text_of(path)
    sentinel = next(row for row in summary.build(planned).rows if row.policy == "sentinel")
    assert sentinel.prediction is not None and sentinel.summary is not None
    predicted, measured = (
        duration(ns) for ns in (sentinel.prediction.step_ns, sentinel.summary.centre_ns)
    )  # fmt: skip
    for expected in (
        f"{sentinel.label}: planned {predicted}, measured {measured}",
        "Plans: memory and migrations over one step",
        "promotions late at their wait - 512 KiB",
        "Profile: 7 operations, 4 tensors, accesses counted by the kernel",
    ):
        assert expected in text
    assert "Planned step: lstm b8" in path.read_text()


def test_page_shows_how_accurate_the_profiler_counts(planned: Run, tmp_path: Path) -> None:
    """The traffic that the counts let expect, beside that of the timing model."""
    cell = next(cell for cell in planned.cells if cell.repeats[0].plans)
    (estimate,) = (plan.traffic for plan in read_plans(planned, cell.repeats)[0])
    assert estimate is not None and estimate > 0
    title = "memory traffic (planned: from the profiler's counts)"
    page.write(planned, tmp_path / "report.html")
    assert f"{title} {columns.size(estimate)} -" in text_of(tmp_path / "report.html")
    totals = [{"misses": [0, 0], "read": [n << 20, 0], "written": [0, 0]} for n in range(2)]
    lines = [{"marker": 3 + n, "vcpus": [totals[n]]} for _ in cell.repeats[0].steps for n in range(2)]
    path = cell.repeats[0].path / "counters.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    page.write(Run.load(planned.path), tmp_path / "report.html")
    assert f"{title} {columns.size(estimate)} 1.00 MiB" in text_of(tmp_path / "report.html")


def test_page_shows_the_accuracy_of_each_profile_with_exact_savings(tmp_path: Path) -> None:
    tensors = [written_then_read(0, 3), written_then_read(1, 6), variable(0, 6, n=7)]
    counted = small(LAYERS, MEGA, tensors)
    uses = dataclasses.replace(counted.uses, saved_ns=np.arange(1.0, 1 + len(counted.uses.tensor)))
    exact = dataclasses.replace(counted, uses=uses)
    for name, profile in (("exact", exact), ("counted", counted)):
        run = make_run(
            tmp_path / name,
            models=("lstm",),
            placements=("fast-only", "sentinel", "sentinel-opt"),
            fast_memory=("60%",),
            profile=profile,
        )
        path = page.write(run, tmp_path / f"{name}.html")
        panels = path.read_text().count("Savings in fast memory, estimated and exact: lstm b8")
        assert panels == (name == "exact")  # both plans have the same profile
        assert ("Accuracy of the profiler" in text_of(path)) == (name == "exact")
    assert "lstm b8 3 tensors" in text_of(tmp_path / "exact.html")


@pytest.mark.parametrize("damage", ["missing", "not a profile", "another profile"])
def test_page_without_the_profile_of_a_plan_says_so(planned: Run, tmp_path: Path, damage: str) -> None:
    (kept,) = (planned.path / "profiles").iterdir()
    if damage == "missing":
        shutil.rmtree(planned.path / "profiles")
    elif damage == "not a profile":
        kept.write_bytes(b"{}")
    else:
        files.write_profile(kept, networks.resnet(seed=1, blocks=1))
    text = text_of(page.write(Run.load(planned.path), tmp_path / "report.html"))
    assert "No plot: the run did not keep the profile of this plan." in text


def test_page_shows_the_bound_of_a_plan_and_no_bound_without(planned: Run, tmp_path: Path) -> None:
    assert "bound" not in headline.headline(summary.build(planned).rows)[0].svg
    for path in planned.path.glob("cells/*/*/plan.json.gz"):
        plan = files.read_plan(path)
        files.write_plan(path, dataclasses.replace(plan, predicted={**plan.predicted, "bound_ns": 4e6}))
    rows = summary.build(Run.load(planned.path)).rows
    assert {row.prediction.bound_ns for row in rows if row.prediction} == {4e6}
    assert "bound" in headline.headline(rows)[0].svg


def test_page_warns_of_a_damaged_plan(planned: Run, tmp_path: Path) -> None:
    for path in planned.path.glob("cells/*/*/plan.json.gz"):
        path.write_bytes(b"{")
    text = text_of(page.write(Run.load(planned.path), tmp_path / "report.html"))
    assert text.count("is not JSON, or is incomplete") == 2
    assert "Plans:" not in text


def test_page_folds_the_calibration_into_a_sentence_and_a_table(tmp_path: Path) -> None:
    figures = {
        "node 0 read": {"expected": 100.0, "measured": 98.0, "unit": "GB/s"},
        "odd": {"expected": 0, "measured": "x"},
    }
    calibration = {"good": True, "mode": "synchronised", "made": "2026-03-01", "figures": figures}
    throttle = Throttle.model_validate({**SLOW.model_dump(), "calibration": calibration})
    run = make_run(tmp_path / "run", models=("lstm",), placements=("fast-only",), throttle=throttle)
    text = text_of(page.write(run, tmp_path / "page.html"))
    assert "calibration passed (largest deviation 2.0%)" in text
    assert "1 figures of the preset" in text and "-2.0%" in text
    assert "throttle.calibration" not in text
