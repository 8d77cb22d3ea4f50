# SPDX-License-Identifier: Apache-2.0
"""Every unit test has a cache and a state folder of its own, and none of this host's settings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.common import progress, settings
from tests.fakes.programs import Programs


@pytest.fixture(autouse=True)
def own_settings(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    for setting in settings.ALL:
        monkeypatch.delenv(setting.env, raising=False)
    root = tmp_path_factory.mktemp("sentinel")
    monkeypatch.setenv("SENTINEL_CACHE", str(root / "cache"))
    monkeypatch.setenv("SENTINEL_STATE", str(root / "state"))
    yield
    assert progress._depth == 0, "a step was left open"


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    """Fake programs, first on PATH."""
    return Programs(tmp_path / "bin", monkeypatch)
