# SPDX-License-Identifier: Apache-2.0
"""Fixtures of tests with real machines. Artefacts are those of the user's cache, all else is temporary."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from experiments import boot
from testbed import machine, vm
from testbed.common import settings
from testbed.guestlink import keys
from testbed.vm import Boot, Vm
from tests.fakes import guest
from tests.vm.training import Trainer

KERNELS = ["6.1", "4.9"]
SELFTESTS = Path(__file__).parent.parent.parent / "kernel" / "selftests"
Up = Callable[..., Vm]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the tests that need a quiet host: later they would wait for long tests."""
    for item in items:
        item.add_marker(pytest.mark.vm)
    items.sort(key=lambda item: "quiet_host" not in getattr(item, "fixturenames", ()))


@pytest.fixture(scope="session", autouse=True)
def own_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep machines of tests apart from the user's, and check that none is left."""
    if shutil.which(settings.QEMU.get()) is None:
        pytest.skip("no QEMU: apt-get install qemu-system-x86")
    state = tmp_path_factory.mktemp("state")
    shutil.copytree(keys.private_key().parent, state / "keys")  # cached snapshots accept the user's key
    os.environ[settings.STATE.env] = str(state)
    yield state
    vm.reap()
    left = [machine.name for machine in vm.all_vms() if machine.alive()]
    assert not left, f"machines left running: {left}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "kernel" in metafunc.fixturenames:
        kernels = metafunc.config.getoption("--kernel") or KERNELS
        metafunc.parametrize("kernel", kernels, indirect=True, scope="session")


@pytest.fixture(scope="session")
def kernel(request: pytest.FixtureRequest) -> str:
    """Each kernel that has a source, or that --kernel names."""
    name: str = request.param
    if name == "4.9" and not settings.LINUX_4_9.get():
        pytest.skip("no Linux 4.9 source: set SENTINEL_LINUX_4_9 to a tree, tarball or REPOSITORY@COMMIT")
    return name


def _host_lock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file that all workers of pytest-xdist share."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "host.lock"


@pytest.fixture(scope="module")
def quiet_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep other tests off the host for a whole module, so that two vCPUs can run at once."""
    with _host_lock(tmp_path_factory).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture(autouse=True)
def shared_host(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let a test run beside others, but not beside those that need a quiet host."""
    if "quiet_host" in request.fixturenames:
        yield
        return
    with _host_lock(tmp_path_factory).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the test programs, as it is copied into the guest."""
    folder = tmp_path_factory.mktemp("selftests")
    subprocess.run(["make", "-s", "-C", SELFTESTS, f"OUT={folder}"], check=True)
    for script in (SELFTESTS / "client.py", guest.GUEST / "bindings" / "page_profile.py"):
        (folder / script.name).write_bytes(script.read_bytes())
    return folder


@pytest.fixture(scope="session")
def any_kernel(request: pytest.FixtureRequest) -> str:
    """One kernel, for tests that do not depend on it."""
    if asked := request.config.getoption("--kernel"):
        return str(asked[0])
    return "4.9" if settings.LINUX_4_9.get() else "6.1"


@pytest.fixture(scope="session")
def small(any_kernel: str) -> Boot:
    """A small two-node machine, ready to start."""
    spec = machine.Machine.model_validate(
        {"nodes": [{"memory": "512 MiB", "cpus": [0, 1]}, {"memory": "256 MiB"}], "vcpus": 2}
    )
    return boot.prepare(spec, kernel=any_kernel).boot


@pytest.fixture
def up(small: Boot) -> Iterator[Up]:
    """Start machines (`small`, with changes to its spec) that end with the test."""
    with ExitStack() as stack:

        def start(name: str = "test", *, ready: bool = True, what: Any = None, **changes: Any) -> Vm:
            prepared = what or replace(small, machine=small.machine.model_copy(update=changes))
            started = stack.enter_context(running(name, prepared))
            if ready:
                started.wait_ready()
            return started

        yield start


def running(name: str, what: Any) -> AbstractContextManager[Vm]:
    return vm.running(name, what)


@pytest.fixture(scope="module")
def training_guest(kernel: str) -> Iterator[Vm]:
    """A two-node machine for training."""
    with vm.running("runtime", boot.prepare(machine.load("two-node"), kernel=kernel).boot) as started:
        started.wait_ready()
        yield started


@pytest.fixture(scope="module")
def trainer(training_guest: Vm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trainer]:
    with training_guest.shell() as shell:
        yield Trainer(shell, tmp_path_factory.mktemp("scripts"))
