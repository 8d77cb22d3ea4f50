# SPDX-License-Identifier: Apache-2.0
"""Commands in the guest over SSH (fabric): the forwarded loopback port, the testbed's key."""

from __future__ import annotations

import contextlib
import logging
import socket
import time
from collections.abc import Callable, Iterator, Sequence

import fabric
import paramiko

from testbed.common.errors import GuestHangError, InfrastructureError
from testbed.guestlink import keys
from testbed.guestlink.lost import BROKEN
from testbed.guestlink.shell import Shell

HOST = "127.0.0.1"
logging.getLogger("paramiko").setLevel(logging.CRITICAL)  # its errors arrive as exceptions


class SshShell(Shell):
    """A connection to an SSH server."""

    def __init__(self, connection: fabric.Connection) -> None:
        super().__init__(connection)
        self._connection = connection

    def close(self) -> None:
        """Close the connection; a broken one is no error."""
        with contextlib.suppress(*BROKEN):
            self._connection.close()

    @property
    def connected(self) -> bool:
        """Whether the connection is open, as far as this side knows."""
        return bool(self._connection.is_connected)

    def _open(self) -> paramiko.Channel:
        return self._connection.transport.open_session()


class GuestShell(SshShell):
    """A connection to a guest's root account."""

    def __init__(self, port: int) -> None:
        self.port = port
        super().__init__(
            fabric.Connection(
                HOST,
                user="root",
                port=port,
                config=fabric.Config(overrides={"load_ssh_configs": False}),
                connect_kwargs={
                    "key_filename": str(keys.private_key()),
                    "look_for_keys": False,
                    "allow_agent": False,
                    "banner_timeout": 60,
                    "auth_timeout": 120,
                    "timeout": 10,
                },
            )
        )

    def connect(self, *, within: float, alive: Callable[[], None] = lambda: None) -> None:
        """Connect, retrying for `within` seconds. `alive` is called before each try and may raise.

        Raises `GuestHangError` if the SSH server does not answer in time.
        """
        deadline = time.monotonic() + within
        pause = 0.05
        while True:
            alive()
            try:
                # QEMU accepts connections before the guest has a server: only a greeting shows that there is
                # one.
                peer = _connect_greeted(self.port, timeout=max(1.0, deadline - time.monotonic()))
                self._connection.connect_kwargs["sock"] = peer
                self._connection.open()
                self._connection.transport.set_keepalive(5)
                return
            except paramiko.AuthenticationException:
                raise InfrastructureError("the guest rejects the testbed's SSH key") from None
            except BROKEN:
                self.close()
            if time.monotonic() >= deadline:
                raise GuestHangError(
                    f"the guest runs, but its SSH server did not answer within {within:.0f} s",
                    hint="sentinel vm console shows the guest's console",
                )
            time.sleep(pause)
            pause = min(0.5, pause * 1.5)


@contextlib.contextmanager
def shell(port: int, *, within: float, alive: Callable[[], None] = lambda: None) -> Iterator[GuestShell]:
    """Yield a connected shell."""
    with GuestShell(port) as s:
        s.connect(within=within, alive=alive)
        yield s


def answers(port: int, *, within: float) -> bool:
    """Return whether the guest's SSH server greets within that many seconds."""
    try:
        _connect_greeted(port, timeout=within).close()
    except OSError:
        return False
    return True


def command_line(port: int, arguments: Sequence[str] = ()) -> list[str]:
    """Return the OpenSSH command line for an interactive session."""
    options = (
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
        "LogLevel=ERROR",
        "IdentitiesOnly=yes",
    )
    return [
        *["ssh", "-F", "none", "-i", str(keys.private_key()), "-p", str(port)],
        *[word for option in options for word in ("-o", option)],
        f"root@{HOST}",
        *arguments,
    ]


def _connect_greeted(port: int, *, timeout: float) -> socket.socket:
    """Connect and wait for the SSH greeting, without reading it. Raises `OSError`."""
    peer = socket.create_connection((HOST, port), timeout=5)
    peer.settimeout(timeout)
    try:
        if peer.recv(4, socket.MSG_PEEK) != b"SSH-":
            raise ConnectionResetError("no greeting")
    except BaseException:
        peer.close()
        raise
    return peer
