# SPDX-License-Identifier: Apache-2.0
"""The program with standard streams that are closed, full, or read by nobody."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from testbed.common.errors import ExitCode

SENTINEL = f"{sys.executable} -m sentinel.cli.main"


def shell(line: str, *, script: str | None = None) -> tuple[int, str]:
    """The program's exit code and what it said on standard error."""
    program = SENTINEL if script is None else f"{sys.executable} -c '{script}'"
    done = subprocess.run(
        ["bash", "-c", line.replace("sentinel", program, 1)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("verb", ["preset list", "--help"])
def test_unwritable_output_is_one_line_and_an_exit_code(verb: str) -> None:
    for redirection, reason in ((">/dev/full", "No space left on device"), (">&-", "Bad file descriptor")):
        code, said = shell(f"sentinel {verb} {redirection}")
        assert (code, said.splitlines()[0]) == (ExitCode.INFRASTRUCTURE, f"error: standard output: {reason}")
        assert len(said.splitlines()) == 2


def test_verb_without_output_needs_no_standard_output() -> None:
    assert shell("sentinel vm down --all >&-") == (ExitCode.OK, "")


@pytest.mark.parametrize("redirection", ["2>/dev/full", ">&- 2>&- <&-"])
def test_exit_code_survives_a_closed_standard_error(redirection: str) -> None:
    for words in ("preset show none", "nonsense", "preset"):  # ours, click's, and the help that click prints
        assert shell(f"sentinel {words} {redirection}") == (ExitCode.USAGE, "")


@pytest.mark.parametrize("redirection", [">&-", ">&- 2>&- <&-"])
def test_opened_file_never_gets_a_standard_descriptor(redirection: str) -> None:
    script = (
        "import os, sys; from sentinel.cli import streams; streams.prepare(); "
        'sys.exit(os.open("/dev/null", os.O_RDONLY) < 3)'
    )
    assert shell(f"sentinel {redirection}", script=script)[0] == 0


@pytest.mark.parametrize(
    ("words", "redirection"),
    [
        ("run experiments/suites/first.yaml --out {}/run", ">&-"),
        ("kernel build", ">/dev/full"),
        ("image build", ">&-"),
        ("calibrate --preset cxl-asic", ">/dev/full"),
    ],
)
def test_long_work_checks_standard_output_first(tmp_path: Path, words: str, redirection: str) -> None:
    code, said = shell(f"sentinel {words.format(tmp_path)} {redirection}")
    assert code == ExitCode.INFRASTRUCTURE
    assert said.splitlines()[0] in (
        "error: standard output: the disk is full",
        "error: standard output is closed",
    )
    assert len(said.splitlines()) <= 2
    assert list(tmp_path.iterdir()) == []


def test_work_continues_without_a_reader_of_progress() -> None:
    script = (
        "import os, sys, time; from testbed.common.progress import note, step\n"
        "r, w = os.pipe(); os.dup2(w, 2); os.close(w); os.close(r)\n"
        'with step("Working"): note("on"); print("done")'
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "done\n")


def test_unencodable_character_is_escaped() -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    script = "from sentinel.cli import streams; streams.prepare(); print('\\u2192')"
    done = subprocess.run(
        [sys.executable, "-c", script],
        check=False,
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "\\u2192\n")


def test_argument_must_be_utf8() -> None:
    code, said = shell("sentinel preset show $'a\\xff'")
    assert (code, said) == (ExitCode.USAGE, "error: the argument b'a\\xff' is not valid UTF-8\n")


NO_GUEST = """
import sys
from experiments import runner
from sentinel.cli import main
from testbed.common.errors import WorkloadError
from testbed.common.progress import note
from tests.fakes.run_records import make_run

def run(plan, out, **_):
    for number in range(100):
        note(f"line {number}")
    make_run(out, models=("cnn",), placements=("fast-only",), repeats=1)
    return runner.Outcome(1, 0, [WorkloadError("once")] if sys.argv[2] == "fails" else [])

runner.run = run
main.main(["run", "experiments/suites/first.yaml", "--out", sys.argv[1]])
"""


@pytest.mark.parametrize(("how", "code"), [("works", ExitCode.OK), ("fails", ExitCode.WORKLOAD)])
@pytest.mark.parametrize("both", [True, False], ids=["2>&1 | true", "| true"])
def test_run_without_a_reader_finishes_and_exits_with_its_code(
    tmp_path: Path, how: str, code: ExitCode, both: bool
) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as nobody:
        done = subprocess.run(
            [sys.executable, "-c", NO_GUEST, tmp_path / "run", how],
            check=False,
            stdout=nobody,
            stderr=nobody if both else subprocess.PIPE,
            timeout=300,
        )
    assert done.returncode == code
    assert len(list((tmp_path / "run").glob("cells/*/000/result.json"))) == 1
    assert (tmp_path / "run" / "report.html").exists()
