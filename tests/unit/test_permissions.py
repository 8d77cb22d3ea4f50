# SPDX-License-Identifier: Apache-2.0
"""Who may read what is written: the umask decides, but for keys and sockets, which are private."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel import tree_digest
from results import page as pages
from sentinel.planner.formats import files as planner
from testbed import vm
from testbed.common import files
from testbed.common.cache import Cache
from testbed.guestlink import keys
from tests.fakes import networks
from tests.fakes.hypervisor import Hypervisor
from tests.fakes.run_records import fail, make_run


@pytest.fixture(params=[0o077, 0o027, 0o022, 0o002, 0o000], ids=lambda mask: f"{mask:03o}")
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    mask: int = request.param
    before = os.umask(mask)
    yield mask
    os.umask(before)


def wrong(root: Path, umask: int) -> dict[str, str]:
    """Everything below `root` whose mode is not what the umask leaves."""
    paths = [path for path in root.rglob("*") if not path.is_symlink()]
    assert paths
    modes = {path: path.stat().st_mode & 0o7777 for path in paths}
    full = {path: 0o777 if path.is_dir() or path.name == "script" else 0o666 for path in paths}
    return {str(p.relative_to(root)): f"{m:03o}" for p, m in modes.items() if m != full[p] & ~umask}


def test_results_follow_the_umask(tmp_path: Path, umask: int) -> None:
    run = make_run(tmp_path / "a" / "run", models=("lstm",), placements=("fast-only",), repeats=1)
    fail(run.path, run.cells[0].resolved, 1)
    pages.write(run, run.path / "report.html")
    planner.write_profile(tmp_path / "profile.json.gz", networks.resnet(seed=7))
    assert wrong(tmp_path, umask) == {}


def test_cache_follows_the_umask(tmp_path: Path, umask: int) -> None:
    def fill(folder: Path) -> dict[str, str]:
        files.write_atomic(folder / "sub" / "artefact", b"\0")
        return {"made": "here"}

    cache = Cache(tmp_path / "cache")
    cache.build("kernel", "k", fill)
    work = cache.work("tree")
    for name, mode in (("file", "-"), ("script", "x")):
        assert tree_digest.write_if_changed(work / "deep" / name, b"data", mode)
    assert wrong(tmp_path, umask) == {}


def test_machines_follow_the_umask_and_sockets_are_private(hypervisor: Hypervisor, umask: int) -> None:
    with vm.running("a", hypervisor.boot) as machine:
        runtime = Path(machine.config["runtime"])
        assert [path.stat().st_mode & 0o777 for path in (runtime.parent, runtime)] == [0o700, 0o700]
        assert wrong(vm.vms_root(), umask) == {}


def test_keys_are_private_under_any_umask(umask: int) -> None:
    key = keys.private_key()
    assert (key.stat().st_mode & 0o777, key.parent.stat().st_mode & 0o777) == (0o600, 0o700)
