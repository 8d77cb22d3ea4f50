# SPDX-License-Identifier: Apache-2.0
"""Start, find, save and end machines, and clean up after killed supervisors."""

from __future__ import annotations

import getpass
import json
import os
import signal
import sys
import threading
import time
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
from testbed.vm import Boot, SavedVm, Vm, launch, store
from tests.fakes.hypervisor import MACHINE, Hypervisor, eventually, running
from tests.fakes.programs import Programs


def make_folder(name: str, *, ended: str | None = "destroyed", **config: Any) -> Path:
    """Create the folder of an ended machine."""
    folder = vm.vms_root() / name
    full = {
        "accelerator": "tcg",
        "disk": str(folder / "disk.qcow2"),
        "runtime": str(folder / "runtime"),
        "machine": MACHINE.model_dump(mode="json"),
        "kernel": "/k",
        "uses": [],
        **config,
    }
    files.write_json(folder / "config.json", full)
    files.write_json(folder / "guest.json", {"port": 2222, "supervisor": 1})
    if ended is not None:
        files.write_json(folder / "ended.json", {"why": ended, "at": 0})
    return folder


@pytest.mark.parametrize("name", ["", "A", "a_b", "a.b", "-a", "../a", "a b", "a/b", "ä", "a" * 41, "a\n"])
def test_invalid_name_is_refused_before_anything_is_created(hypervisor: Hypervisor, name: str) -> None:
    with pytest.raises(UsageError, match="is not a valid machine name") as caught:
        vm.start(name, hypervisor.boot)
    assert caught.value.hint == "use lower-case letters, digits and dashes, at most 40 characters"
    assert not vm.vms_root().exists()


@pytest.mark.parametrize("name", ["a", "0", "a-b-1", "a" * 40])
def test_valid_name_is_accepted(name: str) -> None:
    store.check_name(name)


def test_unknown_machine_lists_the_existing_ones() -> None:
    with pytest.raises(UsageError, match=r"^no machine 'c'; existing machines: none$"):
        vm.find("c")
    make_folder("b")
    make_folder("a")
    with pytest.raises(UsageError, match=r"^no machine 'c'; existing machines: a, b$") as caught:
        vm.find("c")
    assert caught.value.hint == "sentinel vm up"
    assert [machine.name for machine in vm.all_vms()] == ["a", "b"]


def test_ended_machine_is_found_but_not_running() -> None:
    folder = make_folder("a", ended="QEMU died")
    machine = vm.find("a")
    assert (machine.folder, machine.port, machine.accelerator) == (folder, 2222, "tcg")
    assert machine.end_reason() == "QEMU died"
    with pytest.raises(UsageError, match=r"^the machine 'a' is not running: QEMU died$") as caught:
        vm.find_running("a")
    assert caught.value.log == folder / "console.log"


def test_machine_runs_while_its_supervisor_holds_the_lock() -> None:
    folder = make_folder("a")
    with files.locked(folder / "lock"):
        assert vm.find_running("a").alive()
        assert vm.find("a").end_reason() is None
    assert not vm.find("a").alive()


def test_missing_end_record_means_a_killed_supervisor() -> None:
    make_folder("a", ended=None)
    assert vm.find("a").end_reason() == "its supervisor was killed"


def test_start_request_and_down(hypervisor: Hypervisor) -> None:
    machine = vm.start("a", hypervisor.boot)
    assert machine.alive()
    assert hypervisor.qemu_runs()
    order = machine.config
    assert (order["name"], order["accelerator"], order["restore"]) == ("sentinel-a", "tcg", None)
    assert 1024 <= machine.port < 65536
    assert f"monitor hostfwd_add hostnet0 tcp:127.0.0.1:{machine.port}-:22" in hypervisor.calls
    assert vm.find_running("a").request("ping") == {"ok": True}
    assert machine.request("monitor", command="info status")["output"] == "answer to info status\r\n"
    with pytest.raises(
        InfrastructureError, match="request 'monitor' to machine 'a' failed: unable to execute QEMU"
    ):
        machine.request("monitor", command="fail")
    with pytest.raises(
        InfrastructureError, match="request 'dance' to machine 'a' failed: unknown request 'dance'"
    ):
        machine.request("dance")
    runtime = Path(order["runtime"])
    assert runtime.stat().st_mode & 0o777 == 0o700
    assert runtime.is_relative_to(hypervisor.runtime)
    machine.down()
    assert not machine.alive()
    assert not hypervisor.qemu_runs()
    assert machine.end_reason() == "destroyed"
    assert not (machine.folder / "disk.qcow2").exists()
    assert not runtime.exists()
    machine.down()  # does nothing
    with pytest.raises(InfrastructureError, match="the supervisor of 'a' does not answer"):
        machine.request("ping")


def test_name_is_free_again_after_the_end(hypervisor: Hypervisor) -> None:
    with vm.running("a", hypervisor.boot) as first:
        with pytest.raises(UsageError, match="the machine 'a' is already running") as caught:
            vm.start("a", hypervisor.boot)
        assert caught.value.hint is not None
        assert "sentinel vm down --vm a" in caught.value.hint
        assert first.alive()
    assert not first.alive()
    with vm.running("a", hypervisor.boot) as second:
        assert second.end_reason() is None


def test_machine_ends_with_its_block(hypervisor: Hypervisor) -> None:
    with pytest.raises(KeyboardInterrupt), vm.running("a", hypervisor.boot):
        raise KeyboardInterrupt
    assert vm.find("a").end_reason() == "destroyed"
    assert not hypervisor.qemu_runs()


def test_requested_port_in_use_undoes_the_start(hypervisor: Hypervisor) -> None:
    hypervisor.behave(busy_ports=[2222])
    with pytest.raises(InfrastructureError, match="port 2222 is in use on this host") as caught:
        vm.start("a", hypervisor.boot, ssh_port=2222)
    assert caught.value.hint is not None
    assert "sport = 2222" in caught.value.hint
    assert caught.value.log == vm.vms_root() / "a" / "supervisor.log"
    assert not vm.find("a").alive()
    assert not hypervisor.qemu_runs()
    assert list((hypervisor.runtime).glob("*/*")) == []


def test_libvirt_error_is_one_line(hypervisor: Hypervisor) -> None:
    hypervisor.behave(create="process exited:\n  qemu: no such CPU")
    with pytest.raises(InfrastructureError) as caught:
        vm.start("a", hypervisor.boot)
    assert caught.value.message == ("libvirt could not start the machine: process exited: qemu: no such CPU")
    hypervisor.behave(open="no driver")
    with pytest.raises(InfrastructureError, match="cannot open libvirt at qemu:///embed") as caught:
        vm.start("a", hypervisor.boot)
    assert caught.value.hint == "apt-get install libvirt-daemon-system"


def test_supervisor_that_exits_silently_is_reported_with_its_log(
    hypervisor: Hypervisor, monkeypatch: pytest.MonkeyPatch, programs: Programs
) -> None:
    monkeypatch.setattr(sys, "executable", str(programs.shell("supervisor", "echo 'Traceback' >&2; exit 1")))
    with pytest.raises(
        InfrastructureError, match=r"^the supervisor of machine 'a' exited without reporting a status$"
    ) as caught:
        vm.start("a", hypervisor.boot)
    assert caught.value.log is not None
    assert caught.value.log.read_text() == "Traceback\n"
    assert programs.calls[-1] == f"supervisor -m testbed.vm.supervisor {vm.vms_root() / 'a'}"


def test_silent_supervisor_times_out(
    hypervisor: Hypervisor, monkeypatch: pytest.MonkeyPatch, programs: Programs
) -> None:
    monkeypatch.setattr(launch, "_START_WITHIN", 0.2)
    monkeypatch.setattr(sys, "executable", str(programs.shell("supervisor", "cat >/dev/null")))
    with pytest.raises(InfrastructureError, match=r"reported nothing for 0 s$"):
        vm.start("a", hypervisor.boot)


def test_machine_larger_than_the_host_is_refused(
    hypervisor: Hypervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("testbed.host.memory.available", lambda: 1 << 20)
    with pytest.raises(InfrastructureError, match=r"this host has 0\.0 GiB available"):
        vm.start("a", hypervisor.boot)
    assert hypervisor.calls == []


def test_missing_qemu_img_names_its_package(hypervisor: Hypervisor, programs: Programs) -> None:
    (programs.folder / "qemu-img").unlink()
    programs.alone("ssh-keygen")
    with pytest.raises(InfrastructureError, match="qemu-img is not installed") as caught:
        vm.start("a", hypervisor.boot)
    assert caught.value.hint == "apt-get install qemu-utils"
    assert list(hypervisor.runtime.glob("*/*")) == []


def test_orphan_of_a_killed_supervisor_is_reaped(hypervisor: Hypervisor) -> None:
    machine = vm.start("a", hypervisor.boot)
    runtime = Path(machine.config["runtime"])
    assert machine.supervisor is not None
    machine.supervisor.kill()
    machine.supervisor.wait()
    assert eventually(lambda: not machine.alive())
    assert machine.end_reason() == "its supervisor was killed"
    assert hypervisor.qemu_runs()
    assert vm.reap() == ["a"]
    assert eventually(lambda: not hypervisor.qemu_runs())
    assert not runtime.exists()
    assert json.loads((machine.folder / "ended.json").read_text())["why"] == "its supervisor was killed"
    assert vm.reap() == []


def test_reap_leaves_running_and_ended_machines_alone(hypervisor: Hypervisor) -> None:
    make_folder("gone", ended="shut down")
    with vm.running("a", hypervisor.boot) as machine:
        assert vm.reap() == []
        assert machine.alive()
        assert hypervisor.qemu_runs()
    assert vm.find("gone").end_reason() == "shut down"


def test_reap_forgets_machines_of_commands_that_ended_long_ago() -> None:
    now = time.time()
    for name, ended, owned in (
        ("old", now - 90_000, True),
        ("new", now, True),
        ("kept", now - 90_000, False),
    ):
        folder = make_folder(name, ended="shut down")
        (folder / "ended.json").write_text(json.dumps({"why": "shut down", "at": ended}))
        if owned:
            (folder / "owner.json").write_text('{"pid": 1}')
    assert vm.reap() == []
    assert [machine.name for machine in vm.all_vms()] == ["kept", "new"]


def test_reap_skips_unreadable_configurations() -> None:
    folder = make_folder("a", ended=None)
    (folder / "config.json").write_text("{")
    make_folder("b", ended=None)
    assert vm.reap() == ["b"]


def test_start_reaps_first(hypervisor: Hypervisor) -> None:
    machine = vm.start("a", hypervisor.boot)
    orphan = hypervisor.qemu
    assert machine.supervisor is not None
    machine.supervisor.kill()
    machine.supervisor.wait()
    with vm.running("a", hypervisor.boot):
        assert eventually(lambda: not running(orphan))
        assert hypervisor.qemu_runs()
        assert hypervisor.qemu != orphan


def test_detached_machine_outlives_the_handle(hypervisor: Hypervisor) -> None:
    machine = vm.start("a", hypervisor.boot)
    machine.detach()
    assert vm.find_running("a").request("ping") == {"ok": True}
    vm.find("a").down()
    assert not hypervisor.qemu_runs()


def test_save_moves_memory_disk_and_console(hypervisor: Hypervisor, tmp_path: Path) -> None:
    machine = vm.start("a", hypervisor.boot)
    machine.console_path.write_text("booted\n")
    to = tmp_path / "saved"
    to.mkdir()
    saved = machine.save(to)
    assert saved.memory.read_text() == "memory"
    assert saved.disk.exists()
    assert saved.boot == hypervisor.boot
    assert (saved.name, saved.uuid) == ("sentinel-a", machine.config["uuid"])
    assert machine.end_reason() == "saved"
    assert not hypervisor.qemu_runs()
    with vm.running("b", saved) as restored:
        assert restored.config["name"] == "sentinel-a"  # a restored domain keeps its name and UUID
        assert restored.config["uuid"] == saved.uuid
        assert f"restore {saved.memory} flags=2" in hypervisor.calls
        assert restored.console_path.read_text() == "booted\n"
    assert saved.disk.exists()  # a snapshot can be restored again


def test_machine_that_cannot_be_saved_runs_on(hypervisor: Hypervisor, tmp_path: Path) -> None:
    hypervisor.behave(save="migration is blocked")
    with vm.running("a", hypervisor.boot) as machine:
        with pytest.raises(
            InfrastructureError, match="request 'save' to machine 'a' failed: migration is blocked"
        ):
            machine.save(tmp_path)
        assert machine.end_reason() is None
        assert hypervisor.qemu_runs()
        assert machine.request("ping") == {"ok": True}


def test_artefacts_in_use_are_not_pruned(hypervisor: Hypervisor) -> None:
    cache = Cache()
    kernel = cache.build("kernel", "k", lambda folder: {})
    boot = vm.Boot(MACHINE, hypervisor.boot.kernel, hypervisor.boot.image, "tcg", (kernel,))
    with vm.running("a", boot) as machine:
        assert Boot.from_json(machine.config, cache=cache) == boot
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
        (other_owner, "not a folder that this user owns"),
        (link, "not a folder that this user owns"),
        (Path.touch, "cannot create a folder there: File exists"),
        (open_to_all, "writable by other users"),
    ],
)
def test_runtime_folder_must_be_private(
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
def test_runtime_folder_must_fit_socket_paths(
    hypervisor: Hypervisor, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    deep = hypervisor.runtime / ("d" * 60)
    deep.mkdir()
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.setenv(variable, str(deep))
    monkeypatch.setattr("tempfile.tempdir", None)
    with pytest.raises(UsageError, match=r"too long for the paths of sockets, by \d+ bytes") as e:
        vm.start("a", hypervisor.boot)
    assert e.value.hint == f"set {variable} to a shorter path"


def with_kernel(hypervisor: Hypervisor, size: int = 1000) -> vm.Boot:
    def make(folder: Path) -> dict[str, Any]:
        (folder / "bzImage").write_bytes(b"k" * size)
        return {}

    kernel = Cache().build("kernel", "k", make)
    return vm.Boot(MACHINE, kernel.path / "bzImage", hypervisor.boot.image, "tcg", (kernel,))


def test_damaged_kernel_is_not_started(hypervisor: Hypervisor) -> None:
    boot = with_kernel(hypervisor)
    boot.kernel.write_bytes(b"x" * 1000)
    with pytest.raises(InfrastructureError, match=r"kernel/k is damaged: bzImage: its content is not") as e:
        vm.start("a", boot)
    assert e.value.hint == "run the command again to rebuild it"
    assert Cache().get("kernel", "k") is None
    assert hypervisor.calls == []
    with_kernel(hypervisor)
    assert boot.kernel.read_bytes() == b"k" * 1000


def test_failed_start_blames_a_damaged_artefact(hypervisor: Hypervisor) -> None:
    boot = with_kernel(hypervisor)
    boot.kernel.write_bytes(b"k")
    hypervisor.behave(create="cannot load the kernel")
    with pytest.raises(InfrastructureError, match="bzImage: it has 1 bytes, and was built with 1000"):
        vm.start("a", boot)


def test_preview_creates_nothing(hypervisor: Hypervisor) -> None:
    tree = lxml.etree.fromstring(vm.preview("a", hypervisor.boot).encode())
    assert tree.findtext("name") == "sentinel-a"
    assert tree.find("devices/disk/source").get("file") == str(vm.vms_root() / "a" / "disk.qcow2")
    assert hypervisor.calls == []
    assert not vm.vms_root().exists()


def test_preview_of_a_saved_machine_keeps_its_name(hypervisor: Hypervisor) -> None:
    saved = SavedVm(
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
    """A machine with short limits whose console the test writes."""

    @property
    def limits(self) -> Limits:
        return Limits(boot=0.6, silence=0.3)


@pytest.fixture
def booting() -> Booting:
    return Booting("a", make_folder("a"))


def test_wait_ready_returns_when_the_guest_is_ready(booting: Booting) -> None:
    with files.locked(booting.folder / "lock"):
        booting.console_path.write_text("[1.0] booting\n")

        def come_up() -> None:
            with booting.console_path.open("a") as f:
                f.write("sentinel: guest ready\n")

        timer = threading.Timer(0.1, come_up)
        timer.start()
        booting.wait_ready()
        timer.join()


def test_wait_ready_raises_a_panic_at_once(booting: Booting) -> None:
    with files.locked(booting.folder / "lock"):
        booting.console_path.write_text("Kernel panic - not syncing: VFS: Unable to mount root fs\n")
        with pytest.raises(GuestPanicError, match="Unable to mount root"):
            booting.wait_ready()


@pytest.mark.parametrize("size", [900, 1000])
def test_failed_boot_blames_a_damaged_image(size: int) -> None:
    def make(folder: Path) -> dict[str, Any]:
        (folder / "rootfs.ext4").write_bytes(b"i" * 1000)
        return {}

    entry = Cache().build("image", "i", make)
    booting = Booting("a", make_folder("a", cache=str(Cache().root), uses=[["image", "i"]]))
    with files.locked(booting.folder / "lock"):
        booting.console_path.write_text("Kernel panic - not syncing: Attempted to kill init!\n")
        with pytest.raises(GuestPanicError):  # no artefact is damaged
            booting.wait_ready()
        (entry.path / "rootfs.ext4").write_bytes(b"x" * size)
        with pytest.raises(
            InfrastructureError, match=r"image/i is damaged: rootfs.* \(guest kernel: .*init"
        ) as e:
            booting.wait_ready()
    assert e.value.log == booting.console_path
    assert Cache().get("image", "i") is None


def test_failed_restore_blames_a_damaged_snapshot() -> None:
    def make(folder: Path) -> dict[str, Any]:
        (folder / "memory").write_bytes(b"m" * 1000)
        return {}

    entry = Cache().build("snapshot", "s", make)
    restored = Booting("a", make_folder("a", cache=str(Cache().root), uses=[["snapshot", "s"]]))
    (entry.path / "memory").write_bytes(b"x" * 1000)
    with pytest.raises(InfrastructureError, match="snapshot/s is damaged: memory: its"), restored.shell():
        pytest.fail("connected to nothing")


def test_silent_boot_is_a_hang(booting: Booting) -> None:
    with files.locked(booting.folder / "lock"):
        booting.console_path.write_text("[1.0] booting\n")
        with pytest.raises(GuestHangError, match="no output"):
            booting.wait_ready()


def test_boot_that_never_gets_ready_is_a_boot_error(
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


def test_wait_ready_raises_when_the_machine_ended(booting: Booting) -> None:
    booting.console_path.write_text("")
    with pytest.raises(InfrastructureError, match="the machine ended: destroyed"):
        booting.wait_ready()


def test_shell_of_an_ended_machine_gives_the_reason(booting: Booting) -> None:
    with pytest.raises(InfrastructureError, match="the machine ended: destroyed"), booting.shell():
        pytest.fail("connected to nothing")


def test_stopped_supervisor_is_killed(hypervisor: Hypervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = vm.start("a", hypervisor.boot)
    assert machine.supervisor is not None
    os.kill(machine.supervisor.pid, signal.SIGSTOP)
    clock = iter(range(0, 10_000, 10))
    machine.supervisor = None
    with monkeypatch.context() as fast:
        fast.setattr("time.monotonic", lambda: float(next(clock)))
        fast.setattr(Vm, "request", lambda *_, **__: {"ok": True})
        machine.down()
    assert not machine.alive()
    assert eventually(lambda: not hypervisor.qemu_runs())
