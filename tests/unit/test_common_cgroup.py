# SPDX-License-Identifier: Apache-2.0
"""Limits of control groups, as both versions of the kernel's interface show them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from testbed import machine
from testbed.common import cgroup, settings
from testbed.common.errors import InfrastructureError
from testbed.host import memory

GIB = 1 << 30


class Groups:
    """A mounted hierarchy, and the groups of this process."""

    def __init__(self, folder: Path) -> None:
        self.mounted, self.of_self = folder / "cgroup", folder / "self"
        self.mounted.mkdir()

    def write(self, path: str, text: str) -> None:
        file = self.mounted / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")

    def memory_left(self) -> int | None:
        return cgroup.memory_left(mounted=self.mounted, of_self=self.of_self)

    def cpus(self) -> float | None:
        return cgroup.cpus(mounted=self.mounted, of_self=self.of_self)


@pytest.fixture
def groups(tmp_path: Path) -> Groups:
    return Groups(tmp_path)


def test_limits_of_version_2(groups: Groups) -> None:
    groups.of_self.write_text("0::/user/job\n")
    groups.write("cgroup.controllers", "cpu memory")
    groups.write("user/memory.max", str(8 * GIB))
    groups.write("user/memory.current", str(7 * GIB))
    groups.write("user/memory.stat", f"anon 1\ninactive_file {2 * GIB}\nactive_file 9")
    groups.write("user/job/memory.max", "max")
    groups.write("user/job/cpu.max", "150000 100000")
    groups.write("user/cpu.max", "max 100000")
    assert groups.memory_left() == 3 * GIB  # the parent's limit, less memory that cannot be reclaimed
    assert groups.cpus() == 1.5
    groups.write("user/job/memory.high", str(GIB))
    groups.write("user/job/memory.current", str(2 * GIB))
    assert groups.memory_left() == 0


def test_limits_of_version_1_in_a_container(groups: Groups) -> None:
    groups.of_self.write_text("5:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n1:name=systemd:/x\n")
    groups.write("memory/memory.limit_in_bytes", str(4 * GIB))
    groups.write("memory/memory.usage_in_bytes", str(3 * GIB))
    groups.write("memory/memory.stat", f"inactive_file 7\ntotal_inactive_file {GIB}")
    groups.write("cpu,cpuacct/cpu.cfs_quota_us", "50000")
    groups.write("cpu,cpuacct/cpu.cfs_period_us", "100000")
    assert groups.memory_left() == 2 * GIB
    assert groups.cpus() == 0.5


def test_limits_of_both_versions_together(groups: Groups) -> None:
    groups.of_self.write_text("4:memory:/a\n0::/b\n")
    groups.write("memory/a/memory.limit_in_bytes", str(2 * GIB))
    groups.write("memory/a/memory.usage_in_bytes", "0")
    groups.write("unified/b/memory.max", str(GIB))
    assert groups.memory_left() == GIB


@pytest.mark.parametrize("membership", ["", "0::/\n", "nonsense\n", "5:memory:/a\n3:cpu:/a\n"])
def test_no_limit_without_control_groups(groups: Groups, membership: str) -> None:
    groups.of_self.write_text(membership)
    groups.write("memory/a/memory.limit_in_bytes", "9223372036854771712")
    groups.write("memory/a/memory.usage_in_bytes", "1")
    groups.write("cpu/a/cpu.cfs_quota_us", "-1")
    groups.write("cpu/a/cpu.cfs_period_us", "100000")
    groups.write("cpu.max", "max 100000")
    assert (groups.memory_left(), groups.cpus()) == (None, None)
    groups.of_self.unlink()
    assert (groups.memory_left(), groups.cpus()) == (None, None)


def test_machine_memory_is_checked_against_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroup, "memory_left", lambda: GIB)
    assert memory.available() <= GIB
    message = r"the control group of this process has 1\.0 GiB available"
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=64 * GIB))
    with pytest.raises(InfrastructureError, match=message):
        memory.check_capacity(machine.load("two-node"))


@pytest.mark.parametrize(("quota", "jobs"), [(None, 4), (0.5, 1), (1.5, 2), (16.0, 4)])
def test_compile_jobs_respect_the_cpu_quota(
    monkeypatch: pytest.MonkeyPatch, quota: float | None, jobs: int
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(4)))
    monkeypatch.setattr(cgroup, "cpus", lambda: quota)
    assert settings.jobs() == jobs
