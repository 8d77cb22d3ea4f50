# SPDX-License-Identifier: Apache-2.0
"""Gates sum up a comparison in one outcome, by step times or by counters."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from lxml import etree

from results import counters, gate, gate_report, measured
from results.compare import compare
from results.runs import Run
from results.sides import Side
from sentinel.cli.main import main
from tests.fakes.run_records import add, begin, cell_of, steps_of
from tests.fakes.sides import measured as measured_of
from tests.fakes.sides import measured_cell, side

FAST, SLOW, NOISY = [1.0, 1.001, 0.999], [1.1, 1.101, 1.099], [1.0, 1.05, 0.95]
COUNTS = {"misses": 100_000.0, "node1_misses": 20_000.0, "migrated_pages": 500.0, "page_faults": 12.0}


def times(*pairs: tuple[list[float], list[float]]) -> gate.Outcome:
    a, b = (
        side(*(measured_cell(pair[i], f"cnn{n}") for n, pair in enumerate(pairs) if pair[i])) for i in (0, 1)
    )
    return gate.of_times(compare(a, b))


@pytest.mark.parametrize(
    ("pairs", "outcome"),
    [
        ([(FAST, FAST), (FAST, FAST)], "same"),
        ([(FAST, FAST), (FAST, SLOW)], "regression"),
        ([(FAST, FAST), (SLOW, FAST)], "improvement"),
        ([(SLOW, FAST), (FAST, SLOW)], "regression"),
        ([(SLOW, FAST), (NOISY, NOISY)], "inconclusive"),
        ([(FAST, SLOW), (NOISY, NOISY)], "regression"),
        ([(FAST, FAST), (FAST, [])], "not comparable"),
        ([], "not comparable"),
    ],
)
def test_worst_cell_decides(pairs: list[tuple[list[float], list[float]]], outcome: str) -> None:
    assert times(*pairs) == outcome


def counted(**changes: float) -> Side:
    return side(measured_cell([1.0, 1.0], counters=[COUNTS | changes, COUNTS | changes]))


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({}, "same"),
        ({"misses": 101_000.0}, "same"),
        ({"misses": 103_000.0}, "regression"),
        ({"node1_misses": 18_000.0}, "improvement"),
        ({"migrated_pages": 504.0}, "same"),
        ({"migrated_pages": 510.0}, "regression"),
        ({"page_faults": 20.0}, "same"),
        ({"page_faults": 80.0}, "regression"),
        ({"node1_misses": 18_000.0, "page_faults": 80.0}, "regression"),
    ],
)
def test_counters_have_near_exact_bounds(changes: dict[str, float], outcome: str) -> None:
    found, rows, reasons = gate.of_counters(compare(counted(), counted(**changes)))
    assert (found, len(rows), reasons) == (outcome, len(COUNTS), [])


def test_counters_need_no_equal_clocks_but_equal_losses() -> None:
    a = counted()
    b = side(measured_cell([1.0], clock="guest", counters=[COUNTS]), cpu="Xeon", calibration="missing")
    assert gate.of_counters(compare(a, b))[0] == "same"
    b = side(measured_cell([1.0], loss=3.0, counters=[COUNTS]))
    outcome, rows, (reason,) = gate.of_counters(compare(a, b))
    assert (outcome, rows) == ("not comparable", [])
    assert "the losses differ" in reason


def test_records_without_counters_are_not_comparable() -> None:
    outcome, _, reasons = gate.of_counters(compare(counted(), side(measured_cell([1.0]))))
    assert (outcome, reasons) == ("not comparable", ["cnn b8, sentinel: no common counters"])


def test_counter_reports_are_valid() -> None:
    _, rows, reasons = gate.of_counters(compare(counted(), counted(migrated_pages=600.0)))
    text = gate_report.markdown(rows, reasons)
    assert "| cnn b8, sentinel | migrated\\_pages | 500 | 600 | more |" in text
    (suite,) = etree.fromstring(gate_report.junit(rows, ["<odd>"], suite="s").encode())
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("5", "1", "1")
    assert {row["change"] for row in gate_report.to_list(rows)} == {"same", "more"}


def test_counters_of_a_repeat_are_means_over_measured_steps(tmp_path: Path) -> None:
    """Two steps of 100 and 300 misses follow a warm-up of 1000; node 1 serves a tenth."""
    cell = cell_of("lstm", "fast-only")
    begin(tmp_path / "run", [cell])
    folder = add(tmp_path / "run", cell, 0, steps_of(cell, count=4)[1:])
    lines, total = [], 0
    for misses in (1000, 100, 300):
        for marker, growth in ((3, 50), (4, misses)):  # what happens between steps does not count
            total += growth
            cpu = {"misses": [total * 9 // 10, total // 10], "read": [total * 64, 0], "written": [0, total]}
            lines.append(json.dumps({"marker": marker, "vcpus": [cpu]}))
    (folder / "counters.jsonl").write_text("\n".join(lines) + "\n")
    repeat = Run.load(tmp_path / "run").cells[0].repeats[0]
    counts = counters.per_step(repeat)
    assert counts["misses"] == pytest.approx(200, abs=2)
    assert counts["node1_misses"] == pytest.approx(20, abs=1)
    assert counts["bytes"] == 200 * 65
    assert counts["migrated_pages"] == 0
    (folder / "counters.jsonl").write_text("\n".join(lines[:5]) + '\n{"marker": 4, "vc')
    assert counters.per_step(repeat).keys() == {"migrated_pages", "page_faults"}


def test_counters_of_the_kernel_that_do_not_grow_are_zero(tmp_path: Path) -> None:
    """Records hold those that grew: a step without migrations and faults has none."""
    cell = cell_of("lstm", "fast-only")
    begin(tmp_path / "run", [cell])
    steps = [step.model_copy(update={"vmstat": {}}) for step in steps_of(cell)]
    add(tmp_path / "run", cell, 0, [steps[0].model_copy(update={"vmstat": {"pgfault": 7}}), *steps[1:]])
    add(tmp_path / "run", cell, 1, steps)
    counted, unknown = Run.load(tmp_path / "run").cells[0].repeats
    assert counters.per_step(counted) == {"migrated_pages": 0.0, "page_faults": 0.0}
    assert counters.per_step(unknown) == {}


def test_migrated_bytes_are_those_of_the_runtime(planned: Run) -> None:
    counts = [counters.per_step(cell.repeats[0]) for cell in planned.cells if cell.repeats[0].plans]
    assert counts
    for found in counts:  # a planned step promotes a MiB and demotes two
        assert (found["promoted_bytes"], found["demoted_bytes"]) == (1 << 20, 2 << 20)


def run_gate(tmp_path: Path, *words: str) -> int:
    with pytest.raises(SystemExit) as e:
        main(["gate", "--store", str(tmp_path / "store"), "--baseline", "main", *words])
    assert isinstance(e.value.code, int)
    return e.value.code


def test_command_exits_with_the_code_of_its_outcome(tmp_path: Path) -> None:
    measured.write(tmp_path / "store" / "main" / "1.json", measured_of(measured_cell(FAST)))
    measured.write(tmp_path / "store" / "slow" / "1.json", measured_of(measured_cell(SLOW)))
    measured.write(tmp_path / "store" / "noisy" / "1.json", measured_of(measured_cell(NOISY)))
    measured.write(tmp_path / "store" / "kvm" / "1.json", measured_of(measured_cell(FAST), accelerator="kvm"))
    assert run_gate(tmp_path, "--run", "main") == 0
    assert run_gate(tmp_path, "--run", "slow") == 10
    assert run_gate(tmp_path, "--run", "slow", "--baseline", "slow") == 0
    assert run_gate(tmp_path, "--run", "main", "--baseline", "slow") == 11
    assert run_gate(tmp_path, "--run", "main", "--baseline", "slow", "--accept", "improvement") == 0
    assert run_gate(tmp_path, "--run", "noisy") == 12
    assert run_gate(tmp_path, "--run", "kvm") == 13
    assert run_gate(tmp_path, "--run", "kvm", "--across", "accelerator") == 0
    assert run_gate(tmp_path, "--run", "main", "--counters") == 13
    assert run_gate(tmp_path) == 2
    assert run_gate(tmp_path, "--run", "nowhere") == 2


def test_command_writes_files_for_ci(tmp_path: Path) -> None:
    measured.write(tmp_path / "store" / "main" / "1.json", measured_of(measured_cell(FAST)))
    measured.write(tmp_path / "store" / "slow" / "1.json", measured_of(measured_cell(SLOW)))
    (tmp_path / "summary.md").write_text("before\n")
    files = ("--summary", str(tmp_path / "summary.md"), "--junit", str(tmp_path / "gate.xml"))
    assert run_gate(tmp_path, "--run", "slow", *files) == 10
    assert (tmp_path / "summary.md").read_text().startswith("before\n## Gate: regression\n\n**B is slower")
    (suite,) = etree.parse(tmp_path / "gate.xml").getroot()
    assert (suite.get("name"), suite.get("failures")) == ("sentinel gate", "1")
