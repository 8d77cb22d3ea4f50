# SPDX-License-Identifier: Apache-2.0
"""Real faults, each with its own verdict, and nothing left behind."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from testbed import vm
from testbed.common import processes, settings
from testbed.common.cache import Cache
from testbed.common.errors import (
    BootError,
    GuestHangError,
    GuestPanicError,
    InfrastructureError,
    LostConnectionError,
    SentinelError,
    UsageError,
)
from testbed.common.files import read_json
from testbed.vm import Boot, Vm
from tests.vm.conftest import Up


def qemus(machine: Vm) -> list[int]:
    return processes.find_qemu(str(machine.folder / "disk.qcow2"))


def gone(machine: Vm, *, within: float = 15) -> bool:
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if not qemus(machine) and not machine.alive():
            return True
        time.sleep(0.1)
    return False


def judged(machine: Vm, **limits: float) -> SentinelError:
    """The watchdog's verdict."""
    watchdog = machine.watchdog()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            watchdog.check(**limits)
        except SentinelError as verdict:
            return verdict
        time.sleep(0.1)
    raise AssertionError("no verdict in 60 s")


def soon(action: Callable[[], object], *, after: float = 1.0) -> None:
    threading.Timer(after, action).start()


def test_panic_wins_over_the_broken_connection(up: Up) -> None:
    machine = up()
    with machine.shell() as shell, pytest.raises((LostConnectionError, GuestHangError)):
        shell.run("echo c >/proc/sysrq-trigger", timeout=20)
    verdict = judged(machine)
    assert isinstance(verdict, GuestPanicError)
    assert verdict.log == machine.console_path


def test_missing_root_panics_at_boot(up: Up) -> None:
    with pytest.raises(GuestPanicError, match="root"):
        up(cmdline="root=/dev/nowhere")


def test_damaged_image_is_an_infrastructure_error(up: Up, small: Boot, tmp_path: Path) -> None:
    """The image has the size that it was built with, and another content."""
    cache = Cache(tmp_path / "cache")

    def make(folder: Path) -> dict[str, Any]:
        (folder / "rootfs.ext4").write_bytes(b"")
        os.truncate(folder / "rootfs.ext4", 64 << 20)
        return {}

    entry = cache.build("image", "abc", make)
    with (entry.path / "rootfs.ext4").open("r+b") as f:
        f.write(b"something else")
    damaged = replace(small, image=entry.path / "rootfs.ext4", uses=(entry,))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(settings.CACHE.env, str(cache.root))
        with pytest.raises(InfrastructureError, match=r"image/abc is damaged: rootfs.ext4: its content"):
            up(what=damaged)


def test_silent_boot_is_a_hang(up: Up, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENTINEL_TIMEOUT_SCALE", "0.08")  # 10 s of silence
    with pytest.raises(GuestHangError, match="no output from the guest for 10 s"):
        up(cmdline="init=/bin/cat")


def test_poweroff_during_boot_is_a_boot_error(up: Up) -> None:
    with pytest.raises((BootError, GuestPanicError)):
        up(cmdline="init=/bin/true")


def test_silent_workload_is_a_hang(up: Up) -> None:
    verdict = judged(up(), progress=2)
    assert isinstance(verdict, GuestHangError)
    assert "no progress for 2 s, though the guest answers" in verdict.message


def test_missing_network_is_a_lost_connection(up: Up, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = up()
    monkeypatch.setenv("SENTINEL_TIMEOUT_SCALE", "0.05")
    machine.request("monitor", command="set_link net0 off")
    verdict = judged(machine, progress=1)
    assert isinstance(verdict, LostConnectionError)
    assert "does not answer" in verdict.message


def test_killed_qemu_is_an_infrastructure_error(up: Up) -> None:
    machine = up()
    for pid in qemus(machine):
        os.kill(pid, signal.SIGKILL)
    verdict = judged(machine)
    assert isinstance(verdict, InfrastructureError)
    assert "the machine ended: QEMU died" in verdict.message
    assert gone(machine)


def test_orphan_of_a_killed_supervisor_is_reaped(up: Up) -> None:
    machine = up(ready=False)
    assert qemus(machine)
    os.kill(read_json(machine.folder / "guest.json")["supervisor"], signal.SIGKILL)
    time.sleep(0.3)
    assert vm.reap() == [machine.name]
    assert gone(machine)
    assert machine.end_reason() == "its supervisor was killed"
    assert not Path(machine.config["runtime"]).exists()


STARTER = """
    import sys, time
    from pathlib import Path
    from testbed import machine, vm
    from testbed.common.cache import Cache
    config = {config!r}
    started = vm.start({name!r}, vm.Boot.from_json(config, cache=Cache(Path(config["cache"]))))
    print("up", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_machine_ends_with_its_starting_process(up: Up, how: signal.Signals) -> None:
    config = up("model", ready=False).config
    name = f"owned-{int(how)}"
    starter = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(STARTER.format(config=config, name=name))],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert starter.stdout is not None
    assert starter.stdout.readline() == b"up\n"
    machine = vm.find(name)
    assert qemus(machine)
    starter.send_signal(how)
    starter.wait(timeout=20)
    assert gone(machine)
    assert machine.end_reason() == "the process that started it exited"


def test_detached_machine_stays_until_down(small: Boot) -> None:
    machine = vm.start("free", small)
    machine.detach()
    time.sleep(1)
    found = vm.find_running("free")
    assert qemus(found)
    found.down()
    assert gone(found)
    assert found.end_reason() == "destroyed"


def test_concurrent_machines_do_not_collide(up: Up) -> None:
    machines = [up(f"side-{i}", ready=False) for i in range(3)]
    for machine in machines:
        machine.wait_ready()
    assert len({machine.port for machine in machines}) == 3
    for machine in machines:
        with machine.shell() as shell:
            assert shell.run("hostname").out.strip() == f"sentinel-{machine.name}"


def test_name_and_port_in_use_are_refused(up: Up, small: Boot) -> None:
    up("taken", ready=False)
    with pytest.raises(UsageError, match="'taken' is already running"):
        vm.start("taken", small)
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        with pytest.raises(InfrastructureError, match=f"port {port} is in use"):
            vm.start("portless", small, ssh_port=port)
    assert gone(vm.find("portless"))


def test_missing_qemu_is_an_infrastructure_error(small: Boot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENTINEL_QEMU", "/nonexistent/qemu")
    with pytest.raises(InfrastructureError, match="is not installed") as caught:
        vm.start("without", small)
    assert caught.value.hint == "apt-get install qemu-system-x86"


def test_failed_start_leaves_nothing(small: Boot) -> None:
    broken = replace(small, kernel=Path("/nonexistent/bzImage"))
    with pytest.raises(InfrastructureError, match=r"libvirt could not start the machine: .*bzImage"):
        vm.start("broken", broken)
    assert gone(vm.find("broken"))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small file system")
def test_full_host_disk_is_an_infrastructure_error(
    small: Boot, tmp_path: Path, own_state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = tmp_path / "full"
    full.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(full)], check=True)
    try:
        shutil.copytree(own_state / "keys", full / "keys")
        monkeypatch.setenv(settings.STATE.env, str(full))
        with vm.running("full", small) as machine:
            machine.wait_ready()
            with machine.shell() as shell, pytest.raises((LostConnectionError, GuestHangError)):
                shell.run("dd if=/dev/urandom of=/root/large bs=1M count=100; sync", timeout=120)
            verdict = judged(machine)
            assert isinstance(verdict, InfrastructureError)
            assert f"the disk is full at {machine.folder} on this host" in verdict.message
            assert gone(machine)
    finally:
        subprocess.run(["umount", "-l", str(full)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small file system")
def test_full_disk_while_saving_leaves_the_machine_running(up: Up, tmp_path: Path) -> None:
    machine = up()
    full = tmp_path / "full"
    full.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(full)], check=True)
    try:
        with pytest.raises(InfrastructureError, match="the disk is full"):
            machine.save(full)
        assert list(full.iterdir()) == []
        with machine.shell() as shell:
            assert shell.run("echo well").out == "well\n"
    finally:
        subprocess.run(["umount", "-l", str(full)], check=True)
