# SPDX-License-Identifier: Apache-2.0
"""The guest on every kernel: nodes, programs, access, and file transfer."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments import boot, tools
from experiments.boot import Artifacts
from sentinel.planner.check import check
from sentinel.planner.formats import files as planner
from testbed import machine, vm
from testbed.common import files
from testbed.common.cache import Cache
from testbed.common.errors import GuestHangError, UsageError, WorkloadError
from testbed.guestlink.shell import Shell
from testbed.timing import counters, preset
from testbed.vm import Vm
from tests.vm.training import SCRIPTS


@pytest.fixture(scope="module")
def artifacts(kernel: str) -> Artifacts:
    return boot.prepare(machine.load("two-node"), kernel=kernel)


@pytest.fixture(scope="module")
def guest(artifacts: Artifacts) -> Iterator[Vm]:
    before = artifacts.image.disk.stat()
    with vm.running("guest", artifacts.boot) as started:
        started.wait_ready()
        yield started
    after = artifacts.image.disk.stat()
    assert (before.st_mtime_ns, before.st_size) == (after.st_mtime_ns, after.st_size), (
        "the base image was written to"
    )


@pytest.fixture(scope="module")
def shell(guest: Vm) -> Iterator[Shell]:
    with guest.shell() as connected:
        yield connected


def test_it_runs_the_built_kernel(artifacts: Artifacts, shell: Shell) -> None:
    assert shell.run("uname -r").out.strip() == artifacts.kernel.release


def test_it_has_two_nodes_and_the_second_has_no_processor(shell: Shell) -> None:
    said = shell.run("numactl --hardware").out
    assert "available: 2 nodes (0-1)" in said
    assert re.search(r"node 0 cpus: 0 1\n", said)
    assert re.search(r"node 1 cpus:\s*\n", said)
    sizes = [int(mb) for mb in re.findall(r"node \d size: (\d+) MB", said)]
    assert all(1900 < size <= 2048 for size in sizes)
    assert re.search(r"0:\s+10\s+20", said)


def test_its_console_shows_no_failure(guest: Vm, shell: Shell) -> None:
    shell.run("true")
    watchdog = guest.watchdog()
    watchdog.check()
    assert watchdog.console.findings == []
    assert "Linux version" in guest.console_path.read_text().splitlines()[0], "not from the first byte"


def test_it_has_the_programs_of_experiments(shell: Shell) -> None:
    shell.run("python3 -c 'import numpy; assert numpy.arange(4).sum() == 6'")
    shell.run("stress-ng --version")
    version = shell.run(
        "python2.7 -W ignore -c 'import tensorflow; print(tensorflow.__version__)'", timeout=600
    )
    assert version.out.strip() == "1.13.1"


def test_it_is_smaller_than_600_mib(artifacts: Artifacts, shell: Shell) -> None:
    assert artifacts.image.entry.manifest["installed_bytes"] < 600 << 20
    used_kib = int(shell.run("du -skx / | cut -f1", timeout=120).out)
    assert used_kib < 600 << 10


def test_it_accepts_the_testbed_s_key_only(guest: Vm, shell: Shell) -> None:
    settings = shell.run("/usr/sbin/sshd -T").out.lower()
    for line in (
        "passwordauthentication no",
        "permitrootlogin without-password",
        "kbdinteractiveauthentication no",
    ):
        assert line in settings or line.replace("kbdinteractive", "challengeresponse") in settings
    assert shell.run("cut -d: -f2 /etc/shadow | sort -u").out.split() == ["*"], "an account has a password"
    options = (
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
        "IdentityAgent=none",
        "BatchMode=yes",
    )
    flags = [word for option in options for word in ("-o", option)]
    refused = subprocess.run(
        ["ssh", "-F", "none", *flags, "-i", "/dev/null", "-p", str(guest.port), "root@127.0.0.1", "true"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert refused.returncode == 255
    assert "Permission denied" in refused.stderr


def test_it_is_reachable_on_loopback_only(guest: Vm) -> None:
    inodes = set()
    for pid in Path("/proc").glob("[0-9]*"):
        try:
            if str(guest.folder).encode() in (pid / "cmdline").read_bytes():
                inodes |= {str(fd.readlink()) for fd in (pid / "fd").iterdir()}
        except OSError:
            continue
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    listening = [row[1] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in inodes]
    assert listening == [f"0100007F:{guest.port:04X}"]


def test_files_and_folders_are_copied_both_ways(shell: Shell, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "noise").write_bytes(os.urandom(3_000_000))
    (folder / "script").write_text("#!/bin/sh\necho ran\n")
    (folder / "script").chmod(0o755)
    shell.put(folder, "/root/deep/copied")
    assert shell.run("/root/deep/copied/script").out == "ran\n"
    shell.get("/root/deep/copied/noise", tmp_path / "back")
    shell.get("/root/deep", tmp_path / "deep")
    assert (tmp_path / "deep" / "copied" / "noise").read_bytes() == (tmp_path / "back").read_bytes()
    shell.get("/sys/devices/system/node/online", tmp_path / "online")
    assert (tmp_path / "online").read_text() == "0-1\n"
    with pytest.raises(UsageError, match="/proc/self in the guest is a folder of its kernel"):
        shell.get("/proc/self", tmp_path / "nothing")
    mode = shell.run("stat -c %a /root").out
    folder.chmod(0o777)
    shell.put(folder, "/root")
    assert shell.run("stat -c %a /root").out == mode  # sshd rejects keys if others can write there
    assert files.sha256_file(tmp_path / "back") == files.sha256_file(folder / "noise")
    with pytest.raises(UsageError, match="no such file or folder in the guest: /nowhere"):
        shell.get("/nowhere", tmp_path / "nothing")
    with pytest.raises(UsageError, match="does not exist"):
        shell.put(tmp_path / "nothing here", "/root/x")


def test_documented_commands_work_on_a_machine_with_a_preset(any_kernel: str, tmp_path: Path) -> None:
    """From any folder, by the model clock, with a script that opens no region of interest."""
    script = tmp_path / "train.py"
    shutil.copy(SCRIPTS / "runtime" / "untouched.py", script)
    machine_boot = boot.prepare(
        machine.load("two-node"), preset=preset.load("optane-6dimm"), kernel=any_kernel
    ).boot
    with vm.running("tools", machine_boot) as started:
        started.wait_ready()
        with started.shell() as shell:
            tools.install(shell, tools.collect(cache=Cache()), machine_boot)
            shell.put(script, "/root/train.py")
            wrapped = "cd /root && python2.7 -m guest.wrap --profile step.json.gz --skip 1 train.py 3"
            assert len(shell.run(wrapped, timeout=900).out.split()) == 3
            shell.run(
                "cd /root && python3 -m sentinel.planner step.json.gz --budget 60% --spill"
                " --figures /opt/sentinel/figures.json -o plan.json",
                timeout=300,
            )
            shell.get("/root/step.json.gz", tmp_path / "step.json.gz")
            shell.get("/root/plan.json", tmp_path / "plan.json")
        markers = [line["marker"] for line in counters.read(started.counters_path)]
    profile, plan = (
        planner.read_profile(tmp_path / "step.json.gz"),
        planner.read_plan(tmp_path / "plan.json"),
    )
    assert profile.clock == "model"
    assert profile.step_ns > 100_000
    assert check(profile, plan) == []
    assert plan.made["figures"]["helpers"] == 1
    assert markers == [counters.REGION_BEGIN, counters.REGION_END]


def test_a_failed_or_hanging_command_is_reported(shell: Shell) -> None:
    with pytest.raises(WorkloadError, match=r"in the guest: no luck \(command exited with status 3: "):
        shell.run("echo no luck >&2; exit 3")
    with pytest.raises(GuestHangError, match="command timed out after 1 s: sleep 100"):
        shell.run("sleep 100", timeout=1)
    assert shell.run("echo still here").out == "still here\n"


def test_output_arrives_line_by_line(shell: Shell) -> None:
    lines: list[str] = []
    errors: list[str] = []
    shell.run("echo a; echo b >&2; echo c", on_line=lines.append, on_error=errors.append)
    assert (lines, errors) == (["a", "c"], ["b"])
