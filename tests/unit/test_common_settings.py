# SPDX-License-Identifier: Apache-2.0
"""Settings: environment first, then the XDG folders, then the home folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from testbed.common import settings
from testbed.common.errors import UsageError


def test_environment_sets_the_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENTINEL_CACHE", "/a/cache")
    monkeypatch.setenv("SENTINEL_STATE", "/a/state")
    assert settings.cache_root() == Path("/a/cache")
    assert settings.state_root() == Path("/a/state")


def test_xdg_variables_are_the_second_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENTINEL_CACHE", "")  # empty counts as not set
    monkeypatch.delenv("SENTINEL_STATE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x/c")
    monkeypatch.setenv("XDG_STATE_HOME", "/x/s")
    assert settings.cache_root() == Path("/x/c/sentinel")
    assert settings.state_root() == Path("/x/s/sentinel")


def test_home_folder_is_the_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("SENTINEL_CACHE", "SENTINEL_STATE", "XDG_CACHE_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert settings.cache_root() == tmp_path / ".cache" / "sentinel"
    assert settings.state_root() == tmp_path / ".local" / "state" / "sentinel"


def test_relative_folder_becomes_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SENTINEL_CACHE", "here")
    assert settings.cache_root() == tmp_path / "here"


def test_invalid_number_is_a_usage_error_with_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENTINEL_TIMEOUT_SCALE", "2.5")
    assert settings.TIMEOUT_SCALE.get_float() == 2.5
    monkeypatch.setenv("SENTINEL_TIMEOUT_SCALE", "much")
    with pytest.raises(UsageError, match=r"^SENTINEL_TIMEOUT_SCALE='much' is not a number$"):
        settings.TIMEOUT_SCALE.get_float()


def test_every_setting_has_a_unique_name_and_help() -> None:
    assert len({setting.env for setting in settings.ALL}) == len(settings.ALL)
    assert all(setting.help for setting in settings.ALL)
    declared = {value for value in vars(settings).values() if isinstance(value, settings.Setting)}
    assert declared == set(settings.ALL)


def test_jobs_is_the_number_of_usable_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: {0, 2, 5})
    assert settings.jobs() == 3
