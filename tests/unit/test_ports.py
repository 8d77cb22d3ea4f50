# SPDX-License-Identifier: Apache-2.0
"""Ports, SSH keys and processes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from testbed.common import processes, settings
from testbed.common.errors import InfrastructureError
from testbed.guestlink import keys
from testbed.vm import ports
from tests.fakes.programs import Programs


def test_candidates_are_free() -> None:
    candidates = list(ports.candidates(5))
    assert len(candidates) == 5
    for port in candidates:
        with socket.socket() as s:
            s.bind(("127.0.0.1", port))


def test_port_in_use_is_no_candidate(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert taken.getsockname()[1] not in set(ports.candidates(50))


def test_key_is_created_once_and_private() -> None:
    path = keys.private_key()
    assert path == settings.state_root() / "keys" / "id_ed25519"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    before = path.read_bytes()
    assert keys.private_key().read_bytes() == before
    public = path.with_suffix(".pub").read_text().split()
    assert public[0] == "ssh-ed25519"
    assert keys.public_key() == public[1]


def test_incomplete_key_is_replaced() -> None:
    path = settings.state_root() / "keys" / "id_ed25519"
    path.parent.mkdir(parents=True)
    path.write_text("half")
    assert keys.public_key().startswith("AAAAC3NzaC1lZDI1NTE5")
    assert path.read_text() != "half"


def test_missing_ssh_keygen_names_its_package(programs: Programs) -> None:
    programs.alone()
    with pytest.raises(InfrastructureError, match="ssh-keygen is not installed") as caught:
        keys.private_key()
    assert caught.value.hint == "apt-get install openssh-client"


def test_find_qemu_matches_the_overlay(tmp_path: Path) -> None:
    disk = str(tmp_path / "disk.qcow2")
    idle = [sys.executable, "-S", "-c", "import sys; print(1, flush=True); sys.stdin.read()"]
    commands = [
        [*idle, "-blockdev", f'{{"filename":"{disk}"}}'],
        [*idle, "-blockdev", '{"filename":"/another"}'],
        [*idle, disk],  # such as an editor
    ]
    started = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for command in commands
    ]
    try:
        for process in started:
            assert process.stdout is not None
            process.stdout.readline()
        assert processes.find_qemu(disk) == [started[0].pid]
        assert os.getpid() not in processes.find_qemu(disk)
    finally:
        for process in started:
            process.communicate()
    assert processes.find_qemu(disk) == []
