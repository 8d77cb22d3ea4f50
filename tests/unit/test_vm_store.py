# SPDX-License-Identifier: Apache-2.0
"""The store of machines: names, finding them again, and clearing up whatever became of their keepers."""

from __future__ import annotations

import getpass
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lxml.etree
import pytest

from testbed import vm
from testbed.common import files
from testbed.common.cache import Cache
from testbed.common.errors import (
    BootError,
    GuestHangError,
    GuestPanicError,
    InfrastructureError,
    UsageError,
)
from testbed.limits import Limits
from testbed.vm import Saved, Vm
from tests.fakes.hypervisor import MACHINE, Hypervisor, eventually, running
from tests.fakes.programs import Programs


def make_folder(name: str, *, ended: str | None = "destroyed", **order: Any) -> Path:
    """What a machine that was there once leaves."""
    folder = vm.vms_root() / name
    full = {
        "accelerator": "tcg",
        "disk": str(folder / "disk.qcow2"),
        "runtime": str(folder / "runtime"),
        "machine": MACHINE.model_dump(mode="json"),
        "kernel": "/k",
        "uses": [],
        **order,
    }
    files.write_json(folder / "order.json", full)
    files.write_json(folder / "guest.json", {"port": 2222, "keeper": 1})
    if ended is not None:
        files.write_json(folder / "ended.json", {"why": ended, "at": 0})
    return folder


@pytest.mark.parametrize("name", ["", "A", "a_b", "a.b", "-a", "../a", "a b", "a/b", "ä", "a" * 41, "a\n"])
def test_an_impossible_name_is_refused_before_anything_is_made(hypervisor: Hypervisor, name: str) -> None:
    with pytest.raises(UsageError, match="is no name for a machine") as caught:
        vm.start(name, hypervisor.boot)
    assert caught.value.hint == "lower-case letters, digits and dashes, up to 40"
    assert not vm.vms_root().exists()


@pytest.mark.parametrize("name", ["a", "0", "a-b-1", "a" * 40])
def test_possible_names_are_possible(name: str) -> None:
    assert vm.NAME.fullmatch(name)


def test_an_unknown_machine_is_told_which_there_are() -> None:
    with pytest.raises(UsageError, match=r"^there is no machine 'c'; there are: none$"):
        vm.find("c")
    make_folder("b")
    make_folder("a")
    with pytest.raises(UsageError, match=r"^there is no machine 'c'; there are: a, b$") as caught:
        vm.find("c")
    assert caught.value.hint == "sentinel vm up"
    assert [machine.name for machine in vm.all_vms()] == ["a", "b"]


def test_a_machine_that_is_gone_is_found_but_not_as_running() -> None:
    folder = make_folder("a", ended="QEMU died")
    found = vm.find("a")
    assert (found.folder, found.port, found.accelerator) == (folder, 2222, "tcg")
    assert found.ended() == "QEMU died"
    with pytest.raises(UsageError, match=r"^the machine 'a' is not running: QEMU died$") as caught:
        vm.find_running("a")
    assert caught.value.log == folder / "console.log"


def test_a_machine_runs_while_its_keeper_holds_the_lock() -> None:
    folder = make_folder("a")
    with files.locked(folder / "lock"):
        assert vm.find_running("a").alive()
        assert vm.find("a").ended() is None
    assert not vm.find("a").alive()


def test_a_machine_without_a_last_word_lost_its_keeper() -> None:
    make_folder("a", ended=None)
    assert vm.find("a").ended() == "its keeper was killed"


def test_starting_asking_and_ending(hypervisor: Hypervisor) -> None:
    machine = vm.start("a", hypervisor.boot)
    assert machine.alive()
    assert hypervisor.qemu_runs()
    order = machine.order
    assert (order["name"], order["accelerator"], order["restore"]) == ("sentinel-a", "tcg", None)
    assert 1024 <= machine.port < 65536
    assert f"monitor hostfwd_add hostnet0 tcp:127.0.0.1:{machine.port}-:22" in hypervisor.calls
    assert vm.find_running("a").ask("ping") == {"ok": True}
    assert machine.ask("monitor", command="info status")["output"] == "answer to info status\r\n"
    with pytest.raises(InfrastructureError, match="monitor of the machine a failed: unable to execute QEMU"):
        machine.ask("monitor", command="fail")
    with pytest.raises(InfrastructureError, match="dance of the machine a failed: unknown request 'dance'"):
        machine.ask("dance")
    runtime = Path(order["runtime"])
    assert runtime.stat().st_mode & 0o777 == 0o700
    assert runtime.is_relative_to(hypervisor.runtime)
    machine.down()
    assert not machine.alive()
    assert not hypervisor.qemu_runs()
    assert machine.ended() == "destroyed"
    assert not (machine.folder / "disk.qcow2").exists()
    assert not runtime.exists()
    machine.down()  # again is fine
    with pytest.raises(InfrastructureError, match="the machine a does not answer"):
        machine.ask("ping")


def test_a_name_that_runs_is_taken_and_one_that_ended_is_free(hypervisor: Hypervisor) -> None:
    with vm.running("a", hypervisor.boot) as first:
        with pytest.raises(UsageError, match="the machine 'a' is running already") as caught:
            vm.start("a", hypervisor.boot)
        assert caught.value.hint is not None
        assert "sentinel vm down --vm a" in caught.value.hint
        assert first.alive()
    assert not first.alive()
    with vm.running("a", hypervisor.boot) as second:
        assert second.ended() is None


def test_a_machine_ends_with_its_block_whatever_happens_in_it(hypervisor: Hypervisor) -> None:
    with pytest.raises(KeyboardInterrupt), vm.running("a", hypervisor.boot):
        raise KeyboardInterrupt
    assert vm.find("a").ended() == "destroyed"
    assert not hypervisor.qemu_runs()


def test_a_wanted_port_that_is_in_use_is_told_and_nothing_stays(hypervisor: Hypervisor) -> None:
    hypervisor.behave(busy_ports=[2222])
    with pytest.raises(InfrastructureError, match="port 2222 is in use on this host") as caught:
        vm.start("a", hypervisor.boot, ssh_port=2222)
    assert caught.value.hint is not None
    assert "sport = 2222" in caught.value.hint
    assert caught.value.log == vm.vms_root() / "a" / "keeper.log"
    assert not vm.find("a").alive()
    assert not hypervisor.qemu_runs()
    assert list((hypervisor.runtime).glob("*/*")) == []


def test_what_libvirt_refuses_is_told_in_one_line(hypervisor: Hypervisor) -> None:
    hypervisor.behave(create="process exited:\n  qemu: no such CPU")
    with pytest.raises(InfrastructureError) as caught:
        vm.start("a", hypervisor.boot)
    assert caught.value.message == ("libvirt could not start the machine: process exited: qemu: no such CPU")
    hypervisor.behave(open="no driver")
    with pytest.raises(InfrastructureError, match="libvirt does not open qemu:///embed") as caught:
        vm.start("a", hypervisor.boot)
    assert caught.value.hint == "apt-get install libvirt-daemon-system"


def test_a_keeper_that_dies_silently_is_told_with_its_log(
    hypervisor: Hypervisor, monkeypatch: pytest.MonkeyPatch, programs: Programs
) -> None:
    monkeypatch.setattr(sys, "executable", str(programs.shell("keeper", "echo 'Traceback' >&2; exit 1")))
    with pytest.raises(
        InfrastructureError, match=r"^the keeper of the machine a stopped without a word$"
    ) as caught:
        vm.start("a", hypervisor.boot)
    assert caught.value.log is not None
    assert caught.value.log.read_text() == "Traceback\n"
    assert programs.calls[-1] == f"keeper -m testbed.vm.supervisor {vm.vms_root() / 'a'}"


def test_a_keeper_that_says_nothing_is_given_up(
    hypervisor: Hypervisor, monkeypatch: pytest.MonkeyPatch, programs: Programs
) -> None:
    monkeypatch.setattr(vm, "_START_WITHIN", 0.2)
    monkeypatch.setattr(sys, "executable", str(programs.shell("keeper", "cat >/dev/null")))
    with pytest.raises(InfrastructureError, match=r"said nothing for 0 s$"):
        vm.start("a", hypervisor.boot)


def test_a_machine_too_large_for_the_host_is_refused(
    hypervisor: Hypervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("testbed.machine.host_available", lambda: 1 << 20)
    with pytest.raises(InfrastructureError, match=r"this host has 0\.0 GiB available"):
        vm.start("a", hypervisor.boot)
    assert hypervisor.calls == []


def test_a_missing_qemu_img_names_its_package(hypervisor: Hypervisor, programs: Programs) -> None:
    (programs.folder / "qemu-img").unlink()
    programs.alone("ssh-keygen")
    with pytest.raises(InfrastructureError, match="qemu-img is not installed") as caught:
        vm.start("a", hypervisor.boot)
    assert caught.value.hint == "apt-get install qemu-utils"
    assert list(hypervisor.runtime.glob("*/*")) == []


def test_an_orphan_of_a_killed_keeper_is_reaped(hypervisor: Hypervisor) -> None:
    machine = vm.start("a", hypervisor.boot)
    runtime = Path(machine.order["runtime"])
    assert machine._keeper is not None
    machine._keeper.kill()
    machine._keeper.wait()
    assert eventually(lambda: not machine.alive())
    assert machine.ended() == "its keeper was killed"
    assert hypervisor.qemu_runs()
    assert vm.reap() == ["a"]
    assert eventually(lambda: not hypervisor.qemu_runs())
    assert not runtime.exists()
    assert json.loads((machine.folder / "ended.json").read_text())["why"] == "its keeper was killed"
    assert vm.reap() == []


def test_reaping_leaves_running_and_ended_machines_alone(hypervisor: Hypervisor) -> None:
    make_folder("gone", ended="shut down")
    with vm.running("a", hypervisor.boot) as machine:
        assert vm.reap() == []
        assert machine.alive()
        assert hypervisor.qemu_runs()
    assert vm.find("gone").ended() == "shut down"


def test_a_damaged_order_does_not_stop_the_reaper() -> None:
    folder = make_folder("a", ended=None)
    (folder / "order.json").write_text("{")
    make_folder("b", ended=None)
    assert vm.reap() == ["b"]


def test_starting_reaps_first(hypervisor: Hypervisor) -> None:
    machine = vm.start("a", hypervisor.boot)
    orphan = hypervisor.qemu
    assert machine._keeper is not None
    machine._keeper.kill()
    machine._keeper.wait()
    with vm.running("a", hypervisor.boot):
        assert eventually(lambda: not running(orphan))
        assert hypervisor.qemu_runs()
        assert hypervisor.qemu != orphan


def test_a_machine_let_go_of_outlives_the_handle(hypervisor: Hypervisor) -> None:
    machine = vm.start("a", hypervisor.boot)
    machine.detach()
    assert vm.find_running("a").ask("ping") == {"ok": True}
    vm.find("a").down()
    assert not hypervisor.qemu_runs()


def test_saving_moves_memory_disk_and_console_and_ends_the_machine(
    hypervisor: Hypervisor, tmp_path: Path
) -> None:
    machine = vm.start("a", hypervisor.boot)
    machine.console_path.write_text("booted\n")
    to = tmp_path / "saved"
    to.mkdir()
    saved = machine.save(to)
    assert saved.memory.read_text() == "memory"
    assert saved.disk.exists()
    assert saved.boot == hypervisor.boot
    assert (saved.name, saved.uuid) == ("sentinel-a", machine.order["uuid"])
    assert machine.ended() == "saved"
    assert not hypervisor.qemu_runs()
    with vm.running("b", saved) as restored:
        assert restored.order["name"] == "sentinel-a"  # a restored domain keeps its name and UUID
        assert restored.order["uuid"] == saved.uuid
        assert f"restore {saved.memory} flags=2" in hypervisor.calls
        assert restored.console_path.read_text() == "booted\n"
    assert saved.disk.exists()  # as often as one likes


def test_a_machine_that_cannot_be_saved_runs_on(hypervisor: Hypervisor, tmp_path: Path) -> None:
    hypervisor.behave(save="migration is blocked")
    with vm.running("a", hypervisor.boot) as machine:
        with pytest.raises(InfrastructureError, match="save of the machine a failed: migration is blocked"):
            machine.save(tmp_path)
        assert machine.ended() is None
        assert hypervisor.qemu_runs()
        assert machine.ask("ping") == {"ok": True}


def test_what_a_machine_uses_is_not_pruned_while_it_runs(hypervisor: Hypervisor) -> None:
    cache = Cache()
    kernel = cache.build("kernel", "k", lambda folder: {})
    boot = vm.Boot(MACHINE, hypervisor.boot.kernel, hypervisor.boot.image, "tcg", (kernel,))
    with vm.running("a", boot) as machine:
        assert vm.load_boot(machine.order) == boot
        assert [entry.key for entry in cache.prune().busy] == ["k"]
    assert [entry.key for entry in cache.prune().removed] == ["k"]


def other_owner(parent: Path) -> None:
    parent.mkdir(mode=0o700)
    os.chown(parent, 4711, 4711)


def link(parent: Path) -> None:
    parent.symlink_to("/tmp")


def open_to_all(parent: Path) -> None:
    parent.mkdir()
    parent.chmod(0o777)


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (other_owner, "is not a folder of this user's"),
        (link, "is not a folder of this user's"),
        (Path.touch, "no folder can be made there: File exists"),
        (open_to_all, "others can write there"),
    ],
)
def test_a_runtime_folder_that_is_not_private_is_refused(
    hypervisor: Hypervisor, prepare: Callable[[Path], None], message: str
) -> None:
    if prepare is other_owner and os.getuid() != 0:
        pytest.skip("only root can give a folder away")
    parent = hypervisor.runtime / f"sentinel-{getpass.getuser()}"
    prepare(parent)
    with pytest.raises(UsageError, match=f"{parent}: {message}"):
        vm.start("a", hypervisor.boot)
    assert hypervisor.calls == []


@pytest.mark.parametrize("variable", ["XDG_RUNTIME_DIR", "TMPDIR"])
def test_a_runtime_folder_too_long_for_sockets_is_refused(
    hypervisor: Hypervisor, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    deep = hypervisor.runtime / ("d" * 60)
    deep.mkdir()
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.setenv(variable, str(deep))
    monkeypatch.setattr("tempfile.tempdir", None)
    with pytest.raises(UsageError, match=r"is \d+ bytes too long for the sockets") as e:
        vm.start("a", hypervisor.boot)
    assert e.value.hint == f"set {variable} to a shorter path"


def with_kernel(hypervisor: Hypervisor, size: int = 1000) -> vm.Boot:
    def make(folder: Path) -> dict[str, Any]:
        (folder / "bzImage").write_bytes(b"k" * size)
        return {}

    kernel = Cache().build("kernel", "k", make)
    return vm.Boot(MACHINE, kernel.path / "bzImage", hypervisor.boot.image, "tcg", (kernel,))


def test_a_damaged_kernel_is_not_started(hypervisor: Hypervisor) -> None:
    boot = with_kernel(hypervisor)
    boot.kernel.write_bytes(b"x" * 1000)
    with pytest.raises(InfrastructureError, match=r"kernel/k is damaged: bzImage: its content is not") as e:
        vm.start("a", boot)
    assert e.value.hint == "try again: it is built anew"
    assert Cache().get("kernel", "k") is None
    assert hypervisor.calls == []
    with_kernel(hypervisor)
    assert boot.kernel.read_bytes() == b"k" * 1000


def test_a_machine_that_libvirt_refuses_for_a_damaged_artefact_says_so(hypervisor: Hypervisor) -> None:
    boot = with_kernel(hypervisor)
    boot.kernel.write_bytes(b"k")
    hypervisor.behave(create="cannot load the kernel")
    with pytest.raises(InfrastructureError, match="bzImage: it has 1 bytes, and was built with 1000"):
        vm.start("a", boot)


def test_a_preview_starts_and_makes_nothing(hypervisor: Hypervisor) -> None:
    tree = lxml.etree.fromstring(vm.preview("a", hypervisor.boot).encode())
    assert tree.findtext("name") == "sentinel-a"
    assert tree.find("devices/disk/source").get("file") == str(vm.vms_root() / "a" / "disk.qcow2")
    assert hypervisor.calls == []
    assert not vm.vms_root().exists()


def test_a_preview_of_a_saved_machine_has_its_name(hypervisor: Hypervisor) -> None:
    saved = Saved(
        boot=hypervisor.boot,
        memory=Path("/m"),
        disk=Path("/d"),
        console=Path("/c"),
        name="sentinel-was",
        uuid="4dea22b3-1d52-4d8f-9e5a-0123456789ab",
    )
    tree = lxml.etree.fromstring(vm.preview("b", saved).encode())
    assert (tree.findtext("name"), tree.findtext("uuid")) == (saved.name, saved.uuid)


class Booting(Vm):
    """A machine whose console a test writes, with short limits."""

    @property
    def limits(self) -> Limits:
        return Limits(boot=0.6, silence=0.3)


@pytest.fixture
def booting() -> Booting:
    return Booting("a", make_folder("a"))


def test_a_booting_guest_is_waited_for(booting: Booting) -> None:
    with files.locked(booting.folder / "lock"):
        booting.console_path.write_text("[1.0] booting\n")

        def come_up() -> None:
            with booting.console_path.open("a") as f:
                f.write("sentinel: guest ready\n")

        timer = threading.Timer(0.1, come_up)
        timer.start()
        booting.wait_ready()
        timer.join()


def test_a_booting_guest_that_panics_is_told_at_once(booting: Booting) -> None:
    with files.locked(booting.folder / "lock"):
        booting.console_path.write_text("Kernel panic - not syncing: VFS: Unable to mount root fs\n")
        with pytest.raises(GuestPanicError, match="Unable to mount root"):
            booting.wait_ready()


@pytest.mark.parametrize("size", [900, 1000])
def test_a_boot_that_fails_for_a_damaged_image_is_no_fault_of_the_guest(size: int) -> None:
    def make(folder: Path) -> dict[str, Any]:
        (folder / "rootfs.ext4").write_bytes(b"i" * 1000)
        return {}

    entry = Cache().build("image", "i", make)
    booting = Booting("a", make_folder("a", cache=str(Cache().root), uses=[["image", "i"]]))
    with files.locked(booting.folder / "lock"):
        booting.console_path.write_text("Kernel panic - not syncing: Attempted to kill init!\n")
        with pytest.raises(GuestPanicError):  # the artefacts are well
            booting.wait_ready()
        (entry.path / "rootfs.ext4").write_bytes(b"x" * size)
        with pytest.raises(
            InfrastructureError, match=r"image/i is damaged: rootfs.*; with it the guest.*init"
        ) as e:
            booting.wait_ready()
    assert e.value.log == booting.console_path
    assert Cache().get("image", "i") is None


def test_a_restored_machine_that_cannot_be_reached_may_be_a_damaged_snapshot() -> None:
    def make(folder: Path) -> dict[str, Any]:
        (folder / "memory").write_bytes(b"m" * 1000)
        return {}

    entry = Cache().build("snapshot", "s", make)
    restored = Booting("a", make_folder("a", cache=str(Cache().root), uses=[["snapshot", "s"]]))
    (entry.path / "memory").write_bytes(b"x" * 1000)
    with pytest.raises(InfrastructureError, match="snapshot/s is damaged: memory: its"), restored.shell():
        pytest.fail("there is nobody to talk to")


def test_a_booting_guest_that_falls_silent_hangs(booting: Booting) -> None:
    with files.locked(booting.folder / "lock"):
        booting.console_path.write_text("[1.0] booting\n")
        with pytest.raises(GuestHangError, match="no output"):
            booting.wait_ready()


def test_a_guest_that_talks_but_never_gets_ready_failed_to_boot(
    booting: Booting, monkeypatch: pytest.MonkeyPatch
) -> None:
    def talk(_seconds: float) -> None:
        with booting.console_path.open("a") as f:
            f.write("still booting\n")

    monkeypatch.setattr("time.sleep", talk)
    with (
        files.locked(booting.folder / "lock"),
        pytest.raises(BootError, match="was not ready within") as caught,
    ):
        booting.wait_ready()
    assert caught.value.log == booting.console_path


def test_a_booting_guest_whose_machine_is_gone_is_not_waited_for(booting: Booting) -> None:
    booting.console_path.write_text("")
    with pytest.raises(InfrastructureError, match="the machine is gone: destroyed"):
        booting.wait_ready()


def test_a_session_with_a_machine_that_is_gone_says_why(booting: Booting) -> None:
    with pytest.raises(InfrastructureError, match="the machine is gone: destroyed"), booting.shell():
        pytest.fail("there is nobody to talk to")


def test_a_keeper_that_ignores_everything_is_killed(
    hypervisor: Hypervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = vm.start("a", hypervisor.boot)
    assert machine._keeper is not None
    os.kill(machine._keeper.pid, signal.SIGSTOP)
    clock = iter(range(0, 10_000, 10))
    monkeypatch.setattr("time.monotonic", lambda: float(next(clock)))
    monkeypatch.setattr(Vm, "ask", lambda *_, **__: {"ok": True})
    machine._keeper = None
    machine.down()
    assert not machine.alive()
    assert eventually(lambda: not hypervisor.qemu_runs())
