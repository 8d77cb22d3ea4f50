# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the unit tests: each test has its own cache and state folder, and no settings of the host."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sentinel.cli import main
from testbed.common import progress, settings
from tests.fakes.hypervisor import Hypervisor
from tests.fakes.programs import Programs

if TYPE_CHECKING:
    from results.runs import Run
    from tests.fakes.lab import Lab

_number = itertools.count()


@pytest.fixture(scope="session")
def settings_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sentinel")


@pytest.fixture(autouse=True)
def own_settings(settings_root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for setting in settings.ALL:
        monkeypatch.delenv(setting.env, raising=False)
    root = settings_root / str(next(_number))
    monkeypatch.setenv("SENTINEL_CACHE", str(root / "cache"))
    monkeypatch.setenv("SENTINEL_STATE", str(root / "state"))
    monkeypatch.setattr("os.fsync", lambda _: None)  # no test survives a power cut anyway
    yield
    assert progress._depth == 0, "a step was left open"


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    """Fake programs, first on PATH."""
    return Programs(tmp_path / "bin", monkeypatch)


@pytest.fixture
def hypervisor(tmp_path: Path, programs: Programs, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hypervisor]:
    """Real supervisors on fake libvirt and QEMU."""
    host = Hypervisor(tmp_path, programs, monkeypatch)
    yield host
    host.close()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A complete run."""
    from tests.fakes.run_records import make_run  # imports pandas

    return make_run(tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture
def troubled(tmp_path: Path) -> Run:
    """A run with failures and damaged records."""
    from tests.fakes.run_records import troubled_run

    return troubled_run(tmp_path / "run")


@pytest.fixture
def planned(tmp_path: Path) -> Run:
    """A run of one model whose cells of `sentinel` and `sentinel-opt` have plans, with the profile."""
    from tests.fakes.profiles import LAYERS, MEGA, small, variable, written_then_read
    from tests.fakes.run_records import make_run

    tensors = [written_then_read(0, 3), written_then_read(1, 6), written_then_read(2, 5), variable(0, 6, n=7)]
    return make_run(
        tmp_path / "planned",
        models=("lstm",),
        placements=("fast-only", "first-touch", "sentinel", "sentinel-opt"),
        fast_memory=("60%",),
        profile=small(LAYERS, MEGA, tensors),
    )


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """Runs suites on a fake backend."""
    from experiments import provenance
    from testbed.host import accel
    from tests.fakes.lab import Lab

    monkeypatch.setattr(accel, "qemu_version", lambda _: "QEMU emulator version 7.2.11")
    monkeypatch.setattr(provenance, "revision", lambda digits: "0123456789abcdef")
    return Lab(tmp_path)


@pytest.fixture
def sentinel_(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a command in this process; returns its exit code, output and errors."""

    def run(*words: str | Path) -> tuple[int, str, str]:
        code = main._run([str(word) for word in words], debug=False)
        return (code, *capsys.readouterr())

    return run
