# SPDX-License-Identifier: Apache-2.0
"""The folder of a run: one process at a time, and nobody else's files."""

from __future__ import annotations

import fcntl
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

import pytest

from experiments import folder
from results.runs import Run
from testbed.common.errors import UsageError
from tests.fakes.run_records import begin, cell_of

HOLDER = """
import sys, time
from pathlib import Path
from experiments import folder
with folder.claimed(Path(sys.argv[1]), command="sentinel run first.yaml"):
    print("claimed", flush=True)
    time.sleep(600)
"""


def claim(out: Path) -> None:
    with folder.claimed(out, command="sentinel run second.yaml"):
        pass


def test_a_second_process_is_refused_at_once_and_told_of_the_first(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(out)], stdout=subprocess.PIPE) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"claimed\n"
        with pytest.raises(UsageError) as caught:
            claim(out)
        first.kill()
    message = caught.value.message
    assert message.startswith(f"{out} is in use by process {first.pid}, since ")
    assert message.endswith(": sentinel run first.yaml")
    assert caught.value.hint == "wait for it to end, or use another folder with --out"
    claim(out)  # a killed process owns nothing


def test_a_process_that_has_not_yet_said_who_it_is_holds_the_folder_too(tmp_path: Path) -> None:
    with folder.claimed(tmp_path, command="sentinel run first.yaml"):
        (tmp_path / folder.LOCK).write_text("")
        with pytest.raises(UsageError, match="is in use by another process, which has just started"):
            claim(tmp_path)


def test_a_process_on_another_host_is_told_with_its_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with folder.claimed(tmp_path, command="sentinel run first.yaml"):
        here = platform.node()
        monkeypatch.setattr(platform, "node", lambda: "elsewhere")
        with pytest.raises(UsageError, match=f"in use by process {os.getpid()} on {here}, since"):
            claim(tmp_path)


@pytest.mark.parametrize("name", ["notes.txt", ".git", "cells", "report.html", ".lockfile", "run.json.bak"])
def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(UsageError, match=rf"is not empty and is not a run: it holds {name}") as caught:
        claim(tmp_path)
    assert caught.value.hint == "use another folder with --out"
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "nowhere").symlink_to("missing/target")
    for out in ("file", "file/run", "nowhere"):
        with pytest.raises(UsageError, match="cannot use "):
            claim(tmp_path / out)
    assert {path.name for path in tmp_path.iterdir()} == {"file", "nowhere"}


def test_an_empty_folder_is_taken_and_kept_and_a_new_one_goes_if_it_stays_empty(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    claim(tmp_path / "there")
    claim(tmp_path / "new" / "run")
    assert list((tmp_path / "there").iterdir()) == []
    assert not (tmp_path / "new" / "run").exists()


def test_a_run_is_taken_again_and_can_be_read_meanwhile(tmp_path: Path) -> None:
    begin(tmp_path / "run", [cell_of("cnn", "fast-only")])
    with folder.claimed(tmp_path / "run", command="sentinel run first.yaml"):
        assert Run.load(tmp_path / "run").warnings == []
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["run.json"]


def test_what_a_killed_run_left_does_not_make_its_folder_foreign(tmp_path: Path) -> None:
    (tmp_path / folder.LOCK).write_text('{"pid": 1}')
    (tmp_path / ".run.json.abc123").touch()
    claim(tmp_path)


def test_a_lock_on_a_removed_file_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An owner removes the file as it ends: somebody may have opened it before, and a third made another."""
    flock = fcntl.flock
    others: list[IO[str]] = []

    def overtaken(file: Any, how: int) -> None:
        if not others:
            (tmp_path / folder.LOCK).unlink()
            others.append((tmp_path / folder.LOCK).open("w"))
            flock(others[0], fcntl.LOCK_EX)
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", overtaken)
    with pytest.raises(UsageError, match="is in use by another process"):
        claim(tmp_path)
    others[0].close()
    claim(tmp_path)
