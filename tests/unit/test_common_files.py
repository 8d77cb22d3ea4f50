# SPDX-License-Identifier: Apache-2.0
"""Files: atomic writes, and locks that end with their holder."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from testbed.common import files

HOLDER = """
import sys, time
from pathlib import Path
from testbed.common import files
with files.locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_atomic_write_creates_the_folder(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file"
    files.write_atomic(path, "text\n")
    assert path.read_text() == "text\n"
    assert path.stat().st_mode & 0o777 == 0o644
    files.write_atomic(path, b"\0bytes")
    assert path.read_bytes() == b"\0bytes"
    assert [p.name for p in path.parent.iterdir()] == ["file"]


@pytest.mark.parametrize(("module", "where"), [(os, "fsync"), (Path, "replace")])
def test_failed_write_leaves_the_old_content_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: object, where: str
) -> None:
    path = tmp_path / "file"
    files.write_atomic(path, "old")

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, where, fail)
    with pytest.raises(KeyboardInterrupt):
        files.write_atomic(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_content_is_synced_before_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rename that reaches the disk before the data leaves an empty file after a power cut."""
    path = tmp_path / "file"
    synced: list[tuple[str, bool]] = []
    monkeypatch.setattr(
        os, "fsync", lambda fd: synced.append((Path(f"/proc/self/fd/{fd}").read_text(), path.exists()))
    )
    files.write_atomic(path, "content")
    assert synced == [("content", False)]


def test_invalid_json_value_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "v.json"
    files.write_json(path, {"b": 1, "a": [2]})
    assert path.read_text() == '{\n  "a": [\n    2\n  ],\n  "b": 1\n}\n'
    with pytest.raises(TypeError):
        files.write_json(path, {"a": object()})
    assert files.read_json(path) == {"a": [2], "b": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["v.json"]


def test_digests_are_sha256_and_independent_of_key_order(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    assert files.sha256_file(tmp_path / "f") == hashlib.sha256(b"abc").hexdigest()
    assert files.sha256_json({"a": 1, "b": [2]}) == files.sha256_json({"b": [2], "a": 1})
    assert files.sha256_json({"a": 1}) == hashlib.sha256(b'{"a":1}').hexdigest()
    assert files.sha256_json([1, 2]) != files.sha256_json([2, 1])


def test_disk_usage_counts_allocated_bytes(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "full").write_bytes(b"x" * 65536)
    with (tmp_path / "sparse").open("wb") as f:
        f.truncate(1 << 30)
    (tmp_path / "link").symlink_to("nowhere")
    assert 65536 <= files.disk_usage(tmp_path) < 1 << 20
    assert files.disk_usage(tmp_path / "sub" / "full") >= 65536
    assert files.disk_usage(tmp_path / "none") == 0


def test_exclusive_lock_excludes_shared_ones(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "lock"
    with files.locked(path):
        assert files.is_locked(path)
        with pytest.raises(BlockingIOError), files.locked(path, block=False):
            pass
        with pytest.raises(BlockingIOError), files.locked(path, shared=True, block=False):
            pass
    assert not files.is_locked(path)
    with files.locked(path, shared=True), files.locked(path, shared=True, block=False):
        with pytest.raises(BlockingIOError), files.locked(path, block=False):
            pass
        assert not files.is_locked(path)  # only the exclusive holder counts


def test_lock_is_released_when_the_block_raises(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="inside"), files.locked(tmp_path / "lock"):
        raise ValueError("inside")
    assert not files.is_locked(tmp_path / "lock")


def test_waiting_for_a_lock_is_reported_once(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    reports: list[bool] = []
    waiting = threading.Event()

    def wait() -> None:
        reports.append(True)
        waiting.set()

    def take() -> None:
        with files.locked(path, on_wait=wait):
            reports.append(files.is_locked(path))

    thread = threading.Thread(target=take)
    with files.locked(path):
        thread.start()
        assert waiting.wait(5)
    thread.join(5)
    assert reports == [True, True]
    with files.locked(path, on_wait=wait):  # no other holder
        assert reports == [True, True]


def test_killed_process_releases_its_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with subprocess.Popen([sys.executable, "-c", HOLDER, path], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert files.is_locked(path)
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        assert not files.is_locked(path)
