# SPDX-License-Identifier: Apache-2.0
"""Damaged files beside the steps of a run, damaged stores, foreign folders, and several writers."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from results import measured, page, repeatability, report
from results.counters import per_step
from results.repeatability import Repeatability
from results.runs import Run
from sentinel.cli import main
from testbed.common.errors import ExitCode, UsageError
from tests.fakes import sides
from tests.fakes.damage import HTML, HUGE, Change, Damage, put, record, well_formed, without
from tests.fakes.run_records import begin, cell_of, make_run, steps_of
from tests.fakes.sides import CREATED, measured_cell

NAN = float("nan")
RESULT = "20260301T123000Z-0123456789.json"


def cell(*keys: Any) -> Callable[[Any], Change]:
    """Set a value of the first cell."""
    return put("cells", 0, *keys)


STORED = {
    "truncated": (Damage("", lambda text: text[:100]), "damaged: not JSON"),
    "empty": (Damage("", lambda _: ""), "damaged: not JSON"),
    "not text": (Damage("", lambda text: text + "\udcff"), "damaged: not text"),
    "without cells": (record("", without("cells")), "damaged: cells: Field required"),
    "newer": (record("", put("format")(99)), "format 99 is newer"),
    "without format": (record("", without("format")), "no format version"),
    "time NaN": (record("", cell("repeats", 0, "model_ns")(NAN)), "not JSON"),
    "time negative": (record("", cell("repeats", 0, "model_ns")(-1)), "cells.0.repeats.0.model_ns"),
    "time huge": (record("", cell("repeats", 0, "model_ns")(HUGE)), "cells.0.repeats.0.model_ns"),
    "loss no number": (record("", cell("repeats", 0, "losses")({"0": "x"})), "losses.0"),
    "counter NaN": (record("", cell("repeats", 0, "counters")({"misses": NAN})), "not JSON"),
    "id twice": (
        record("", lambda data: data["cells"].append(data["cells"][0])),
        "two cells have the same id",
    ),
    "repeat twice": (
        record("", lambda data: data["cells"][0]["repeats"].append(data["cells"][0]["repeats"][0])),
        "has a repeat twice",
    ),
}


@pytest.mark.parametrize(("damage", "line"), STORED.values(), ids=STORED)
def test_damaged_result_is_refused_by_all_commands(
    damage: Damage, line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "main" / RESULT
    measured.write(path, sides.measured(measured_cell([1.0, 1.1, 1.2])))
    path.write_bytes(damage.change(path.read_text()).encode(errors="surrogateescape"))
    for words in (("compare", "main", "main"), ("history", "cnn"), ("aa", "main"), ("baseline", "list")):
        assert main._run([*words, "--store", str(tmp_path)], debug=False) == ExitCode.USAGE
        out, err = capsys.readouterr()
        (error, hint) = err.splitlines()
        assert line in error
        assert str(path) in error
        assert hint.startswith(" hint:")
        assert out == ""


def test_markup_in_a_result_is_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd = measured_cell([1.0, 1.1, 1.2], placement=HTML, rate=HTML)
    path = tmp_path / "main" / RESULT
    measured.write(path, sides.measured(odd, commit=HTML, kernel=HTML).model_copy(update={"suite": HTML}))
    for words in (
        ("compare", "main", "main"),
        ("compare", "main", "main", "--format", "html"),
        ("history", "cnn", "--plot", str(tmp_path / "history.svg")),
        ("baseline", "list"),
    ):
        assert main._run([*words, "--store", str(tmp_path)], debug=False) == 0
        out, _ = capsys.readouterr()
        assert "\x1b" not in out
        if "html" in words:
            well_formed(out)
    well_formed((tmp_path / "history.svg").read_text())


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (Damage("", lambda text: text[:50]), "not JSON"),
        (record("", put("sd")(NAN)), "not JSON"),
        (record("", put("sd")(-1)), "sd"),
        (record("", put("freedom")(0)), "freedom"),
        (record("", put("format")(99)), "format 99 is newer"),
        (record("", without("kind")), "kind: Field required"),
    ],
    ids=["truncated", "sd NaN", "sd negative", "freedom zero", "newer", "without kind"],
)
def test_damaged_repeatability_is_refused(damage: Damage, line: str, tmp_path: Path) -> None:
    stored = Repeatability(
        kind="a1", label="cnn", clock="model", sd=0.01, freedom=5, pairs=1, false_alarms=0, created=CREATED
    )
    path = repeatability.save(tmp_path, stored)
    path.write_text(damage.change(path.read_text()))
    with pytest.raises(UsageError, match=line) as caught:
        repeatability.load(tmp_path)
    assert "sentinel aa" in (caught.value.hint or "")


# Other files of a repeat


@pytest.mark.parametrize(
    "text",
    ["", "x", '{"marker": 3', "[" * 10_000, '{"marker": 3, "vcpus": 7}', "null\n" * 8, "\xff\n"],
    ids=["empty", "no JSON", "truncated", "deep", "no list", "null", "not text"],
)
def test_damaged_counters_leave_those_of_the_kernel(text: str, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", models=("lstm",), placements=("fast-only",))
    (repeat, *_) = run.cells[0].repeats
    (repeat.path / "counters.jsonl").write_text(text, encoding="latin-1")
    assert set(per_step(repeat)) == {"migrated_pages", "page_faults"}


@pytest.mark.parametrize("value", [-1, HUGE, NAN, float("inf"), "7", True, None], ids=str)
def test_counters_must_be_counts(value: Any, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", models=("lstm",), placements=("fast-only",))
    (repeat, *_) = run.cells[0].repeats
    good = {"misses": [1, 1], "read": [64, 64], "written": [0, 0]}
    lines = []
    for n, _ in enumerate(repeat.steps):
        lines.append({"marker": 3, "vcpus": [good]})
        lines.append({"marker": 4, "vcpus": [good if n < 7 else {**good, "misses": [value, 1]}]})
    (repeat.path / "counters.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert set(per_step(repeat)) == {"migrated_pages", "page_faults"}


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[:100],
        lambda _: b"",
        lambda _: gzip.compress(b"[" * 10_000),
        lambda _: gzip.compress(b'{"format": "sentinel-plan", "version": 99}'),
        lambda data: gzip.compress(gzip.decompress(data).replace(b'"step_ns":', b'"step_ns":1e999,"x":')),
        lambda data: gzip.compress(gzip.decompress(data).replace(b'"step_ns":', b'"step_ns":NaN,"x":')),
    ],
    ids=["truncated", "empty", "deep", "newer", "infinite", "NaN"],
)
def test_damaged_plan_is_one_warning(change: Callable[[bytes], bytes], planned: Run, tmp_path: Path) -> None:
    folder = next(cell.repeats[0].path for cell in planned.cells if cell.repeats[0].plans)
    for path in folder.parent.glob("*/plan*.json.gz"):
        path.write_bytes(change(path.read_bytes()))
    run = Run.load(planned.path)
    data = report.to_dict(run)
    assert len([line for line in data["warnings"] if "; plan skipped" in line]) == 1
    well_formed(page.write(run, tmp_path / "page.html").read_text())


# Foreign folders


def foreign(kind: str, folder: Path) -> None:
    """Put something in place of a run."""
    folder.mkdir()
    if kind == "a file":
        folder.rmdir()
        folder.write_text("x")
    elif kind == "a FIFO for run.json":
        os.mkfifo(folder / "run.json")
    elif kind == "a folder for run.json":
        (folder / "run.json").mkdir()
    elif kind == "another program's run.json":
        (folder / "run.json").write_text('{"name": "x", "format": 1}')
    elif kind == "a file for cells":
        begin(folder, [cell_of("lstm", "fast-only")])
        (folder / "cells").write_text("x")


@pytest.mark.parametrize(
    "kind",
    ["nothing in it", "a file", "a FIFO for run.json", "a folder for run.json", "another program's run.json"],
)
def test_foreign_folder_is_refused(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, good = tmp_path / "foreign", make_run(tmp_path / "run", models=("lstm",)).path
    foreign(kind, folder)
    for words in (
        ("report", folder),
        ("trace", folder, "x"),
        ("results", "export", folder),
        ("compare", good, folder),
        ("gate", "--run", good, "--baseline", folder),
        ("baseline", "save", "main", folder, "--store", tmp_path / "store"),
    ):
        assert main._run([str(word) for word in words], debug=False) == ExitCode.USAGE
        out, err = capsys.readouterr()
        assert str(folder) in err.splitlines()[0]
        assert len(err.splitlines()) == 2
        assert out == ""
    assert not (tmp_path / "store").exists()


def test_file_in_place_of_the_cells_is_a_run_without_repeats(tmp_path: Path) -> None:
    foreign("a file for cells", tmp_path / "run")
    assert [cell.repeats for cell in Run.load(tmp_path / "run").cells] == [[]]


# Several processes

WRITER = """
import sys
from pathlib import Path
from testbed.common.errors import UsageError
from tests.fakes.run_records import add, cell_of, steps_of
cell, refused = cell_of("lstm", "fast-only"), 0
for repeat in range(20):
    try:
        add(Path(sys.argv[1]), cell, repeat, steps_of(cell, seed=repeat))
    except UsageError:
        refused += 1
print(refused)
"""


def writer(root: Path) -> subprocess.Popen[str]:
    """A process that writes twenty repeats, and prints how many it found finished."""
    words = [sys.executable, "-c", WRITER, str(root)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)


def test_run_is_read_while_two_processes_write_it(tmp_path: Path) -> None:
    """Each repeat is stored once and complete, and no reader sees a part of one."""
    fast = cell_of("lstm", "fast-only")
    begin(tmp_path / "run", [fast])
    writers = [writer(tmp_path / "run") for _ in range(2)]
    counts = [0]
    while any(process.poll() is None for process in writers):
        run = Run.load(tmp_path / "run")
        assert run.warnings == []
        counts.append(len(run.cells[0].repeats))
    assert counts == sorted(counts)
    assert sum(int(process.communicate()[0]) for process in writers) == 20
    run = Run.load(tmp_path / "run")
    assert run.warnings == []
    assert [repeat.steps for repeat in run.cells[0].repeats] == [steps_of(fast, seed=n) for n in range(20)]
