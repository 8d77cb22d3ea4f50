# SPDX-License-Identifier: Apache-2.0
"""The keeper: a machine lives as long as somebody wants it, and leaves a last word when it goes."""

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


def keeper_of(machine: Vm) -> int:
    pid = files.read_json(machine.folder / "guest.json")["keeper"]
    assert running(pid)
    return int(pid)


def gone(machine: Vm) -> bool:
    return eventually(lambda: not machine.alive())


def test_its_machine_ends_when_the_starter_dies(hypervisor: Hypervisor) -> None:
    machine = start(hypervisor)
    runtime = Path(machine.order["runtime"])
    assert machine._keeper is not None
    assert machine._keeper.stdin is not None
    machine._keeper.stdin.close()  # what the kernel does when a process dies
    assert gone(machine)
    assert machine.ended() == "its owner died"
    assert not hypervisor.qemu_runs()
    assert not runtime.exists()


def test_its_machine_stays_when_the_starter_let_go(hypervisor: Hypervisor) -> None:
    machine = start(hypervisor)
    os.kill(keeper_of(machine), signal.SIGINT)  # a Ctrl-C is the starter's to handle
    machine.detach()
    time.sleep(0.1)
    assert machine.ask("ping") == {"ok": True}
    assert hypervisor.qemu_runs()
    machine.down()
    assert machine.ended() == "destroyed"


def test_sigterm_ends_the_machine(hypervisor: Hypervisor) -> None:
    machine = start(hypervisor)
    os.kill(keeper_of(machine), signal.SIGTERM)
    assert gone(machine)
    assert machine.ended() == "the keeper stopped"
    assert not hypervisor.qemu_runs()


@pytest.mark.parametrize(("sign", "why"), [(signal.SIGKILL, "QEMU died"), (signal.SIGTERM, "shut down")])
def test_it_goes_with_its_machine_and_says_why(
    hypervisor: Hypervisor, sign: signal.Signals, why: str
) -> None:
    machine = start(hypervisor)
    before = time.time()
    os.kill(hypervisor.qemu, sign)
    assert gone(machine)
    word = files.read_json(machine.folder / "ended.json")
    assert word["why"] == why
    assert before - 1 < word["at"] < time.time() + 1
    assert not Path(machine.order["runtime"]).exists()


@pytest.mark.parametrize(
    ("reason", "what"), [("enospc", "the disk is full"), ("", "the disk cannot be read or written")]
)
def test_a_machine_whose_disk_fails_is_ended_and_says_so(
    hypervisor: Hypervisor, reason: str, what: str
) -> None:
    machine = start(hypervisor)
    machine.ask("monitor", command=f"fail disk {reason}")
    assert gone(machine)
    assert machine.ended() == f"{what} at /there on this host"
    assert not hypervisor.qemu_runs()
    with pytest.raises(InfrastructureError, match=f"the machine is gone: {what} at /there"):
        machine.watchdog().check()


def test_a_peer_that_misbehaves_harms_only_itself(hypervisor: Hypervisor) -> None:
    requests = (b"", b"\n", b"{\n", b"[]\n", b"null\n", b'{"no": "op"}\n', b'{"op": "save"}\n', b"\xff\n")
    with vm.running("a", hypervisor.boot) as machine:
        for request in requests:
            with socket.socket(socket.AF_UNIX) as peer:
                peer.connect(str(Path(machine.order["runtime"]) / "control"))
                peer.sendall(request)
                peer.shutdown(socket.SHUT_WR)
                assert b'"ok"' not in peer.makefile("rb").read(), request
            assert machine.ask("ping") == {"ok": True}, request
        assert machine.ended() is None
        assert hypervisor.qemu_runs()


def test_a_free_port_is_looked_for_until_one_holds(hypervisor: Hypervisor) -> None:
    hypervisor.behave(busy=True)
    with pytest.raises(InfrastructureError, match="no free port to forward the guest's SSH to"):
        start(hypervisor)
    tried = [call for call in hypervisor.calls if "hostfwd_add" in call]
    assert len(tried) == len(set(tried)) == 20
    assert all(re.fullmatch(r"monitor hostfwd_add hostnet0 tcp:127\.0\.0\.1:\d+-:22", call) for call in tried)
    assert not hypervisor.qemu_runs()


def test_a_wanted_port_is_the_only_one_tried(hypervisor: Hypervisor) -> None:
    with vm.running("a", hypervisor.boot, ssh_port=40022) as machine:
        assert machine.port == 40022
    assert [call for call in hypervisor.calls if "hostfwd_add" in call] == [
        "monitor hostfwd_add hostnet0 tcp:127.0.0.1:40022-:22"
    ]


def test_a_daemon_is_told_to_end_the_machine_with_the_keeper(hypervisor: Hypervisor) -> None:
    with vm.running("a", hypervisor.boot, uri="qemu:///session"):
        pass
    assert hypervisor.calls[:2] == ["open qemu:///session", "create flags=2"]


def test_the_embedded_driver_lives_in_the_machines_own_folder(hypervisor: Hypervisor) -> None:
    with vm.running("a", hypervisor.boot) as machine:
        root = machine.order["runtime"]
        conf = (Path(root) / "etc" / "qemu.conf").read_text()
        assert 'stdio_handler = "file"' in conf
        assert (Path(root) / "cache").is_symlink()
    assert hypervisor.calls[:2] == [f"open qemu:///embed?root={root}", "create flags=0"]


def test_its_own_words_are_kept_in_its_log(hypervisor: Hypervisor) -> None:
    machine = start(hypervisor)
    (machine.folder / "order.json").write_text("{")
    os.kill(keeper_of(machine), signal.SIGTERM)
    assert eventually((machine.folder / "ended.json").exists)
    assert (machine.folder / "keeper.log").read_text() == ""
    assert json.loads((machine.folder / "ended.json").read_text())["why"] == "the keeper stopped"
