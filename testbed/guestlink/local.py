# SPDX-License-Identifier: Apache-2.0
"""Commands and files of this host, through the same interface as those of a machine over SSH."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import tempfile
from typing import IO, Any

from invoke.context import Context

from testbed.common.run import search_path
from testbed.guestlink.shell import Shell


class _Channel:
    """The input and output of a command: the part of `paramiko.Channel` that this package uses."""

    def __init__(self) -> None:
        self.closed = self.eof_received = False
        self._timeout: float | None = None
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 -- closed by close()
        self._process: subprocess.Popen[bytes] | None = None

    def exec_command(self, command: str) -> None:
        self._process = subprocess.Popen(
            ["sh", "-c", command],
            env={**os.environ, "PATH": search_path()},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            process_group=0,
        )

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise OSError("no command was started")
        return self._process

    @property
    def _output(self) -> int:
        stream = self._running.stdout
        assert stream is not None  # noqa: S101 -- exec_command() made the pipe
        return stream.fileno()

    def settimeout(self, timeout: float | None) -> None:
        self._timeout = timeout

    def recv_ready(self) -> bool:
        return not self.closed and not self.eof_received and bool(self._readable(0))

    def recv(self, size: int) -> bytes:
        if self.closed or self.eof_received:
            return b""
        if not self._readable(self._timeout):
            raise TimeoutError
        data = os.read(self._output, size)
        self.eof_received = not data
        return data

    def _readable(self, timeout: float | None) -> list[int]:
        return select.select([self._output], [], [], timeout)[0]

    def sendall(self, data: bytes) -> None:
        stream = self._running.stdin
        assert stream is not None  # noqa: S101 -- exec_command() made the pipe
        stream.write(data)
        stream.flush()

    def shutdown_write(self) -> None:
        stream = self._running.stdin
        assert stream is not None  # noqa: S101 -- exec_command() made the pipe
        with contextlib.suppress(BrokenPipeError):
            stream.close()

    def exit_status_ready(self) -> bool:
        return self._running.poll() is not None

    def recv_exit_status(self) -> int:
        status = self._running.wait()
        return status if status >= 0 else 128 - status

    def makefile_stderr(self, _mode: str) -> IO[bytes]:
        self._errors.seek(0)
        return self._errors

    def close(self) -> None:
        """Hang up. The process group of a command that ignores the end of its input is killed."""
        if self.closed:
            return
        self.closed = True
        process = self._process
        if process is not None:
            self.shutdown_write()
            if process.stdout is not None:
                process.stdout.close()
            for sign in (signal.SIGHUP, signal.SIGKILL):
                if process.poll() is None:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, sign)
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(timeout=3)
        self._errors.close()


class LocalShell(Shell):
    """Runs commands on this host, as this user."""

    place = "this host"
    preposition = "on"

    def __init__(self) -> None:
        super().__init__(Context())

    def close(self) -> None:
        """Do nothing: there is no connection."""

    @property
    def connected(self) -> bool:
        """Always true."""
        return True

    def _open(self) -> Any:
        return _Channel()
