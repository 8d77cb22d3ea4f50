# SPDX-License-Identifier: Apache-2.0
"""An SSH server in a thread: lets the testbed's key in and runs commands on this host, as a guest would."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
from typing import Any

import paramiko


class _Session(paramiko.ServerInterface):  # type: ignore[misc]  # paramiko has no types
    def __init__(self, server: SshServer) -> None:
        self._server = server

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        accepted = username == "root" and key.get_base64() == self._server.public_key
        return paramiko.AUTH_SUCCESSFUL if accepted else paramiko.AUTH_FAILED  # type: ignore[no-any-return]

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.OPEN_SUCCEEDED  # type: ignore[no-any-return]

    def check_channel_exec_request(self, channel: Any, command: bytes) -> bool:
        threading.Thread(target=self._server.execute, args=(channel, command.decode()), daemon=True).start()
        return True


class SshServer:
    """Listens on a port of loopback until it is closed."""

    def __init__(self, public_key: str) -> None:
        self.public_key = public_key
        self.commands: list[str] = []
        self.host_key = paramiko.ECDSAKey.generate()
        self._transports: list[paramiko.Transport] = []
        self._processes: list[subprocess.Popen[bytes]] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = self._listener.accept()
                transport = paramiko.Transport(peer)
                transport.add_server_key(self.host_key)
                self._transports.append(transport)
                with contextlib.suppress(paramiko.SSHException, EOFError):
                    transport.start_server(server=_Session(self))

    def execute(self, channel: Any, command: str) -> None:
        """Run a command, its streams being the channel's."""
        self.commands.append(command)
        process = subprocess.Popen(
            ["sh", "-c", command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._processes.append(process)
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None

        def feed() -> None:
            assert process.stdin is not None
            with contextlib.suppress(OSError, EOFError):
                while data := channel.recv(65536):
                    process.stdin.write(data)
                    process.stdin.flush()
                process.stdin.close()

        def drain(stream: Any, send: Any) -> None:
            with contextlib.suppress(OSError, EOFError):
                while data := stream.read1(65536):
                    send(data)

        threading.Thread(target=feed, daemon=True).start()
        readers = [
            threading.Thread(target=drain, args=pair, daemon=True)
            for pair in ((process.stdout, channel.sendall), (process.stderr, channel.sendall_stderr))
        ]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            code = process.wait()
            channel.send_exit_status(code if code >= 0 else 128 - code)
            channel.close()

    def hang_up(self) -> None:
        """Break every connection, without a word."""
        for transport in self._transports:
            transport.sock.close()
            transport.close()

    def close(self) -> None:
        self._listener.close()
        self.hang_up()
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                with contextlib.suppress(OSError):
                    assert stream is not None
                    stream.close()
