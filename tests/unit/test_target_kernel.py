# SPDX-License-Identifier: Apache-2.0
"""Kernels on real machines: installed, booted once, removed; refused, failing, interrupted at every step."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import pytest

from experiments import target_kernel
from kernel.build import Kernel
from kernel.machine_config import MachineConfig
from testbed.common.cache_entry import Entry
from testbed.common.errors import InfrastructureError, LostConnectionError, SentinelError, UsageError
from testbed.guestlink.local import LocalShell
from testbed.guestlink.shell import Result
from testbed.targets.kernel import checks, cmdline, install, own, reboot
from testbed.targets.kernel import state as states
from testbed.targets.kernel.install import Parcel
from testbed.targets.kernel.own import OwnKernel
from testbed.targets.kernel.places import Places
from testbed.targets.kernel.state import BootState
from testbed.targets.machine import TargetMachine
from testbed.targets.spec import Target
from tests.fakes.grub_machine import OWN, GrubMachine
from tests.fakes.programs import Programs
from tests.fakes.ssh_server import SshServer
from tests.fakes.targets import OPTANE, behind_ssh

RELEASE, NEWER = "6.1.192-sentinel-0123456789ab", "6.1.192-sentinel-ba9876543210"
Run = Callable[..., tuple[int, str, str]]
FIT = BootState(
    release=OWN,
    cmdline="root=/dev/sda1 ro",
    address_bits=46,
    menu=True,
    once=True,
    environment=("ext2",),
    boot_free=1 << 30,
    modules_free=1 << 30,
    initramfs=40 << 20,
    writable=True,
)


@pytest.fixture
def grub(tmp_path: Path, programs: Programs) -> GrubMachine:
    return GrubMachine(tmp_path / "root", programs)


@pytest.fixture
def machine(tmp_path: Path) -> TargetMachine:
    """This host's shell; `grub` has the files that it works on."""
    (tmp_path / "work").mkdir()
    return TargetMachine(Target(), LocalShell(), PurePosixPath(tmp_path / "work"), OPTANE)


@pytest.fixture
def parcel(tmp_path: Path) -> Parcel:
    return make_parcel(tmp_path / "built", RELEASE)


def make_parcel(folder: Path, release: str) -> Parcel:
    (folder / "modules" / "kernel" / "fs").mkdir(parents=True)
    (folder / "bzImage").write_text(f"kernel {release}")
    (folder / "config").write_text("CONFIG_PAGE_PROFILE=y\n")
    (folder / "modules" / "kernel" / "fs" / "ext4.ko").write_text("module")
    its_own = OwnKernel("CONFIG_SMP=y\n", frozenset({"nvme", "ext4"}))
    return Parcel(release, folder / "bzImage", folder / "config", folder / "modules", its_own)


_T = TypeVar("_T")


class Faulty(LocalShell):
    """A shell that fails at its n-th operation, before or after that has been done."""

    def __init__(self, at: int, error: BaseException, *, after: bool = False) -> None:
        super().__init__()
        self.done = 0
        self._at, self._error, self._after = at, error, after

    def _guarded(self, operation: Callable[[], _T]) -> _T:
        self.done += 1
        if self.done == self._at and not self._after:
            raise self._error
        result = operation()
        if self.done == self._at:
            raise self._error
        return result

    def run(self, *words: Any, **options: Any) -> Result:
        return self._guarded(lambda: self._run(*words, **options))

    def _run(self, command: str, *, timeout: float, check: bool = True, stdin: str = "") -> Result:
        done = subprocess.run(
            ["sh", "-c", command], input=stdin, capture_output=True, text=True, timeout=timeout, check=check
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def put(self, source: Path, target: str) -> None:
        self._guarded(lambda: super(Faulty, self).put(source, target))


def test_installed_kernel_has_a_boot_entry_and_is_not_the_default(
    grub: GrubMachine, machine: TargetMachine, parcel: Parcel
) -> None:
    before = grub.tree()
    assert install.install(machine, parcel, default=False, places=grub.places)
    folder = grub.root / "boot/sentinel" / RELEASE
    assert (folder / "vmlinuz").read_text() == f"kernel {RELEASE}"
    assert (folder / "initrd.img").read_text() == f"initramfs of {RELEASE}\n"
    assert (grub.root / f"boot/config-{RELEASE}").read_text() == "CONFIG_PAGE_PROFILE=y\n"
    modules = grub.root / "lib/modules" / RELEASE
    assert (modules / "kernel/fs/ext4.ko").read_text() == "module"
    assert (modules / "modules.dep").exists()
    assert (
        f"""menuentry 'Linux {RELEASE} (Sentinel)' --class gnu-linux --class os $menuentry_id_option \
'sentinel-{RELEASE}' {{
insmod gzio
insmod part_gpt
insmod ext2
search --no-floppy --fs-uuid --set=root 0-2
linux /boot/sentinel/{RELEASE}/vmlinuz root=UUID=0-1 ro quiet panic=30
initrd /boot/sentinel/{RELEASE}/initrd.img
}}
"""
        in grub.menu
    )
    assert grub.menu.index(OWN) < grub.menu.index(RELEASE)
    grub.boot()
    assert grub.running == OWN
    after = grub.tree()
    changed = {path for path in before if before[path] != after.get(path)}
    assert changed == {"boot/grub/grub.cfg"}
    new = after.keys() - before.keys()
    assert not [path for path in new if RELEASE not in path and "sentinel" not in path]
    assert not [path for path in new if ".new" in path or ".part" in path]


def test_removal_leaves_the_machine_as_it_was(
    grub: GrubMachine, machine: TargetMachine, parcel: Parcel
) -> None:
    before = grub.tree()
    install.install(machine, parcel, default=True, places=grub.places)
    assert grub.tree() != before
    assert install.remove(machine, places=grub.places) == [RELEASE]
    assert grub.tree() == before
    calls = len(grub.programs.calls)
    assert install.remove(machine, places=grub.places) == []
    assert grub.tree() == before
    assert not [call for call in grub.programs.calls[calls:] if call.startswith("update-grub")]


def test_removal_leaves_no_folder_that_installation_made(
    grub: GrubMachine, machine: TargetMachine, parcel: Parcel
) -> None:
    (grub.root / "etc/default/grub.d").rmdir()
    (grub.root / "boot/grub/grubenv").unlink()
    before = grub.tree()
    install.install(machine, parcel, default=True, places=grub.places)
    assert grub.tree()["etc/default/grub.d/99-sentinel.cfg"][1]
    install.remove(machine, places=grub.places)
    assert grub.tree() == before


def test_default_is_set_and_reset_on_request_only(
    grub: GrubMachine, machine: TargetMachine, parcel: Parcel
) -> None:
    install.install(machine, parcel, default=True, places=grub.places)
    assert f'set default="sentinel-{RELEASE}"' in grub.menu
    assert (grub.root / "etc/default/grub").read_text() == "GRUB_DEFAULT=0\n"
    assert install.install(machine, parcel, default=False, places=grub.places)
    assert 'set default="0"' in grub.menu
    assert not list((grub.root / "etc/default/grub.d").iterdir())


def test_second_installation_does_nothing(grub: GrubMachine, machine: TargetMachine, parcel: Parcel) -> None:
    install.install(machine, parcel, default=False, places=grub.places)
    before, calls = grub.tree(), len(grub.programs.calls)
    assert not install.install(machine, parcel, default=False, places=grub.places)
    assert grub.tree() == before
    assert {call.split()[0] for call in grub.programs.calls[calls:]} <= {"uname", "grub-probe"}


def test_another_kernel_replaces_the_installed_one(
    grub: GrubMachine, machine: TargetMachine, parcel: Parcel, tmp_path: Path
) -> None:
    install.install(machine, parcel, default=True, places=grub.places)
    install.install(machine, make_parcel(tmp_path / "newer", NEWER), default=True, places=grub.places)
    assert not [path for path, (_, text) in grub.tree().items() if RELEASE in path + (text or "")]
    assert f'set default="sentinel-{NEWER}"' in grub.menu


def test_kernel_that_runs_is_not_replaced_and_not_removed(
    grub: GrubMachine, machine: TargetMachine, parcel: Parcel, tmp_path: Path
) -> None:
    install.install(machine, parcel, default=True, places=grub.places)
    grub.boot()
    assert grub.running == RELEASE
    with pytest.raises(UsageError, match=f"runs {RELEASE}") as caught:
        install.remove(machine, places=grub.places)
    assert "grub-reboot 0 && reboot" in str(caught.value.hint)
    install.install(machine, make_parcel(tmp_path / "newer", NEWER), default=False, places=grub.places)
    assert set(states.read(machine.shell, grub.places).installed) == {RELEASE, NEWER}
    with pytest.raises(UsageError) as caught:
        install.remove(machine, places=grub.places)
    assert str(caught.value.hint).endswith(": reboot")
    grub.boot()
    assert install.remove(machine, places=grub.places) == [RELEASE, NEWER]


def test_kernel_without_modules_is_installed(
    grub: GrubMachine, machine: TargetMachine, parcel: Parcel
) -> None:
    before = grub.tree()
    guest = dataclasses.replace(parcel, modules=None, own=None)
    install.install(machine, guest, default=False, places=grub.places)
    assert not (grub.root / "lib/modules" / RELEASE).exists()
    install.remove(machine, places=grub.places)
    assert grub.tree() == before


def test_removal_resets_the_next_boot(grub: GrubMachine, machine: TargetMachine, parcel: Parcel) -> None:
    before = grub.tree()
    install.install(machine, parcel, default=False, places=grub.places)
    grub.run("grub-editenv", grub.places.environment, "set", f"next_entry=sentinel-{RELEASE}")
    install.remove(machine, places=grub.places)
    assert grub.tree() == before
    grub.run("grub-editenv", grub.places.environment, "set", "next_entry=memtest")
    before = grub.tree()
    install.install(machine, parcel, default=False, places=grub.places)
    install.remove(machine, places=grub.places)
    assert grub.tree() == before


def test_removal_does_without_grub(grub: GrubMachine, machine: TargetMachine, parcel: Parcel) -> None:
    install.install(machine, parcel, default=False, places=grub.places)
    for name in ("update-grub", "grub-editenv", "grub-reboot", "grub-probe"):
        (grub.programs.folder / name).unlink()
    install.remove(machine, places=grub.places)
    assert not [path for path in grub.tree() if "sentinel" in path]


def broken(tmp_path: Path, at: int, error: BaseException, *, after: bool = False) -> TargetMachine:
    """A target whose connection or step fails at the operation `at`. There is no lock: only this test."""
    (tmp_path / "work").mkdir(exist_ok=True)
    shell = Faulty(at, error, after=after)
    return TargetMachine(Target(), shell, PurePosixPath(tmp_path / "work"), OPTANE)


def test_files_of_others_are_not_removed(grub: GrubMachine, machine: TargetMachine, parcel: Parcel) -> None:
    grub.write(f"boot/sentinel/{OWN}/cmdline", "root=/dev/sda1\n")  # its own modules have the same name
    install.install(machine, parcel, default=False, places=grub.places)
    with pytest.raises(InfrastructureError, match=r"cannot remove the folder in /boot: .*not empty"):
        install.remove(machine, places=grub.places)
    assert (grub.root / f"lib/modules/{OWN}/modules.dep").exists()
    assert (grub.root / f"boot/config-{OWN}").exists()
    assert not (grub.root / "lib/modules" / RELEASE).exists()


def operations(tmp_path: Path, work: Callable[[TargetMachine], object]) -> int:
    """Count the operations of some work on a target."""
    machine = broken(tmp_path, 0, KeyboardInterrupt())
    work(machine)
    assert isinstance(machine.shell, Faulty)
    return machine.shell.done


def test_installation_that_fails_leaves_the_old_state(
    grub: GrubMachine, parcel: Parcel, tmp_path: Path
) -> None:
    machine = broken(tmp_path, 0, KeyboardInterrupt())
    before = grub.tree()
    count = operations(tmp_path, lambda m: install.install(m, parcel, default=True, places=grub.places))
    install.remove(machine, places=grub.places)
    assert count > 10
    for at in range(1, count + 1):
        error = KeyboardInterrupt() if at % 2 else InfrastructureError("no")
        with pytest.raises(type(error)):
            install.install(broken(tmp_path, at, error), parcel, default=True, places=grub.places)
        assert grub.tree() == before, f"operation {at}"


def test_installation_that_loses_the_connection_is_removed_or_repeated(
    grub: GrubMachine, parcel: Parcel, tmp_path: Path
) -> None:
    machine = broken(tmp_path, 0, KeyboardInterrupt())
    before = grub.tree()
    count = operations(tmp_path, lambda m: install.install(m, parcel, default=True, places=grub.places))
    installed = grub.tree()
    install.remove(machine, places=grub.places)
    for at in range(1, count + 1):
        lost = LostConnectionError("it broke")
        with pytest.raises(LostConnectionError):
            install.install(broken(tmp_path, at, lost, after=True), parcel, default=True, places=grub.places)
        grub.boot()  # a power cycle
        if at % 2:
            install.install(machine, parcel, default=True, places=grub.places)
            assert grub.tree() == installed, f"operation {at}"
        grub.write("running", OWN)
        install.remove(machine, places=grub.places)
        assert grub.tree() == before, f"operation {at}"


def test_interrupted_removal_is_repeated(grub: GrubMachine, parcel: Parcel, tmp_path: Path) -> None:
    machine = broken(tmp_path, 0, KeyboardInterrupt())
    before = grub.tree()
    install.install(machine, parcel, default=True, places=grub.places)
    count = operations(tmp_path, lambda m: install.remove(m, places=grub.places))
    assert count > 4
    for at in range(1, count + 1):
        install.install(machine, parcel, default=True, places=grub.places)
        with pytest.raises(LostConnectionError):
            lost = LostConnectionError("it broke")
            install.remove(broken(tmp_path, at, lost, after=True), places=grub.places)
        install.remove(machine, places=grub.places)
        assert grub.tree() == before, f"operation {at}"


def test_failed_replacement_keeps_the_installed_kernel(
    grub: GrubMachine, machine: TargetMachine, parcel: Parcel, tmp_path: Path
) -> None:
    install.install(machine, parcel, default=True, places=grub.places)
    before = grub.tree()
    newer = make_parcel(tmp_path / "newer", NEWER)
    (grub.root / "full").touch()
    with pytest.raises(InfrastructureError, match=r"cannot make an initramfs: gzip: .*No space") as caught:
        install.install(machine, newer, default=False, places=grub.places)
    (grub.root / "full").unlink()
    assert grub.tree() == before
    assert caught.value.log is not None
    assert "make an initramfs: status 1" in caught.value.log.read_text()


def test_failing_update_of_the_menu_is_one_line(
    grub: GrubMachine, machine: TargetMachine, parcel: Parcel, capsys: pytest.CaptureFixture[str]
) -> None:
    before = grub.tree()
    (grub.root / "broken").touch()
    with pytest.raises(
        InfrastructureError, match=r"^this host: cannot update GRUB's menu: grub-probe: error"
    ):
        install.install(machine, parcel, default=False, places=grub.places)
    (grub.root / "broken").unlink()
    assert grub.tree() == before


def test_only_kernel_of_a_machine_is_not_installed(
    grub: GrubMachine, machine: TargetMachine, parcel: Parcel
) -> None:
    (grub.root / f"boot/vmlinuz-{OWN}").unlink()
    grub.update_grub()
    before = grub.tree()
    with pytest.raises(InfrastructureError, match="this one would be the default"):
        install.install(machine, parcel, default=False, places=grub.places)
    assert grub.tree() == before
    assert install.install(machine, parcel, default=True, places=grub.places)


def test_default_of_another_file_is_reported(
    grub: GrubMachine, machine: TargetMachine, parcel: Parcel
) -> None:
    grub.write("etc/default/grub.d/zz.cfg", "GRUB_DEFAULT=memtest\n")
    grub.update_grub()
    before = grub.tree()
    with pytest.raises(InfrastructureError, match=r"another file in /etc/default/grub\.d sets"):
        install.install(machine, parcel, default=True, places=grub.places)
    assert grub.tree() == before


def test_entries_never_make_update_grub_fail(
    grub: GrubMachine, machine: TargetMachine, parcel: Parcel
) -> None:
    install.install(machine, parcel, default=False, places=grub.places)
    (grub.root / "boot/sentinel" / RELEASE / "initrd.img").unlink()
    grub.update_grub()
    assert RELEASE not in grub.menu
    (grub.root / "boot/sentinel" / RELEASE / "initrd.img").write_text("initramfs")
    for library in ("make_system_path_relative_to_its_root() { return 1; }\n", "false\n"):
        grub.write("usr/share/grub/grub-mkconfig_lib", library)
        grub.update_grub()
        assert RELEASE not in grub.menu
    (grub.root / "usr/share/grub/grub-mkconfig_lib").unlink()
    grub.update_grub()
    assert RELEASE not in grub.menu


def test_menu_is_what_grub_can_read(grub: GrubMachine, machine: TargetMachine, parcel: Parcel) -> None:
    if shutil.which("grub-script-check") is None:
        pytest.skip("no grub-script-check: apt-get install grub-common")
    grub.write("proc/cmdline", "BOOT_IMAGE=/v root=/dev/sda1 \"dyndbg=file it's.c +p; $x\" { } a='b'\n")
    install.install(machine, parcel, default=False, places=grub.places)
    assert (
        subprocess.run(["grub-script-check", grub.root / "boot/grub/grub.cfg"], check=False).returncode == 0
    )


@pytest.mark.parametrize(
    ("change", "name", "problem"),
    [
        ({"menu": False}, "boot loader", "no /boot/grub/grub.cfg"),
        ({"missing": ("update-grub",)}, "boot loader", "no update-grub"),
        ({"writable": False}, "boot loader", "/boot is read-only"),
        ({"missing": ("mkinitramfs",)}, "initramfs", "no mkinitramfs"),
        ({"secure_boot": True}, "Secure Boot", "refuses kernels that are not signed"),
        ({"cmdline": "ro quiet"}, "root file system", "has no root="),
        ({"address_bits": 52}, "processor", "52 physical address bits"),
        ({"boot_free": 40 << 20}, "/boot", "40 MiB free; needs 47 MiB"),
        ({"modules_free": 9 << 20}, "/lib/modules", "9 MiB free; needs 12 MiB"),
        ({"environment": ("lvm", "ext2")}, "boot once", "cannot write to lvm"),
        ({"environment": ("btrfs",)}, "boot once", "cannot write to btrfs"),
        ({"once": False}, "boot once", "does not know `next_entry`"),
        ({"password": True}, "boot menu", "asks for a password"),
    ],
)
def test_unfit_machine_is_refused_with_a_reason(change: dict[str, Any], name: str, problem: str) -> None:
    def examined(state: BootState) -> list[Any]:
        room = checks.space(state, kernel=2 << 20, modules=10 << 20)
        return [*checks.basic(state), *room, *checks.once(state)]

    assert {check.state for check in examined(FIT)} == {"ok"}
    (failed,) = (check for check in examined(dataclasses.replace(FIT, **change)) if check.state == "fail")
    assert (failed.name, problem in failed.detail, bool(failed.fix)) == (name, True, True)


def test_state_of_a_machine_is_read(grub: GrubMachine, machine: TargetMachine) -> None:
    variable = grub.root / "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
    read = states.read(machine.shell, grub.places)
    assert (read.release, read.boot_id, read.address_bits) == (OWN, "boot-0", 46)
    assert read.cmdline.startswith("BOOT_IMAGE=/boot/vmlinuz")
    assert (read.menu, read.once, read.password, read.secure_boot, read.first) == (
        True,
        True,
        False,
        False,
        False,
    )
    assert (read.environment, read.missing) == (("ext2",), ())
    assert (read.installed, read.partial, read.entries, read.default, read.traces) == ((), (), (), "", False)
    assert read.initramfs == len("its own initramfs")
    assert read.boot_free > 0
    assert read.modules_free > 0
    variable.parent.mkdir(parents=True)
    variable.write_bytes(b"\6\0\0\0\1")
    (grub.root / "boot/grub/grub.cfg").write_text("set superusers=root\n")
    (grub.programs.folder / "mkinitramfs").unlink()
    read = states.read(machine.shell, grub.places)
    assert (read.menu, read.once, read.password, read.secure_boot) == (True, False, True, True)
    assert read.missing == ("mkinitramfs",)


def test_machine_without_an_answer_is_an_error(machine: TargetMachine, programs: Programs) -> None:
    programs.shell("sh", "echo oops >&2; exit 1")
    with pytest.raises(InfrastructureError, match="does not say how it boots: oops"):
        states.read(machine.shell, Places())


@pytest.mark.parametrize(
    ("running", "expected"),
    [
        ("root=/dev/sda1", "root=/dev/sda1 panic=30"),
        ("BOOT_IMAGE=/v initrd=/i  root=x\tquiet", "root=x quiet panic=30"),
        ("root=x panic=5", "root=x panic=5"),
        ("root=x -- panic=5", "root=x panic=30 -- panic=5"),
        ('root=x "dyndbg=file a.c +p"', "root=x 'dyndbg=file a.c +p' panic=30"),
        ('root=x dyndbg="file a.c +p"', "root=x 'dyndbg=file a.c +p' panic=30"),
        ("root=x a=$b;c", "root=x 'a=$b;c' panic=30"),
        ("root=x a=it's", "root=x 'a=it'\"'\"'s' panic=30"),
    ],
)
def test_entry_has_the_options_of_the_running_kernel(running: str, expected: str) -> None:
    assert cmdline.for_entry(running) == expected


def test_root_of_a_command_line() -> None:
    assert cmdline.root_of("root=a quiet root=b") == "b"
    assert cmdline.root_of("quiet nfsroot=a") is None


def test_own_configuration_is_that_of_the_machines_kernel(
    grub: GrubMachine, machine: TargetMachine, parcel: Parcel
) -> None:
    def read() -> OwnKernel:
        return own.read(machine.shell, states.read(machine.shell, grub.places), grub.places)

    its_own = read()
    assert "CONFIG_XFS_FS=m" in its_own.config
    assert its_own.modules == {"ext4", "nvme"}
    install.install(machine, parcel, default=True, places=grub.places)
    grub.boot()
    assert read() == parcel.own  # not that of our kernel
    (grub.root / "boot/sentinel" / RELEASE / "own.config").unlink()
    with pytest.raises(UsageError, match="not made of the machine's configuration"):
        read()
    grub.write("running", "6.1.1")
    with pytest.raises(InfrastructureError, match=r"neither /boot/config-6\.1\.1 nor /proc/config\.gz"):
        read()


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch, parcel: Parcel) -> list[dict[str, Any]]:
    """Calls of the kernel's build, which returns a small kernel."""
    calls: list[dict[str, Any]] = []

    def build(source: str, **options: Any) -> Kernel:
        calls.append({"source": source, **options})
        entry = Entry("kernel", "0" * 64, parcel.bzimage.parent, {})
        return Kernel(parcel.bzimage, parcel.config, RELEASE, "6.1", entry)

    monkeypatch.setattr(target_kernel, "build", build)
    return calls


def test_kernel_is_built_of_the_machines_configuration(
    grub: GrubMachine, machine: TargetMachine, built: list[dict[str, Any]]
) -> None:
    parcel = target_kernel.build_for(machine, base="target", places=grub.places)
    (call,) = built
    assert call["flavour"] == ("target", "profile")
    assert call["variant"].name == "sentinel"
    config = (grub.root / f"boot/config-{OWN}").read_text()
    assert call["variant"].machine == MachineConfig(config, frozenset({"ext4", "nvme"}))
    assert parcel.modules is not None
    assert parcel.own == OwnKernel(config, frozenset({"ext4", "nvme"}))
    target_kernel.build_for(machine, base="guest", source="4.9", places=grub.places)
    assert "flavour" not in built[1]  # the guest's is the default
    assert (built[1]["variant"].name, built[1]["variant"].machine) == ("sentinel", None)


def test_unfit_machine_is_refused_before_the_build(
    grub: GrubMachine, machine: TargetMachine, built: list[dict[str, Any]]
) -> None:
    (grub.root / "boot/grub/grub.cfg").unlink()
    with machine, pytest.raises(InfrastructureError, match="boot loader: GRUB 2 is not") as caught:
        target_kernel.install_on(machine, base="target", places=grub.places)
    assert "--build-only" in str(caught.value.hint)
    grub.update_grub()
    grub.write("fs", "btrfs\n")
    with machine, pytest.raises(InfrastructureError, match="boot once: GRUB cannot write to btrfs"):
        target_kernel.install_on(machine, base="target", once=True, places=grub.places)
    assert built == []


def test_target_is_locked_for_installation_and_removal(
    grub: GrubMachine, machine: TargetMachine, built: list[dict[str, Any]], tmp_path: Path
) -> None:
    other = dataclasses.replace(machine, shell=LocalShell())
    with machine, other:
        assert target_kernel.install_on(machine, base="target", places=grub.places) == (RELEASE, True)
        assert machine.locked
        (tmp_path / "work/owner").write_text("process 2 on there (sentinel run b.yaml)\n")
        for work in (
            lambda: target_kernel.install_on(other, base="target", places=grub.places),
            lambda: target_kernel.remove_from(other, places=grub.places),
        ):
            with pytest.raises(UsageError, match="in use by process 2 on there"):
                work()


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[SshServer, Target]]:
    monkeypatch.setattr(reboot, "_PAUSE", 0.2)
    server, target = behind_ssh(tmp_path, monkeypatch)
    with contextlib.closing(server):
        yield server, target


def rebooted(target: Target, grub: GrubMachine) -> None:
    machine = TargetMachine.open(target)
    machine.lock()
    reboot.boot_once(machine, RELEASE, places=grub.places)
    assert not machine.locked


def test_reboot_boots_the_kernel_once(
    grub: GrubMachine, machine: TargetMachine, parcel: Parcel, remote: tuple[SshServer, Target]
) -> None:
    before = grub.tree()
    install.install(machine, parcel, default=False, places=grub.places)
    rebooted(remote[1], grub)
    assert grub.running == RELEASE
    grub.boot()
    assert grub.running == OWN
    install.remove(machine, places=grub.places)
    assert grub.tree() == before


def test_kernel_that_does_not_come_up_is_reported(
    grub: GrubMachine, machine: TargetMachine, parcel: Parcel, remote: tuple[SshServer, Target]
) -> None:
    install.install(machine, parcel, default=False, places=grub.places)
    (grub.root / "panics").touch()
    with pytest.raises(InfrastructureError, match=f"is back with Linux {OWN}: {RELEASE} did not") as caught:
        rebooted(remote[1], grub)
    assert caught.value.hint


def test_machine_that_does_not_reboot_is_reported(
    grub: GrubMachine,
    machine: TargetMachine,
    parcel: Parcel,
    remote: tuple[SshServer, Target],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install.install(machine, parcel, default=False, places=grub.places)
    monkeypatch.setattr(reboot, "_BACK_WITHIN", 4.0)
    (grub.root / "stuck").touch()
    with pytest.raises(InfrastructureError, match="did not come back within 4 s: it has not gone down yet"):
        rebooted(remote[1], grub)
    monkeypatch.setattr(remote[0], "public_key", "another")  # as an initramfs with its own SSH server
    with pytest.raises(InfrastructureError, match=r"within 4 s: .* refuses this user's keys") as caught:
        reboot.wait(remote[1], "there", "boot-0", grub.places)
    assert "power cycle" in str(caught.value.hint)


def test_grub_that_cannot_forget_boots_nothing_once(
    grub: GrubMachine, machine: TargetMachine, parcel: Parcel, remote: tuple[SshServer, Target]
) -> None:
    install.install(machine, parcel, default=False, places=grub.places)
    grub.write("abstraction", "lvm\n")
    with pytest.raises(InfrastructureError, match="cannot write to lvm, so it would boot the kernel again"):
        rebooted(remote[1], grub)
    assert "next_entry" not in (grub.root / "boot/grub/grubenv").read_text()
    assert not [call for call in grub.programs.calls if call.startswith("systemctl")]


@pytest.fixture
def command(
    grub: GrubMachine,
    built: list[dict[str, Any]],
    sentinel_: Run,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Run:
    """Runs `sentinel target VERB` on the fake machine; `places` cannot be named on the command line."""
    monkeypatch.setattr(Places.__init__, "__defaults__", (str(grub.root),))
    return lambda verb, where, *words: sentinel_(
        "target", verb, where, "--folder", tmp_path / "target", *words
    )


def test_commands_install_reboot_and_remove(
    command: Run, grub: GrubMachine, remote: tuple[SshServer, Target]
) -> None:
    before = grub.tree()
    where, key = f"ssh:root@127.0.0.1:{remote[1].port}", ("--key", remote[1].key or "")
    code, out, errors = command("install-kernel", where, *key, "--reboot")
    assert (code, out.strip()) == (0, RELEASE)
    assert f"{RELEASE} is installed on root@127.0.0.1" in errors
    assert "its next boot is its own kernel" in errors
    code, _, errors = command("install-kernel", where, *key, "--reboot")  # it runs already
    assert (code, "already installed" in errors) == (0, True)
    code, _, errors = command("remove-kernel", where, *key)
    assert (code, "boot its own kernel first" in errors) == (2, True)
    grub.boot()
    code, _, errors = command("remove-kernel", where, *key)
    assert (code, f"removed from root@127.0.0.1: {RELEASE}" in errors) == (0, True)
    assert grub.tree() == before
    code, _, errors = command("remove-kernel", where, *key)
    assert (code, "nothing was installed" in errors) == (0, True)


def test_commands_refuse_what_cannot_be(command: Run, grub: GrubMachine, parcel: Parcel) -> None:
    before = grub.tree()
    for words, code, problem in (
        (["host", "--reboot"], 2, "a reboot of this host would end this command"),
        (["host", "--build-only", "--default"], 2, "--build-only changes nothing"),
        (["host", "--config", "own"], 2, "'own' is not one of"),
        (["vm"], 2, "vm is no real machine"),
        (["ssh:optane"], 2, "must be ssh:user@host"),
    ):
        found, _, errors = command("install-kernel", *words)
        assert (found, problem in errors) == (code, True), errors
    code, out, errors = command("install-kernel", "host")
    assert (code, out.strip()) == (0, RELEASE)
    assert f"there: grub-reboot sentinel-{RELEASE} && reboot" in " ".join(errors.split())
    assert command("remove-kernel", "host")[0] == 0
    code, out, _ = command("install-kernel", "host", "--build-only")
    assert (code, out.strip()) == (0, str(parcel.bzimage.parent))
    assert grub.tree() == before


def test_errors_of_a_target_are_one_line(command: Run, grub: GrubMachine) -> None:
    grub.write("proc/cpuinfo", "address sizes\t: 52 bits physical, 57 bits virtual\n")
    code, _, errors = command("install-kernel", "host")
    assert code == 9
    assert len(re.findall(r"^ *error: .*52 physical address bits", errors, re.MULTILINE)) == 1


def test_every_error_has_a_place(machine: TargetMachine, grub: GrubMachine, parcel: Parcel) -> None:
    """The script that puts the modules into place fails if they are there already."""
    (grub.root / "lib/modules" / RELEASE / "kernel").mkdir(parents=True)
    with pytest.raises(SentinelError, match=r"^this host: cannot install the modules: mv: "):
        install.install(machine, parcel, default=False, places=grub.places)
