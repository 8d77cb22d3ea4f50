# SPDX-License-Identifier: Apache-2.0
"""Tools that `vm up` copies into a guest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments import guest_code, tools
from sentinel.planner.formats import figures
from sentinel.runtime import build as runtime
from testbed.common.cache import Cache
from testbed.common.errors import BuildError
from testbed.timing import measurement, preset
from testbed.vm import Boot
from tests.fakes.hypervisor import MACHINE


class Guest:
    """A fake shell that keeps what is put."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.commands: list[str] = []

    def put(self, source: Path, target: str) -> None:
        assert target == "/opt/sentinel"
        source.rename(self.folder)

    def run(self, command: str) -> None:
        self.commands.append(command)


@pytest.fixture
def compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library, probe = tmp_path / "library.so", tmp_path / "program"
    library.write_bytes(b"library")
    probe.write_bytes(b"probe")
    probe.chmod(0o755)
    monkeypatch.setattr(runtime, "build", lambda *, cache: library)
    monkeypatch.setattr(measurement, "build_probe", lambda *, cache: probe)


def boot(**more: object) -> Boot:
    return Boot(machine=MACHINE, kernel=Path("k"), image=Path("i"), accelerator="tcg", **more)  # type: ignore[arg-type]


@pytest.mark.usefixtures("compiled")
def test_a_started_machine_has_the_runtime_the_code_and_the_planner(tmp_path: Path) -> None:
    guest = Guest(tmp_path / "guest")
    costs = preset.load("optane-6dimm")
    tools.install(guest, tools.collect(cache=Cache()), boot(preset=costs))  # type: ignore[arg-type]
    assert {path.name for path in guest.folder.iterdir()} == {
        "guest", "timing_client.py", "paced.py", "sentinel_markers.h", "sentinel",
        "libsentinel.so", "probe", "figures.json",
    }  # fmt: skip
    assert (guest.folder / "guest" / "wrap.py").exists()
    assert (guest.folder / "sentinel" / "planner" / "__main__.py").exists()
    assert not list(guest.folder.rglob("__pycache__"))
    assert (guest.folder / "libsentinel.so").read_bytes() == b"library"
    assert (guest.folder / "probe").stat().st_mode & 0o111
    read = figures.parse(json.loads((guest.folder / "figures.json").read_text()))
    assert (read.cache_bytes, read.migration_cores) == (costs.cache.size, 1)
    assert "/opt/sentinel" in guest.commands[0]
    assert "sentinel.pth" in guest.commands[0]


@pytest.mark.usefixtures("compiled")
def test_a_machine_without_a_preset_has_no_figures(tmp_path: Path) -> None:
    guest = Guest(tmp_path / "guest")
    tools.install(guest, tools.collect(cache=Cache()), boot())  # type: ignore[arg-type]
    assert not (guest.folder / "figures.json").exists()


@pytest.mark.usefixtures("compiled")
def test_a_tool_that_does_not_compile_is_left_out_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*, cache: Cache) -> Path:
        raise BuildError("g++ is not installed")

    monkeypatch.setattr(runtime, "build", fail)
    assert set(tools.collect(cache=Cache())) == {*guest_code.sources(), "sentinel/planner", "probe"}
    said = " ".join(capsys.readouterr().err.split())
    assert "the machine will not have /opt/sentinel/libsentinel.so: g++ is not installed" in said
