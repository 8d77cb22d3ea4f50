# SPDX-License-Identifier: Apache-2.0
"""Every reader of records against every kind of damage.

Whatever a record holds: a reader ends with a documented code and one clear line, what it writes is valid, the
other repeats are kept, and no record is changed.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import pytest

import results
from results import compare, compare_report, export, frames, gate, labels, losses, report, store, trace
from results.runs import Run
from results.sides import Side
from sentinel.cli import main
from testbed.common.errors import ExitCode, UsageError
from tests.fakes.damage import HTML, HUGE, Damage, digests, put, record, strict_json, well_formed, without
from tests.fakes.profiles import LAYERS, MEGA, small, variable, written_then_read
from tests.fakes.run_records import make_run

STEP, RESULT, CELL = "steps.jsonl", "result.json", "cell.json"
ORIGIN, RUN = "provenance.json", "run.json"
DAMAGES = {
    "truncated last line": Damage(STEP, lambda text: text[:-40], "steps.jsonl:8: damaged", "repeat"),
    "lost last line": Damage(
        STEP, lambda t: t[: t.rstrip().rindex("\n") + 1], "7 steps, but result", "repeat"
    ),
    "empty steps": Damage(STEP, lambda _: "", "0 steps, but result.json says 8", "repeat"),
    "truncated result": Damage(RESULT, lambda text: text[:30], "result.json: damaged: not JSON", "repeat"),
    "truncated cell": Damage(CELL, lambda text: text[:30], "cell.json: damaged: not JSON", "repeat"),
    "truncated provenance": Damage(ORIGIN, lambda text: text[:30], "provenance.json: damaged", "repeat"),
    "truncated run": Damage(RUN, lambda text: text[:30], "run.json: damaged: not JSON", "run"),
    "not text": Damage(CELL, lambda text: text + "\udcff", "cell.json: damaged: not text", "repeat"),
    "deep nesting": Damage(CELL, lambda _: "[" * 100_000, "cell.json: damaged: not JSON", "repeat"),
    # Missing fields
    "step without time": record(STEP, without("guest_ns"), "guest_ns: Field required", "repeat"),
    "step without number": record(STEP, without("step"), "step: Field required", "repeat"),
    "step without residency": record(STEP, without("residency")),
    "result without status": record(RESULT, without("status"), "status: Field required", "repeat"),
    "origin without command": record(ORIGIN, without("command"), "command: Field required", "repeat"),
    "origin without host": record(ORIGIN, without("host")),
    "cell without id": record(CELL, without("id"), "belongs to cell None", "repeat"),
    "cell without model": record(CELL, without("model"), "differs from the cell's other repeats"),
    "run without cells": record(RUN, without("cells"), "run.json: damaged: cells: Field required", "run"),
    # Not numbers
    "time NaN": record(STEP, put("guest_ns")(float("nan")), "steps.jsonl:8: damaged: not JSON", "repeat"),
    "loss NaN": record(STEP, put("loss")("nan"), "losses differ"),
    "loss infinite": record(STEP, put("loss")("inf"), "losses differ"),
    "counter NaN": record(STEP, put("vmstat", "pgfault")(float("nan")), "damaged: not JSON", "repeat"),
    "statistics NaN": record(STEP, put("runtime", "total", "promoted")(float("nan")), "not JSON", "repeat"),
    "real time NaN": record(
        RESULT, put("real_seconds")(float("nan")), "result.json: damaged: not JSON", "repeat"
    ),
    "latency NaN": record(ORIGIN, put("throttle", "latency_ns")({"0": float("inf")}), "not JSON", "repeat"),
    "parameter NaN": record(
        CELL, put("model", "rate")(float("nan")), "cell.json: damaged: not JSON", "repeat"
    ),
    "text for a number": record(STEP, put("guest_ns")("fast"), "guest_ns", "repeat"),
    "null for a number": record(STEP, put("guest_ns")(None), "guest_ns", "repeat"),
    # Negative
    "time negative": record(STEP, put("model_ns")(-5), "model_ns", "repeat"),
    "time zero": record(STEP, put("guest_ns")(0), "guest_ns", "repeat"),
    "bytes negative": record(STEP, put("residency", "anon", "0")(-1), "residency.anon.0", "repeat"),
    "counter negative": record(STEP, put("vmstat", "pgfault")(-1_000_000)),
    "statistics negative": record(STEP, put("runtime", "total", "promoted")(-5)),
    "tensors negative": record(STEP, put("runtime", "pools", "reserved", "resident")([-5, -5])),
    "budget negative": record(ORIGIN, put("fast_memory")({"budget_bytes": -1}), "budget_bytes", "repeat"),
    "real time negative": record(RESULT, put("real_seconds")(-1.0), "real_seconds", "repeat"),
    # Huge
    "time huge": record(STEP, put("model_ns")(HUGE), "model_ns", "repeat"),
    "guest time huge": record(STEP, put("guest_ns")(2**70), "guest_ns", "repeat"),
    "step number huge": record(STEP, put("step")(HUGE), "step", "repeat"),
    "bytes huge": record(STEP, put("residency", "anon", "0")(HUGE), "residency.anon.0", "repeat"),
    "counter huge": record(STEP, put("vmstat", "pgfault")(HUGE), "vmstat.pgfault", "repeat"),
    "statistics huge": record(STEP, put("runtime", "total", "promoted")(HUGE)),
    "tensors huge": record(STEP, put("runtime", "pools", "reserved", "resident")([HUGE, 0])),
    "budget huge": record(ORIGIN, put("fast_memory")({"budget_bytes": HUGE}), "budget_bytes", "repeat"),
    "digits": Damage(STEP, lambda text: text.replace('"step":7', f'"step":{"9" * 5000}'), STEP, "repeat"),
    "loss huge": record(STEP, put("loss")("0x1p+99999"), "float.hex", "repeat"),
    "real time huge": record(RESULT, put("real_seconds")(1e308)),
    "calibration huge": record(
        ORIGIN,
        put("throttle", "calibration")(
            {"good": True, "figures": {"read": {"expected": 1, "measured": HUGE, "unit": "ns"}}}
        ),
    ),
    # Duplicates
    "cell twice": record(RUN, lambda data: data["cells"].append(data["cells"][0])),
    "step twice": Damage(STEP, lambda t: t + t[t.rstrip().rindex("\n") + 1 :], "9 steps, but", "repeat"),
    "step number twice": record(STEP, put("step")(6), "step numbers do not ascend", "repeat"),
    "id of another cell": record(CELL, put("id")("ffff"), "belongs to cell 'ffff'", "repeat"),
    # Versions
    "newer run": record(RUN, put("format")(99), "format 99 is newer", "run"),
    "newer result": record(RESULT, put("format")(99), "format 99 is newer", "repeat"),
    "format is text": record(RESULT, put("format")("4"), "no format version", "repeat"),
    "format is true": record(RESULT, put("format")(True), "no format version", "repeat"),
    "format is zero": record(RESULT, put("format")(0), "no format version", "repeat"),
    "unknown key": record(STEP, put("surprise")(1), "surprise: Extra inputs", "repeat"),
    # Markup and control characters in names
    "markup in suite": record(RUN, put("suite")(HTML)),
    "markup in model": record(CELL, put("model", "name")(HTML), everywhere=True),
    "markup in policy": record(CELL, put("placement")(HTML), everywhere=True),
    "markup in commit": record(ORIGIN, put("git_commit")(HTML)),
    "markup in command": record(ORIGIN, put("command")(HTML)),
    "markup in kernel": record(ORIGIN, put("kernel")({HTML: HTML, "version": HTML})),
    "markup in kind": record(STEP, put("kind")(HTML)),
    "markup in counter": record(STEP, put("vmstat", HTML)(1)),
    "markup in calibration": record(
        ORIGIN,
        put("throttle", "calibration")(
            {"good": True, "mode": HTML, "figures": {HTML: {"expected": 1, "measured": 1, "unit": HTML}}}
        ),
    ),
    "words for mappings": record(ORIGIN, put("kernel")("4.9"), "kernel", "repeat"),
}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose cells have statistics of tensors and, with `sentinel`, a plan."""
    tensors = [written_then_read(0, 3), written_then_read(1, 6), written_then_read(2, 5), variable(0, 6, n=7)]
    return make_run(
        tmp_path_factory.mktemp("good") / "run",
        models=("lstm",),
        placements=("fast-only", "sentinel"),
        fast_memory=("60%",),
        profile=small(LAYERS, MEGA, tensors),
    ).path


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damage_is_one_line_and_the_other_repeats_are_kept(
    damage: Damage, good: Path, tmp_path: Path
) -> None:
    root = shutil.copytree(good, tmp_path / "run")
    damage.apply(root)
    before = digests(root)
    if damage.lost == "run":
        with pytest.raises(UsageError, match=damage.line) as caught:
            Run.load(root)
        assert "\n" not in caught.value.message
        assert caught.value.hint
        return
    run, whole = Run.load(root), Run.load(good)
    skipped = [line for line in run.warnings if line.endswith("; repeat skipped")]
    assert len(skipped) == (1 if damage.lost else 0)
    checks = losses.check_cells(run.cells, labels.Axes())
    said = [*run.warnings, *(f"losses {check.outcome}" for check in checks)]
    assert damage.line in " ".join(said)
    assert not any("\n" in line for line in said)
    repeats = 5 if damage.lost else 6
    tables = frames.of_runs([run])
    assert (len(tables.repeats), len(tables.steps)) == (repeats, 8 * repeats)
    export.write([run], tmp_path, "parquet")
    assert sum(row["repeats"] for row in report.to_dict(run)["rows"]) == repeats
    for cell in run.cells:
        trace.write(trace.build(run, cell.id), tmp_path / "trace.json")
        strict_json((tmp_path / "trace.json").read_text())
    stored = store.save(tmp_path / "store", "main", run).read()
    assert sum(len(cell.repeats) for cell in stored.cells) == repeats
    for a, b in ((run, whole), (whole, run)):
        comparison = compare.compare(Side.of_runs(a), Side.of_runs(b))
        assert len(comparison.pairs) == 2
        compare_report.table(comparison)
        gate.of_counters(comparison)
    assert digests(root) == before


# Damages that leave all repeats, and at most one that does not, in one run
GROUPS = {
    "missing": ["step without residency", "origin without host", "truncated last line"],
    "no numbers": ["loss NaN", "latency NaN"],
    "negative": ["counter negative", "statistics negative", "tensors negative"],
    "huge": ["statistics huge", "tensors huge", "real time huge", "calibration huge"],
    "versions": ["newer result", "cell twice"],
    "markup": [name for name in DAMAGES if name.startswith("markup")],
}


@pytest.mark.parametrize("names", GROUPS.values(), ids=GROUPS)
def test_commands_read_a_damaged_run(
    names: list[str], good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = shutil.copytree(good, tmp_path / "run")
    for name in names:
        DAMAGES[name].apply(root)
    before = digests(root)
    lines = [DAMAGES[name].line for name in names if DAMAGES[name].lost]
    cell = min((root / "cells").iterdir()).name

    def read(*words: str | Path, codes: Iterable[int] = (0,), says: bool = True) -> str:
        """Return the output of a command, which names the damage."""
        takes_store = words[0] in ("compare", "gate", "history", "aa", "baseline")
        options = ["--store", str(tmp_path / "store")] if takes_store else []
        code = main._run([*map(str, words), *options], debug=False)
        out, err = capsys.readouterr()
        assert code in codes, (words, code, err)
        assert "\x1b" not in out + err
        said = " ".join((out + err).replace("\\", "").split())  # Markdown escapes
        assert not says or all(line in said for line in lines), (words, said)
        return out

    read("report", root, "--html", tmp_path / "page.html")
    well_formed((tmp_path / "page.html").read_text())
    strict_json(read("report", root, "--html", tmp_path / "page.html", "--json"))
    for form in ("table", "json", "junit", "markdown", "html"):
        out = read("compare", good, root, "--format", form, says=form != "junit")
        if form == "json":
            strict_json(out)
        elif form in ("junit", "html"):
            well_formed(out)
    outcomes = (0, *range(ExitCode.REGRESSION, ExitCode.NOT_COMPARABLE + 1))
    for counters in ((), ("--counters",)):
        files = ("--junit", tmp_path / "gate.xml", "--summary", tmp_path / "summary.md")
        read("gate", "--run", good, "--baseline", root, *counters, *files, codes=outcomes)
        well_formed((tmp_path / "gate.xml").read_text())
        strict_json(read("gate", "--run", root, "--baseline", good, *counters, "--json", codes=outcomes))
    read("aa", root, codes=(0, ExitCode.USAGE))
    read("trace", root, cell, "--out", tmp_path / "trace.json")
    read("results", "export", root, "--csv", "--out", tmp_path)
    repeats = 5 if lines else 6
    assert len(pd.read_csv(tmp_path / "steps.csv")) == 8 * repeats
    if lines:
        with pytest.warns(UserWarning, match=lines[0]):
            loaded = results.load(root)
        assert len(loaded.repeats) == repeats
    read("baseline", "save", "main", root)
    read("baseline", "list", says=False)
    read("history", cell, "--plot", tmp_path / "history.svg", says=False)
    well_formed((tmp_path / "history.svg").read_text())
    strict_json(read("history", cell, "--json", says=False))
    read("gate", "--run", good, "--baseline", "main", codes=outcomes, says=False)
    assert digests(root) == before
