# SPDX-License-Identifier: Apache-2.0
"""The supervisor: the end of machines, and its record."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import time
from pathlib import Path

import pytest

from testbed import vm
from testbed.common import files
from testbed.common.errors import InfrastructureError
from testbed.vm import Vm
from tests.fakes.hypervisor import Hypervisor, eventually, running


def start(hypervisor: Hypervisor, *, uri: str | None = None) -> Vm:
    return vm.start("a", hypervisor.boot, uri=uri)


def supervisor_pid(machine: Vm) -> int:
    pid = files.read_json(machine.folder / "guest.json")["supervisor"]
    assert running(pid)
    return int(pid)


def gone(machine: Vm) -> bool:
    return eventually(lambda: not machine.alive())


def test_machine_ends_when_the_starter_dies(hypervisor: Hypervisor) -> None:
    machine = start(hypervisor)
    runtime = Path(machine.config["runtime"])
    assert machine.supervisor is not None
    assert machine.supervisor.stdin is not None
    machine.supervisor.stdin.close()  # what the kernel does when a process dies
    assert gone(machine)
    assert machine.end_reason() == "the process that started it exited"
    assert not hypervisor.qemu_runs()
    assert not runtime.exists()


def test_detached_machine_stays(hypervisor: Hypervisor) -> None:
    machine = start(hypervisor)
    os.kill(supervisor_pid(machine), signal.SIGINT)  # the starting process handles Ctrl-C
    machine.detach()
    time.sleep(0.1)
    assert machine.request("ping") == {"ok": True}
    assert hypervisor.qemu_runs()
    machine.down()
    assert machine.end_reason() == "destroyed"


def test_sigterm_ends_the_machine(hypervisor: Hypervisor) -> None:
    machine = start(hypervisor)
    os.kill(supervisor_pid(machine), signal.SIGTERM)
    assert gone(machine)
    assert machine.end_reason() == "its supervisor was terminated"
    assert not hypervisor.qemu_runs()


@pytest.mark.parametrize(("sign", "why"), [(signal.SIGKILL, "QEMU died"), (signal.SIGTERM, "shut down")])
def test_supervisor_ends_with_qemu_and_records_why(
    hypervisor: Hypervisor, sign: signal.Signals, why: str
) -> None:
    machine = start(hypervisor)
    before = time.time()
    os.kill(hypervisor.qemu, sign)
    assert gone(machine)
    record = files.read_json(machine.folder / "ended.json")
    assert record["why"] == why
    assert before - 1 < record["at"] < time.time() + 1
    assert not Path(machine.config["runtime"]).exists()


@pytest.mark.parametrize(
    ("reason", "failure"), [("enospc", "the disk is full"), ("", "I/O error on the disk")]
)
def test_disk_error_ends_the_machine(hypervisor: Hypervisor, reason: str, failure: str) -> None:
    machine = start(hypervisor)
    machine.request("monitor", command=f"fail disk {reason}")
    assert gone(machine)
    assert machine.end_reason() == f"{failure} at /there on this host"
    assert not hypervisor.qemu_runs()
    with pytest.raises(InfrastructureError, match=f"the machine ended: {failure} at /there"):
        machine.watchdog().check()


def test_malformed_request_harms_only_its_connection(hypervisor: Hypervisor) -> None:
    requests = (b"", b"\n", b"{\n", b"[]\n", b"null\n", b'{"no": "op"}\n', b'{"op": "save"}\n', b"\xff\n")
    with vm.running("a", hypervisor.boot) as machine:
        for request in requests:
            with socket.socket(socket.AF_UNIX) as peer:
                peer.connect(str(Path(machine.config["runtime"]) / "control"))
                peer.sendall(request)
                peer.shutdown(socket.SHUT_WR)
                assert b'"ok"' not in peer.makefile("rb").read(), request
            assert machine.request("ping") == {"ok": True}, request
        assert machine.end_reason() is None
        assert hypervisor.qemu_runs()


def test_ports_are_tried_until_one_is_free(hypervisor: Hypervisor) -> None:
    hypervisor.behave(busy=True)
    with pytest.raises(InfrastructureError, match="no free port to forward to the guest's SSH server"):
        start(hypervisor)
    tried = [call for call in hypervisor.calls if "hostfwd_add" in call]
    assert len(tried) == len(set(tried)) == 20
    assert all(re.fullmatch(r"monitor hostfwd_add hostnet0 tcp:127\.0\.0\.1:\d+-:22", call) for call in tried)
    assert not hypervisor.qemu_runs()


def test_requested_port_is_the_only_one_tried(hypervisor: Hypervisor) -> None:
    with vm.running("a", hypervisor.boot, ssh_port=40022) as machine:
        assert machine.port == 40022
    assert [call for call in hypervisor.calls if "hostfwd_add" in call] == [
        "monitor hostfwd_add hostnet0 tcp:127.0.0.1:40022-:22"
    ]


def test_libvirt_daemon_ends_the_machine_with_the_supervisor(hypervisor: Hypervisor) -> None:
    with vm.running("a", hypervisor.boot, uri="qemu:///session"):
        pass
    assert hypervisor.calls[:2] == ["open qemu:///session", "create flags=2"]


def test_embedded_driver_uses_the_runtime_folder(hypervisor: Hypervisor) -> None:
    with vm.running("a", hypervisor.boot) as machine:
        root = machine.config["runtime"]
        conf = (Path(root) / "etc" / "qemu.conf").read_text()
        assert 'stdio_handler = "file"' in conf
        assert (Path(root) / "cache").is_symlink()
    assert hypervisor.calls[:2] == [f"open qemu:///embed?root={root}", "create flags=0"]


def test_supervisor_log_stays_empty_on_sigterm(hypervisor: Hypervisor) -> None:
    machine = start(hypervisor)
    (machine.folder / "config.json").write_text("{")
    os.kill(supervisor_pid(machine), signal.SIGTERM)
    assert eventually((machine.folder / "ended.json").exists)
    assert (machine.folder / "supervisor.log").read_text() == ""
    assert json.loads((machine.folder / "ended.json").read_text())["why"] == "its supervisor was terminated"
