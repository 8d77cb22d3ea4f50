# SPDX-License-Identifier: Apache-2.0
"""Commands and files of a target over SSH, with the user's keys and known hosts."""

from __future__ import annotations

import socket
from typing import Any

import fabric
import paramiko

from testbed.common.errors import InfrastructureError, LostConnectionError, UsageError
from testbed.guestlink.ssh import SshShell
from testbed.targets.spec import Target

_CONNECT_WITHIN = 20  # seconds
_KEEPALIVE = 5  # seconds between two questions whether the other side is still there


class RemoteShell(SshShell):
    """A connection to a target. ~/.ssh/config applies, but no password is asked for.

    Raises `InfrastructureError` if the target cannot be reached or its host key is unknown or wrong, and
    `UsageError` if it refuses the user's keys.
    """

    preposition = "on"

    def __init__(self, target: Target) -> None:
        self.place = target.name
        options: dict[str, Any] = {
            "timeout": _CONNECT_WITHIN,
            "banner_timeout": _CONNECT_WITHIN,
            "auth_timeout": _CONNECT_WITHIN,
        }
        if target.key is not None:
            key = target.key.expanduser()
            if not key.is_file():
                raise UsageError(f"the key {key}: does not exist")
            options |= {"key_filename": str(key), "allow_agent": False, "look_for_keys": False}
        port = None if target.port == 22 else target.port  # None: that of ~/.ssh/config, or 22
        super().__init__(fabric.Connection(target.name, port=port, connect_kwargs=options))
        self._connection.client.load_system_host_keys()
        self._connection.client.set_missing_host_key_policy(paramiko.RejectPolicy())
        self._connect(target)

    def _connect(self, target: Target) -> None:
        where = f"ssh {target.name}" + ("" if target.port == 22 else f" -p {target.port}")
        try:
            self._connection.open()
            self._connection.transport.set_keepalive(_KEEPALIVE)
        except paramiko.AuthenticationException:
            raise UsageError(f"{self.place} refuses this user's keys", hint=f"try: {where}") from None
        except paramiko.BadHostKeyException:
            raise InfrastructureError(
                f"{self.place} has another host key than ~/.ssh/known_hosts says", hint=f"try: {where}"
            ) from None
        except paramiko.SSHException as e:
            if "not found in known_hosts" in str(e):
                raise InfrastructureError(
                    f"the host key of {self.place} is not known", hint=f"{where}, and confirm the key"
                ) from None
            raise InfrastructureError(f"cannot connect to {self.place}: {e}", hint=f"try: {where}") from None
        except (OSError, EOFError, socket.gaierror) as e:
            reason = getattr(e, "strerror", None) or str(e) or "the connection was closed"
            raise InfrastructureError(
                f"cannot connect to {self.place}: {reason}", hint=f"try: {where}"
            ) from None

    def _open(self) -> paramiko.Channel:
        if not self.connected:
            raise LostConnectionError(f"the connection to {self.place} broke")
        return super()._open()
