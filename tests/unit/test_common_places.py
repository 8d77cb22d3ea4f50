# SPDX-License-Identifier: Apache-2.0
"""Unwritable places are refused before any work begins."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from testbed.common import places, settings
from testbed.common.errors import InfrastructureError, UsageError


def problem(kind: str, path: Path) -> str:
    check = places.check_folder if kind == "folder" else places.check_file
    with pytest.raises(UsageError) as caught:
        check(path, "--out")
    assert caught.value.message.startswith(f"--out {path}: ")
    return caught.value.message.removeprefix(f"--out {path}: ")


@pytest.mark.parametrize("path", ["", "new", "new/and/deeper", "with space/x"])
def test_writable_place_is_left_unchanged(tmp_path: Path, path: str) -> None:
    places.check_folder(tmp_path / path, "--out")
    places.check_file(tmp_path / path / "file", "--out")
    assert list(tmp_path.iterdir()) == []


def test_unwritable_place_is_reported_with_the_reason(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    places.check_file(file, "--out")
    assert problem("folder", file) == f"cannot be written: {file} is not a folder"
    assert problem("folder", file / "below" / "x") == "cannot be written: Not a directory"
    assert problem("file", file / "below") == f"cannot be written: {file} is not a folder"
    assert problem("folder", tmp_path / "link") == f"cannot be written: {tmp_path}/link is not a folder"
    assert problem("file", tmp_path / "folder") == "is a folder, not a file"
    assert problem("file", tmp_path / "fifo") == "is not an ordinary file"
    for kind in ("folder", "file"):
        assert problem(kind, tmp_path / ("x" * 300)) == "cannot be written: File name too long"
        assert problem(kind, tmp_path / ("x/" * 3000)) == "cannot be written: File name too long"
        assert problem(kind, Path("/proc/x/y")).startswith("cannot be written: ")
    assert file.read_text() == "mine"


def test_full_disk_is_an_infrastructure_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    with pytest.raises(InfrastructureError, match=r"--out .*: cannot be written: No space left on device"):
        places.check_folder(tmp_path, "--out")
    with pytest.raises(InfrastructureError, match=r"SENTINEL_STATE=.*: No space left on device"):
        places.check_roots(state=True)
    places.check_roots(state=True, room=False)


@pytest.mark.parametrize("setting", [settings.CACHE, settings.STATE], ids=lambda s: s.env)
def test_setting_that_is_no_folder_is_reported_by_name(
    tmp_path: Path, setting: settings.Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.touch()
    for path, reason in (
        (file, "is not a folder"),
        (file / "below", "Not a directory"),
        (tmp_path / ("x" * 300), "File name too long"),
        (Path("/proc/x"), "cannot be written: No such file or directory"),
    ):
        monkeypatch.setenv(setting.env, str(path))
        with pytest.raises(UsageError) as caught:
            places.check_roots(cache=setting is settings.CACHE, state=setting is settings.STATE)
        assert caught.value.message == f"{setting.env}={path}: {reason}"
        assert caught.value.hint == f"{setting.env}=/another/folder"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(setting.env, "a relative one")
    places.check_roots(cache=True, state=True)
    root = settings.cache_root() if setting is settings.CACHE else settings.state_root()
    assert root == tmp_path / "a relative one"


@pytest.mark.parametrize("number", ["x", "nan", "inf", "-1", "1e99"])
def test_setting_with_an_invalid_number_is_refused(number: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENTINEL_TIMEOUT_SCALE", number)
    with pytest.raises(UsageError, match=f"SENTINEL_TIMEOUT_SCALE='{number}' "):
        settings.TIMEOUT_SCALE.get_float()
