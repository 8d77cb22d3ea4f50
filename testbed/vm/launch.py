# SPDX-License-Identifier: Apache-2.0
"""Start machines: prepare their files, then launch a supervisor."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from testbed.common import files, settings
from testbed.common.disk import explained_disk_errors
from testbed.common.errors import InfrastructureError, UsageError
from testbed.host import memory
from testbed.vm import artefacts, domain, reaping, resources, runtime_folder
from testbed.vm import folder as folders
from testbed.vm.boot import Boot, SavedVm
from testbed.vm.handle import Vm
from testbed.vm.store import check_name

# Seconds for libvirt to start or restore a domain: five with a cold capability probe, many times that on a
# busy host. A supervisor that exits is noticed at once.
_START_WITHIN = 600.0


@contextlib.contextmanager
def running(
    name: str, source: Boot | SavedVm, *, uri: str | None = None, ssh_port: int | None = None
) -> Iterator[Vm]:
    """Start a machine for the block, and end it however the block ends. Does not wait for the guest."""
    vm = start(name, source, uri=uri, ssh_port=ssh_port)
    try:
        yield vm
    finally:
        vm.down()


def start(name: str, source: Boot | SavedVm, *, uri: str | None = None, ssh_port: int | None = None) -> Vm:
    """Start or restore a machine that ends with this process (see `Vm.detach`).

    Returns when libvirt has started it; `Vm.wait_ready` waits for the guest. Raises `UsageError` for a name
    that is invalid or in use, `InfrastructureError` if the host cannot start it.
    """
    check_name(name)
    boot = source.boot if isinstance(source, SavedVm) else source
    memory.check_capacity(boot.machine)
    folder = folders.vms_root() / name
    reaping.reap()
    with files.locked(folders.vms_root() / ".lock"), contextlib.ExitStack() as undo:
        if files.is_locked(folders.lock(folder)):
            raise UsageError(
                f"the machine {name!r} is already running",
                hint=f"sentinel vm down --vm {name}, or choose another --vm",
            )
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        runtime = runtime_folder.create()
        undo.callback(shutil.rmtree, runtime, ignore_errors=True)
        host = resources.assign(name, source, folder)
        with explained_disk_errors(folder):
            if boot.preset is not None and host.timing is not None:
                resources.write_timing_files(boot.preset, boot.machine, host.timing)
            resources.create_overlay(host.disk, source.disk if isinstance(source, SavedVm) else boot.image)
            if isinstance(source, SavedVm):
                shutil.copy(source.console, host.console)  # QEMU appends to it
            (folder / "domain.xml").write_text(domain.xml(boot.machine, host))
            files.write_json(folder / "owner.json", {"pid": os.getpid()})
            files.write_json(
                folder / "config.json",
                {
                    **boot.to_json(),
                    "name": host.name,
                    "uuid": host.uuid,
                    "cache": str(settings.cache_root()),
                    "disk": str(host.disk),
                    "uri": uri or settings.LIBVIRT_URI.get(),
                    "runtime": str(runtime),
                    "restore": str(source.memory) if isinstance(source, SavedVm) else None,
                    "ssh_port": ssh_port,
                    "plugin": host.timing.library.parent.name if host.timing else None,
                },
            )
        vm = Vm(name, folder)
        artefacts.check(vm.config)
        vm = replace(vm, supervisor=_launch_supervisor(folder))
        undo.callback(_abort, vm)
        with artefacts.damage_explained(vm.config):
            report = _read_report(vm)
        files.write_json(folder / "guest.json", {"port": report["port"], "supervisor": report["pid"]})
        undo.pop_all()
    return vm


def preview(name: str, source: Boot | SavedVm) -> str:
    """Return the domain XML that `start` would use."""
    check_name(name)
    boot = source.boot if isinstance(source, SavedVm) else source
    return domain.xml(boot.machine, resources.assign(name, source, folders.vms_root() / name))


def _launch_supervisor(folder: Path) -> subprocess.Popen[bytes]:
    with (folder / "supervisor.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "testbed.vm.supervisor", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,  # a terminal's Ctrl-C reaches it through the pipe
            env={**os.environ, "LIBVIRT_LOG_OUTPUTS": "3:stderr"},
        )


def _read_report(vm: Vm) -> dict[str, Any]:
    """Read the first line of the supervisor's output. Raises `InfrastructureError`."""
    supervisor = vm.supervisor
    assert supervisor is not None and supervisor.stdout is not None  # noqa: S101 -- see _launch_supervisor
    log = vm.folder / "supervisor.log"
    limit = _START_WITHIN * settings.TIMEOUT_SCALE.get_float()
    ready, _, _ = select.select([supervisor.stdout], [], [], limit)
    line = supervisor.stdout.readline() if ready else b""
    if not line:
        failure = "exited without reporting a status" if ready else f"reported nothing for {limit:.0f} s"
        raise InfrastructureError(f"the supervisor of machine {vm.name!r} {failure}", log=log)
    report: dict[str, Any] = json.loads(line)
    if "error" in report:
        raise InfrastructureError(report["error"], hint=report.get("hint"), log=log)
    return report


def _abort(vm: Vm) -> None:
    """Undo a start that failed or was interrupted."""
    supervisor = vm.supervisor
    if supervisor is not None:
        with contextlib.suppress(OSError):
            if supervisor.stdin is not None:
                supervisor.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            supervisor.wait(timeout=10)
        supervisor.kill()
        supervisor.wait()
    reaping.bury(vm.folder)
