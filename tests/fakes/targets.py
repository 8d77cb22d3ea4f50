# SPDX-License-Identifier: Apache-2.0
"""Targets: what real machines say, and this host behind the SSH server of the tests."""

from __future__ import annotations

from pathlib import Path

from pytest import MonkeyPatch

from testbed.guestlink import keys
from testbed.targets.facts import Facts, Node
from testbed.targets.spec import Target
from tests.fakes.ssh_server import SshServer

GIB = 1 << 30
OPTANE = Facts(
    system="Linux",
    processor="x86_64",
    release="6.1.0-18-amd64",
    version="#1 SMP Debian",
    os="Debian GNU/Linux 12 (bookworm)",
    cpu="Intel(R) Xeon(R) Platinum 8260",
    cpus=24,
    user=0,
    id="0123456789abcdef",
    available=200 * GIB,
    cache=36 << 20,
    disk=100 * GIB,
    overlay=True,
    loop=True,
    nodes=(Node(0, 192 * GIB, 150 * GIB, "0-23"), Node(1, 768 * GIB, 700 * GIB)),
)


def behind_ssh(folder: Path, monkeypatch: MonkeyPatch) -> tuple[SshServer, Target]:
    """This host as a target over SSH, whose host key is known."""
    server = SshServer(keys.public_key())
    home = folder / "home"
    (home / ".ssh").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    key = server.host_key
    (home / ".ssh" / "known_hosts").write_text(
        f"[127.0.0.1]:{server.port} {key.get_name()} {key.get_base64()}\n"
    )
    target = Target(ssh="root@127.0.0.1", port=server.port, key=keys.private_key(), folder=folder / "target")
    return server, target
