# SPDX-License-Identifier: Apache-2.0
"""`sentinel profile --host` in the guest's image."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from experiments import host_profile
from experiments.job import Work
from images import build as images
from images import definition
from sentinel.planner.formats import files
from sentinel.planner.formats.profile import SCRATCH
from testbed.common.cache import Cache

WORK = Work(seed=7, threads=1, runtime=True, model={"name": "cnn", "batch": 8})


def test_model_is_profiled_in_the_real_image(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """As root, with a loop device and an image in the cache; TensorFlow runs for half a minute."""
    if not request.config.getoption("--slow"):
        pytest.skip("runs TensorFlow on this host; run with --slow")
    if os.geteuid() != 0 or Cache().get(images.KIND, definition.default().key) is None:
        pytest.skip("needs root, and an image: sentinel image build")
    mounts = Path("/proc/mounts").read_text()
    recorded = host_profile.record(WORK, cache=Cache())
    (step,) = recorded.values()
    files.write_profile(tmp_path / "step.json.gz", step)
    assert files.read_profile(tmp_path / "step.json.gz").native == step.native
    assert step.native is not None
    assert 1 < step.native.core_speed < 1000
    assert (step.counts, step.clock, step.threads) == ("ops", "cpu", {"inter_op": 1, "intra_op": 1})
    assert any(name.endswith("Conv2DBackpropFilter") for name in step.ops.name)
    scratch = step.tensors.kind == SCRATCH
    assert scratch.any()
    assert (step.tensors.reads[scratch] * step.page_bytes == step.tensors.touched[scratch]).all()
    assert (step.tensors.touched <= -(-step.tensors.size // step.page_bytes) * step.page_bytes).all()
    assert Path("/proc/mounts").read_text() == mounts
