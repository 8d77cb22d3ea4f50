# SPDX-License-Identifier: Apache-2.0
"""Records are written completely or not at all, and read with clear errors."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from results import losses, writer
from results.frames import of_runs
from results.labels import Axes
from results.records import VERDICTS, Result, Step, Throttle, verdict_of
from results.runs import Run, finished, read_info
from results.writer import write_repeat, write_run
from testbed.common import errors
from tests.fakes.run_records import add, begin, cell_of, fail, make_run, ok, provenance_of, steps_of

CELL = cell_of("resnet20", "fast-only")


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    begin(tmp_path / "run", [CELL])
    return tmp_path / "run"


def test_repeat_is_read_as_written(run_dir: Path) -> None:
    steps = steps_of(CELL)
    folder = add(run_dir, CELL, 7, steps)
    assert folder == run_dir / "cells" / CELL["id"] / "007"
    assert {path.name for path in folder.iterdir()} == {
        "cell.json", "result.json", "steps.jsonl", "provenance.json", "console.log"
    }  # fmt: skip
    (cell,) = Run.load(run_dir).cells
    (repeat,) = cell.repeats
    assert (repeat.number, repeat.attempt, repeat.steps, repeat.cell) == (7, None, steps, CELL)
    assert repeat.provenance == provenance_of(CELL)
    assert cell.resolved == CELL
    assert finished(run_dir, CELL["id"]) == {7}


def test_finished_repeat_is_never_replaced(run_dir: Path) -> None:
    add(run_dir, CELL, 0, steps_of(CELL))
    with pytest.raises(errors.UsageError, match="already exists"):
        add(run_dir, CELL, 0, steps_of(CELL, seed=9))
    assert Run.load(run_dir).cells[0].repeats[0].steps == steps_of(CELL)


def test_failed_attempts_are_kept_and_the_repeat_can_finish(run_dir: Path) -> None:
    names = [fail(run_dir, CELL, 0).name for _ in range(11)]
    assert names == [f"000.failed-{n}" for n in range(1, 12)]
    assert finished(run_dir, CELL["id"]) == set()
    add(run_dir, CELL, 0, steps_of(CELL))
    (cell,) = Run.load(run_dir).cells
    assert [failure.attempt for failure in cell.failures] == list(range(1, 12))
    assert len(cell.repeats) == 1


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), KeyboardInterrupt()])
@pytest.mark.parametrize("after", range(5))
def test_interrupted_write_leaves_nothing_visible(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, after: int, error: BaseException
) -> None:
    put, calls = writer._put, 0

    def stop(path: Path, value: str | bytes | Path) -> None:
        nonlocal calls
        if calls == after:
            raise error
        calls += 1
        put(path, value)

    monkeypatch.setattr(writer, "_put", stop)
    with pytest.raises(type(error)):
        add(run_dir, CELL, 0, steps_of(CELL))
    folder = run_dir / "cells" / CELL["id"]
    assert [path.name for path in folder.iterdir()] == [".000.lock"]
    assert Run.load(run_dir).cells[0].repeats == []


def test_killed_write_leaves_nothing_visible_and_is_cleaned_up(run_dir: Path) -> None:
    script = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from results import writer
from tests.fakes.run_records import add, cell_of, steps_of
put = writer._put
def die(path, value):
    put(path, value)
    if path.name == "steps.jsonl":
        os.kill(os.getpid(), 9)
writer._put = die
cell = cell_of("resnet20", "fast-only")
add(Path({str(run_dir)!r}), cell, 0, steps_of(cell))
"""
    killed = subprocess.run([sys.executable, "-c", script], check=False, cwd=Path(__file__).parents[2])
    assert killed.returncode == -9
    folder = run_dir / "cells" / CELL["id"]
    assert len(list(folder.glob(".000.tmp-*"))) == 1
    run = Run.load(run_dir)
    assert (run.cells[0].repeats, run.warnings, finished(run_dir, CELL["id"])) == ([], [], set())
    add(run_dir, CELL, 0, steps_of(CELL))
    assert not list(folder.glob(".000.tmp-*"))
    assert len(Run.load(run_dir).cells[0].repeats) == 1


def test_extra_files_are_stored(run_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"\x00\xff")
    steps = steps_of(CELL)
    folder = write_repeat(
        run_dir, CELL["id"], 0, cell=CELL, result=ok(steps), steps=steps, provenance=provenance_of(CELL),
        extra={"console.log": tmp_path / "log", "counters.jsonl": "{}\n"},
    )  # fmt: skip
    assert (folder / "console.log").read_bytes() == b"\x00\xff"
    assert (folder / "counters.jsonl").read_text() == "{}\n"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cell": {**CELL, "id": "other"}}, "is not"),
        ({"cell_id": "../up"}, "not a valid cell id"),
        ({"repeat": 1000}, "0..999"),
        ({"result": Result(status="ok", steps=3, real_seconds=1)}, "the result has 3 steps"),
        ({"extra": {"result.json": ""}}, "reserved file name"),
        ({"extra": {"a/b": ""}}, "plain file name"),
    ],
)
def test_contradictory_arguments_are_refused(run_dir: Path, change: dict[str, object], message: str) -> None:
    steps = steps_of(CELL)
    arguments = {
        "cell_id": CELL["id"], "repeat": 0, "cell": CELL, "result": ok(steps), "steps": steps,
        "provenance": provenance_of(CELL), **change,
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        write_repeat(run_dir, **arguments)
    assert not (run_dir / "cells").exists()


def test_second_run_in_a_folder_is_refused(run_dir: Path) -> None:
    with pytest.raises(errors.UsageError, match="already contains a run"):
        write_run(run_dir, read_info(run_dir))


@given(st.floats())
def test_losses_are_stored_bit_for_bit(loss: float) -> None:
    step = Step(step=0, warmup=False, guest_ns=1, loss=loss.hex())
    assert Step.model_validate_json(step.model_dump_json()).loss == loss.hex()


def test_steps_without_a_loss_are_not_compared(run_dir: Path) -> None:
    steps = [step.model_copy(update={"loss": None, "kind": "a1b2"}) for step in steps_of(CELL)]
    for repeat in range(2):
        add(run_dir, CELL, repeat, steps)
    run = Run.load(run_dir)
    assert {(s.loss, s.kind) for s in run.cells[0].repeats[1].steps} == {(None, "a1b2")}
    (check,) = losses.check_cells(run.cells, Axes())
    assert check.outcome == "not compared"
    assert of_runs([run]).steps["loss"].isna().all()


@pytest.mark.parametrize(
    ("names", "kinds"),
    [(["plan-a1.json.gz", "plan-b2.json.gz"], ["a1", "b2"]), (["plan.json.gz"], [""]), ([], [])],
    ids=["by kind", "before format 4", "none"],
)
def test_plans_are_found_by_kind(run_dir: Path, names: list[str], kinds: list[str]) -> None:
    folder = add(run_dir, CELL, 0, steps_of(CELL))
    for name in names:
        (folder / name).write_text("plan")
    plans = Run.load(run_dir).cells[0].repeats[0].plans
    assert (list(plans), [path.name for path in plans.values()]) == (kinds, names)


@pytest.mark.parametrize("loss", ["", "0x1p99999", "abcx"])
def test_invalid_loss_is_refused(loss: str) -> None:
    with pytest.raises(ValidationError):
        Step(step=0, warmup=False, guest_ns=1, loss=loss)


def test_status_and_verdict_must_agree() -> None:
    with pytest.raises(ValidationError, match="contradicts"):
        Result(status="failed", steps=0, real_seconds=0)
    with pytest.raises(ValidationError, match="contradicts"):
        Result(status="ok", verdict="boot", steps=0, real_seconds=0)


def test_every_expected_error_has_its_verdict() -> None:
    kinds = (
        errors.UsageError, errors.BuildError, errors.BootError, errors.GuestPanicError,
        errors.GuestHangError, errors.WorkloadError, errors.LostConnectionError, errors.InfrastructureError,
    )  # fmt: skip
    assert tuple(verdict_of(kind("x")) for kind in kinds) == VERDICTS


@pytest.mark.parametrize(
    ("method", "alike", "slow"),
    [("none", True, False), ("none", False, False), ("x", True, False), ("x", False, True)],
)
def test_memory_is_slow_if_throttled_and_nodes_differ(method: str, alike: bool, slow: bool) -> None:
    assert Throttle(method=method, nodes_alike=alike).is_slow is slow


# Damaged records


def edit(path: Path, change: Callable[[dict[str, object]], object]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: p.unlink(), "not a run: no run.json"),
        (lambda p: p.write_text("{"), "run.json: damaged: not JSON"),
        (lambda p: p.write_bytes(b"\xff\xfe"), "run.json: damaged: not text"),
        (lambda p: p.write_text("[]"), "run.json: damaged: not a mapping"),
        (
            lambda p: edit(p, lambda v: v.update(format=2)),
            "run.json: format 2 is newer than this program supports",
        ),
        (lambda p: edit(p, lambda v: v.pop("format")), "run.json: damaged: no format version"),
        (lambda p: edit(p, lambda v: v.pop("suite")), "run.json: damaged: suite: Field required"),
        (lambda p: edit(p, lambda v: v.update(cells=["../x"])), "run.json: damaged: cells.0"),
    ],
)
def test_invalid_run_is_one_line_with_a_hint(
    run_dir: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(run_dir / "run.json")
    with pytest.raises(errors.UsageError) as caught:
        Run.load(run_dir)
    assert message in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.hint


def test_missing_folder_is_reported(tmp_path: Path) -> None:
    with pytest.raises(errors.UsageError, match="no such folder"):
        Run.load(tmp_path / "nothing")


def cut_last_line(path: Path) -> None:
    path.write_text(path.read_text()[:-20])


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("result.json", lambda p: p.unlink(), "result.json: missing"),
        ("result.json", lambda p: p.write_text(""), "result.json: damaged: not JSON"),
        ("result.json", lambda p: edit(p, lambda v: v.update(format=9)), "format 9 is newer"),
        ("result.json", lambda p: edit(p, lambda v: v.update(steps=3)), "8 steps, but result.json says 3"),
        (
            "result.json",
            lambda p: edit(p, lambda v: v.update(status="failed", verdict="boot")),
            "'failed'",
        ),
        ("result.json", lambda p: edit(p, lambda v: v.update(extra=1)), "extra: Extra inputs"),
        ("cell.json", lambda p: edit(p, lambda v: v.update(id="x")), "belongs to cell 'x'"),
        ("steps.jsonl", cut_last_line, "steps.jsonl:8: damaged"),
        ("steps.jsonl", lambda p: p.write_text("\n".join(reversed(p.read_text().split()))), "do not ascend"),
        ("provenance.json", lambda p: edit(p, lambda v: v.pop("throttle")), "throttle: Field required"),
    ],
)
def test_damaged_repeat_is_skipped_with_a_warning(
    tmp_path: Path, name: str, damage: Callable[[Path], None], message: str
) -> None:
    root = tmp_path / "run"
    (cell,) = make_run(root, models=("resnet20",), placements=("fast-only",)).cells
    damage(root / "cells" / cell.id / "001" / name)
    run = Run.load(root)
    assert [repeat.number for repeat in run.cells[0].repeats] == [0, 2]
    (warning,) = run.warnings
    assert message in warning
    assert "/001/" in warning
    assert "\n" not in warning


def test_run_in_progress_is_read(run_dir: Path) -> None:
    run = Run.load(run_dir)  # without cells/
    assert (run.cells[0].repeats, run.cells[0].resolved) == ([], {"id": CELL["id"]})
    (run_dir / "cells" / CELL["id"] / ".000.tmp-abc").mkdir(parents=True)
    assert Run.load(run_dir).warnings == []


def test_records_before_format_3_are_read_with_renamed_policies(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", models=("lstm",), placements=("fast-only", "sentinel"))
    for path in run.path.glob("cells/*/*/result.json"):
        edit(path, lambda value: value.update(format=2))
    names = [cell.resolved["placement"] for cell in Run.load(run.path).cells]
    assert names == ["fast-only", "sentinel-opt"]


def test_unexpected_folders_are_skipped_with_a_warning(run_dir: Path) -> None:
    (run_dir / "cells" / "other").mkdir(parents=True)
    (run_dir / "cells" / CELL["id"] / "0x1").mkdir(parents=True)
    assert [w.rpartition("/")[2] for w in Run.load(run_dir).warnings] == [
        "other: not a cell of this run; skipped",
        "0x1: not a repeat; skipped",
    ]


def test_synthetic_run_is_complete(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    assert [cell.resolved["placement"] for cell in run.cells] == ["fast-only", "slow-only", "sentinel"] * 2
    assert all(len(cell.repeats) == 3 and not cell.failures for cell in run.cells)
    assert run.warnings == []
