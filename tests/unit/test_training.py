# SPDX-License-Identifier: Apache-2.0
"""`sentinel train`: whose options are whose, what is run and shown, and the exit status."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from experiments import backend, policies, provenance, runner
from experiments.job import ProcessError
from experiments.matrix import Matrix
from results.runs import Run
from sentinel.cli import main, streams
from testbed.common.errors import ExitCode, GuestHangError
from testbed.host import accel
from tests.fakes.backend import FakeBackend

BEFORE = ("--fast-memory", "20%", "--steps", "2")
LINES = ["12 training steps", "8.1 ms planned"]
SUMMARY: dict[str, Any] = {"budget": 3 << 20, "peak": 15 << 20, "text": LINES}


class Lab:
    """Runs `sentinel train` on a fake backend, in a folder with a script."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.out = folder / "run"
        self.backend = FakeBackend(folder, summary=SUMMARY)
        (folder / "data").mkdir()
        (folder / "data" / "a").write_text("1")
        (folder / "train.py").write_text("print('epoch 1')\n")

    def train(self, *words: str) -> int:
        code = main._run(["train", "--out", str(self.out), *words], debug=False)
        self.said, self.shown = self._capsys.readouterr()
        return code

    def stored(self) -> Run:
        run = Run.load(self.out)
        assert run.warnings == []
        return run


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Lab:
    lab = Lab(tmp_path, capsys)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(accel, "qemu_version", lambda _: "QEMU emulator version 7.2.11")
    monkeypatch.setattr(provenance, "revision", lambda digits: "0123456789abcdef")
    monkeypatch.setattr(backend, "VirtualMachines", lambda **_: lab.backend)
    return lab


def test_a_script_is_trained_with_its_output_and_a_summary(lab: Lab) -> None:
    code = lab.train(*BEFORE, "--compare-to", "fast-only", "--file", "data", "train.py", "-v")
    assert code == ExitCode.OK
    assert lab.said == "epoch 1\n"
    for text in (*LINES, "fast-only", f"records in {lab.out}"):
        assert text in lab.shown
    managed, fast = lab.stored().cells
    assert managed.resolved["placement"] == {"policy": "sentinel-opt", "online": True}
    assert managed.resolved["model"]["args"] == ["-v"]
    assert fast.resolved["placement"] == "fast-only"
    repeat = managed.repeats[0]
    words = "--fast-memory 20% --steps 2 --compare-to fast-only --file data train.py -v"
    assert repeat.provenance.command == f"sentinel train --out {lab.out} {words}"
    assert json.loads((repeat.path / "summary.json").read_text()) == SUMMARY
    assert (repeat.path / "output.log").read_text() == "epoch 1\n"
    assert (lab.out / "report.html").exists()
    assert lab.backend.profiled_snapshots == []
    (work,) = lab.backend.works  # both start from one snapshot
    assert work.script is not None
    assert sorted(work.script.files.paths) == ["data/a", "train.py"]
    assert lab.train(*BEFORE, "--compare-to", "fast-only", "--file", "data", "train.py", "-v") == ExitCode.OK
    assert LINES[1] in lab.shown
    assert len(lab.backend.orders) == 2, "the run was repeated"


@pytest.mark.parametrize(
    ("words", "args", "steps"),
    [
        (("--fast-memory", "20%", "train.py", "--steps", "3", "--fast-memory", "x"), None, None),
        (("--fast-memory=20%", "train.py", "-x", "--", "--steps", "3"), ["-x", "--", "--steps", "3"], None),
        (("--fast-memory", "20%", "--steps", "4", "train.py", "a b", "-h"), ["a b", "-h"], 4),
        (("train.py", "--fast-memory", "20%", "--step-op", "a/b"), [], None),
        (
            ("train.py", "--epochs", "2", "--fast-memory", "20%", "--steps", "3", "x"),
            ["--epochs", "2", "x"],
            3,
        ),
        (("train.py", "--fast-memory", "20%", "--steps", "3", "--", "--steps", "5"), ["--steps", "5"], 3),
        (("--steps", "7", "train.py", "--lr=0.1", "--fast-memory", "20%"), ["--lr=0.1"], 7),
    ],
)
def test_options_behind_the_script_are_its_own_if_the_budget_precedes_it(
    lab: Lab,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    args: list[str] | None,
    steps: int | None,
) -> None:
    matrices: list[Matrix] = []

    def run(matrix: Matrix, *_: Any, **__: Any) -> None:
        matrices.append(matrix)
        raise GuestHangError("enough")

    monkeypatch.setattr(runner, "run", run)
    assert lab.train(*words) == ExitCode.HANG
    cell = matrices[0].cells[0]
    behind = list(words[words.index("train.py") + 1 :]) if args is None else args
    assert cell.resolved["model"]["args"] == behind
    assert cell.resolved["fast_memory"] == "20%"
    assert cell.resolved["steps"] == steps
    assert (cell.resolved["warmup"], cell.resolved["seed"], cell.resolved["threads"]) == (2, 7, 1)
    assert matrices[0].preset is not None
    assert cell.resolved["model"].get("step_ops") == (["a/b"] if "--step-op" in words else None)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--fast-memory", "20", "train.py"), "--fast-memory: must be a share of the model's peak"),
        ((*BEFORE, "no.py"), "SCRIPT: no.py: no such file"),
        ((*BEFORE, "--file", "no", "train.py"), "--file: no: no such file"),
        ((*BEFORE, "--file", "/", "train.py"), "--file: /: must be in the script's folder"),
        (
            (*BEFORE, "--compare-to", "fastest", "train.py"),
            f"--compare-to: must be one of {policies.names()[0]}, ",
        ),
        ((*BEFORE, "--compare-to", "sentinel-opt", "train.py"), "--compare-to: duplicate value"),
        ((*BEFORE, "--preset", "none", "train.py"), "--preset: unknown preset 'none'"),
        ((*BEFORE, "--machine", "none", "train.py"), "--machine: unknown machine 'none'"),
        ((*BEFORE, "--kernel", "3", "train.py"), "--kernel: must be one of auto, "),
        ((*BEFORE, "--threads", "3", "train.py"), "--threads: the machine has 2 CPUs"),
        (("train.py",), "Missing option '--fast-memory'"),
        (("--epochs", "2", "train.py", "--fast-memory", "20%"), "No such option '--epochs'"),
    ],
)
def test_a_mistake_starts_nothing(lab: Lab, words: tuple[str, ...], message: str) -> None:
    assert lab.train(*words) == ExitCode.USAGE
    assert message in " ".join(lab.shown.split())
    assert not lab.out.exists()


def test_the_exit_status_is_the_scripts(lab: Lab) -> None:
    lab.backend.failures[0] = ProcessError("the training process failed with exit status 3", status=3)
    assert lab.train(*BEFORE, "--compare-to", "fast-only", "train.py") == 3
    assert "failed with exit status 3" in lab.shown
    assert len(lab.backend.orders) == 1, "the comparison ran"
    (failed,) = lab.stored().cells[0].failures
    assert (failed.path / "output.log").read_text() == "epoch 1\n"


def test_a_script_that_ends_early_shows_its_output(lab: Lab) -> None:
    lab.backend.snapshot_failure = ProcessError("it exited", status=1, output="Traceback\nNameError: x\n")
    assert lab.train(*BEFORE, "train.py") == 1
    assert lab.said == "Traceback\nNameError: x\n"


def test_a_failure_of_the_machine_has_its_own_exit_status(lab: Lab) -> None:
    lab.backend.failures[1] = GuestHangError("no progress")
    assert lab.train(*BEFORE, "--compare-to", "fast-only", "train.py") == ExitCode.HANG
    assert lab.said == "epoch 1\n"


def test_a_reader_that_exits_ends_the_training(lab: Lab) -> None:
    lab.backend.failures[0] = streams.UnreadError()
    assert lab.train(*BEFORE, "train.py") == ExitCode.UNREAD
    assert not list(lab.out.glob("cells/*/[0-9]*"))
