# SPDX-License-Identifier: Apache-2.0
"""`target: host`: a suite in the guest's image on this host, without a machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from experiments import matrix, runner
from experiments.target_backend import RealMachine
from images import build as images
from images import definition
from results import runs
from testbed.common import processes
from testbed.common.cache import Cache
from testbed.targets.spec import Target

SUITE = """
name: real
target: host
preset: optane-6dimm
models: [{ name: cnn, batch: 8 }]
placements: [slow-only, sentinel-opt]
fast_memory: [60%]
steps: 2
repeats: 1
"""


def test_suite_runs_on_this_host(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """As root, with a loop device and an image in the cache; TensorFlow runs for a minute."""
    if not request.config.getoption("--slow"):
        pytest.skip("runs TensorFlow on this host; run with --slow")
    if os.geteuid() != 0 or Cache().get(images.KIND, definition.default().key) is None:
        pytest.skip("needs root, and an image: sentinel image build")
    mounts = Path("/proc/mounts").read_text()
    (tmp_path / "suite.yaml").write_text(SUITE)
    backend = RealMachine(Target(folder=tmp_path / "target"))
    outcome = runner.run(
        matrix.load(tmp_path / "suite.yaml"), tmp_path / "out", command="sentinel run", backend=backend
    )
    assert (outcome.done, outcome.failures) == (2, [])
    assert not (tmp_path / "target" / "run").exists()
    assert Path("/proc/mounts").read_text() == mounts
    backend.close()
    folder = str(tmp_path / "target")
    assert not [pid for pid, words in processes.command_lines() if any(folder in word for word in words)]
    run = runs.Run.load(tmp_path / "out")
    losses = [[step.loss for step in cell.repeats[0].steps[:3]] for cell in run.cells]
    assert losses[0] == losses[1]
    for cell in run.cells:
        provenance = cell.repeats[0].provenance
        assert provenance.accelerator == "hardware"
        assert provenance.kernel["release"] == os.uname().release
        assert all(step.model_ns is None and step.guest_ns > 0 for step in cell.repeats[0].steps)
