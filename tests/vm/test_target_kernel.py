# SPDX-License-Identifier: Apache-2.0
"""A kernel is installed on a machine that boots by GRUB, booted once, used, and removed without a trace."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments import matrix, runner, target_kernel
from experiments.target_backend import RealMachine
from images import build as images
from images import definition
from kernel.build import Kernel, build
from results import runs
from testbed.common.cache import Cache
from testbed.common.errors import SentinelError, UsageError
from testbed.guestlink import keys
from testbed.guestlink.shell import Shell
from testbed.host import accel
from testbed.targets.kernel import reboot
from testbed.targets.kernel import state as states
from testbed.targets.kernel.places import Places
from testbed.targets.machine import TargetMachine, connect
from testbed.targets.spec import Target
from tests.vm import grub_disk

SUITE = """
name: real
models: [{ name: cnn, batch: 8 }]
placements: [fast-only]
steps: 2
repeats: 1
"""
_UP_WITHIN = 900.0  # seconds for the first boot, under TCG on a busy host
# Whatever a boot loader, an initramfs or a package manager would look at
_TREE = r"""
find /boot /etc $(ls -d /lib/modules 2>/dev/null) -xdev -printf '%p %m %l\n' | sort
find /boot /etc -xdev -type f | sort | xargs -d '\n' sha256sum
"""


@pytest.fixture(scope="module")
def own_kernel(request: pytest.FixtureRequest, any_kernel: str) -> Kernel:
    """The kernel that the machine has of its own: a guest's."""
    if not request.config.getoption("--slow"):
        pytest.skip("installs Debian on a disk and boots it three times; run with --slow")
    if (missing := grub_disk.missing()) is not None:
        pytest.skip(f"a disk that boots by GRUB needs packages: {missing}")
    if Cache().get(images.KIND, definition.default().key) is None:
        pytest.skip("needs an image: sentinel image build")
    return build(any_kernel)


@pytest.fixture(scope="module")
def target(own_kernel: Kernel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """The machine, up, with the menu that update-grub makes there."""
    folder = tmp_path_factory.mktemp("target")
    cache = str(Cache().root)
    disk = grub_disk.write_disk(folder, own_kernel, public_key=keys.public_key())
    accelerator = accel.choose("auto", own_kernel.bzimage)
    with pytest.MonkeyPatch.context() as patch, grub_disk.started(disk, accelerator=accelerator) as machine:
        home = folder / "home"
        (home / ".ssh").mkdir(parents=True)
        key = (folder / "host_key.pub").read_text().split()
        (home / ".ssh" / "known_hosts").write_text(f"[127.0.0.1]:{machine.port} {key[0]} {key[1]}\n")
        patch.setenv("HOME", str(home))
        patch.setenv("SENTINEL_CACHE", cache)  # which would follow HOME
        found = Target(ssh="root@127.0.0.1", port=machine.port, key=keys.private_key())
        with contextlib.closing(first_connection(found, machine.console)) as shell:
            shell.run("PATH=$PATH:/usr/sbin:/sbin update-grub", timeout=_UP_WITHIN)
        yield found


def first_connection(target: Target, console: Path) -> Shell:
    deadline = time.monotonic() + _UP_WITHIN
    while True:
        try:
            return connect(target)
        except SentinelError as e:
            if time.monotonic() > deadline:
                tail = "\n".join(console.read_text(errors="replace").splitlines()[-20:])
                pytest.fail(f"the machine did not come up: {e.message}\n{tail}")
            time.sleep(2)


def output_of(target: Target, command: str) -> str:
    with contextlib.closing(connect(target)) as shell:
        return str(shell.run(command, timeout=300).out.strip())


def test_kernel_is_installed_booted_once_used_and_removed(
    own_kernel: Kernel, any_kernel: str, target: Target, tmp_path: Path
) -> None:
    """The machine's own kernel boots first and last. Under TCG this takes half an hour."""
    assert output_of(target, "uname -r") == own_kernel.release
    before = output_of(target, _TREE)
    with TargetMachine.open(target) as machine:
        release, changed = target_kernel.install_on(machine, base="guest", source=any_kernel)
        assert changed
        assert release.startswith(f"{own_kernel.release}-sentinel-")
        assert target_kernel.install_on(machine, base="guest", source=any_kernel) == (release, False)
        state = states.read(machine.shell, Places())
        assert (state.entries, state.default, state.first) == ((release,), "", False)
        reboot.boot_once(machine, release)
    with TargetMachine.open(target) as machine:
        assert machine.facts.release == release
        assert machine.facts.page_profile
        with pytest.raises(UsageError, match=f"runs {release}"):
            target_kernel.remove_from(machine)

    (tmp_path / "suite.yaml").write_text(SUITE)
    backend = RealMachine(target)
    with contextlib.closing(backend):
        suite = matrix.load(tmp_path / "suite.yaml", target=target)
        outcome = runner.run(suite, tmp_path / "out", command="sentinel run", backend=backend)
    assert (outcome.done, outcome.failures) == (1, [])
    (cell,) = runs.Run.load(tmp_path / "out").cells
    assert cell.repeats[0].provenance.kernel["release"] == release

    boot_id = output_of(target, "cat /proc/sys/kernel/random/boot_id")
    with contextlib.closing(connect(target)) as shell:
        shell.run("nohup sh -c 'sleep 1; PATH=$PATH:/sbin reboot' >/dev/null 2>&1 &", timeout=60)
    # Its own kernel is the default: without a new order it boots that again.
    assert reboot.wait(target, "the machine", boot_id, Places()) == own_kernel.release
    with TargetMachine.open(target) as machine:
        assert target_kernel.remove_from(machine) == [release]
    assert output_of(target, _TREE) == before
