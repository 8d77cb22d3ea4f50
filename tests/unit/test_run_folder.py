# SPDX-License-Identifier: Apache-2.0
"""Ownership of a run's folder."""

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


def test_a_second_process_is_refused_with_the_owner(tmp_path: Path) -> None:
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


def test_an_owner_without_a_description_owns_the_folder(tmp_path: Path) -> None:
    with folder.claimed(tmp_path, command="sentinel run first.yaml"):
        (tmp_path / folder.LOCK).write_text("")
        with pytest.raises(UsageError, match="is in use by another process, which has just started"):
            claim(tmp_path)


def test_an_owner_on_another_host_is_reported_with_its_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with folder.claimed(tmp_path, command="sentinel run first.yaml"):
        here = platform.node()
        monkeypatch.setattr(platform, "node", lambda: "elsewhere")
        with pytest.raises(UsageError, match=f"in use by process {os.getpid()} on {here}, since"):
            claim(tmp_path)


@pytest.mark.parametrize("name", ["notes.txt", ".git", "cells", "report.html", ".lockfile", "run.json.bak"])
def test_a_folder_with_other_files_is_refused_and_not_changed(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(UsageError, match=rf"is not empty and is not a run: it holds {name}") as caught:
        claim(tmp_path)
    assert caught.value.hint == "use another folder with --out"
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_path_that_is_not_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "nowhere").symlink_to("missing/target")
    for out in ("file", "file/run", "nowhere"):
        with pytest.raises(UsageError, match="cannot use "):
            claim(tmp_path / out)
    assert {path.name for path in tmp_path.iterdir()} == {"file", "nowhere"}


def test_an_empty_folder_is_kept_and_a_created_one_is_removed(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    claim(tmp_path / "there")
    claim(tmp_path / "new" / "run")
    assert list((tmp_path / "there").iterdir()) == []
    assert not (tmp_path / "new" / "run").exists()


def test_a_run_can_be_resumed_and_read_meanwhile(tmp_path: Path) -> None:
    begin(tmp_path / "run", [cell_of("cnn", "fast-only")])
    with folder.claimed(tmp_path / "run", command="sentinel run first.yaml"):
        assert Run.load(tmp_path / "run").warnings == []
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["run.json"]


def test_files_of_a_killed_run_are_accepted(tmp_path: Path) -> None:
    (tmp_path / folder.LOCK).write_text('{"pid": 1}')
    (tmp_path / ".run.json.abc123").touch()
    claim(tmp_path)


def test_a_lock_on_a_removed_file_is_not_ownership(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An owner removes the file as it ends; another process may have opened it before."""
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
