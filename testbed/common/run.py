# SPDX-License-Identifier: Apache-2.0
"""Run programs: the only place that starts subprocesses.

A failure shows the command line, quoted for a shell, and the last lines of output. Each child has its own
process group. An exception kills the whole group; if this process is killed, the kernel sends the child
SIGTERM (PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shlex
import shutil
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType

from testbed.common.errors import InfrastructureError, SentinelError

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)

Arg = str | os.PathLike[str]


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def search_path() -> str:
    """Return PATH with the system's folders: mke2fs is in /usr/sbin, which is not on a Debian user's PATH."""
    return os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"


def find(program: str) -> str | None:
    """Return the path of `program`, or None."""
    return shutil.which(program, path=search_path())


def which(program: str, *, package: str | None = None) -> str:
    """Return the path of `program`. Raises `InfrastructureError` that names the Debian package to install."""
    path = find(program)
    if path is None:
        raise InfrastructureError(f"{program} is not installed", hint=f"apt-get install {package or program}")
    return path


@contextlib.contextmanager
def spawn(
    argv: Sequence[Arg],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: int | None = subprocess.DEVNULL,
    stdout: int | None = subprocess.PIPE,
    stderr: int | None = subprocess.STDOUT,
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a program; its process group is ended with the block, however the block ends."""
    path = which(os.fspath(argv[0]))
    process: subprocess.Popen[bytes] | None = None
    try:
        with _interruptions_deferred():
            process = subprocess.Popen(
                [path, *argv[1:]],
                cwd=cwd,
                env={**os.environ, "PATH": search_path(), **(env or {})},
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                process_group=0,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 -- one prctl(2), no locks taken
            )
        yield process
    finally:
        if process is not None:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        for sig in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, sig)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=3)
                break
    if process.stdout:
        process.stdout.close()


@contextlib.contextmanager
def _interruptions_deferred() -> Iterator[None]:
    """Handle interruptions when the block has ended.

    Python ignores the exceptions of hooks that run at a fork: an interruption there would be lost, and
    `logging` would keep its lock.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are handled in the main thread
        return
    caught: list[tuple[int, FrameType | None]] = []
    handlers = {sig: signal.getsignal(sig) for sig in (signal.SIGINT, signal.SIGTERM)}
    python_handlers = {sig: handler for sig, handler in handlers.items() if callable(handler)}
    for sig in python_handlers:
        signal.signal(sig, lambda number, frame: caught.append((number, frame)))
    try:
        yield
    finally:
        for sig, handler in python_handlers.items():
            signal.signal(sig, handler)
        for number, frame in caught:
            python_handlers[signal.Signals(number)](number, frame)


def run(
    argv: Sequence[Arg],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: str | None = None,
    timeout: float | None = None,
    check: bool = True,
    error: type[SentinelError] = InfrastructureError,
) -> subprocess.CompletedProcess[str]:
    """Run a short program and return its output, stdout and stderr separately, as text.

    Raises `error` if it fails (unless `check` is false) or takes longer than `timeout` seconds.
    """
    with spawn(
        argv,
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            out, err = process.communicate(None if stdin is None else stdin.encode(), timeout=timeout)
        except subprocess.TimeoutExpired:
            raise error(f"command timed out after {timeout:g} s: {shown(argv)}") from None
    result = subprocess.CompletedProcess(
        list(argv), process.returncode, out.decode(errors="replace"), err.decode(errors="replace")
    )
    if check and result.returncode != 0:
        last = (result.stderr.strip() or result.stdout.strip()).splitlines()[-3:]
        message = " / ".join(last) or "no output"
        raise error(f"{message} (command exited with status {result.returncode}: {shown(argv)})")
    return result


def version_of(program: str) -> str:
    """The first line of `PROGRAM --version`, in no language but its own."""
    return run([program, "--version"], env={"LC_ALL": "C"}, timeout=20).stdout.partition("\n")[0]


def stream(
    argv: Sequence[Arg],
    *,
    log: Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    on_line: Callable[[str], None] = lambda line: None,
    explain: Callable[[Sequence[str]], str | None] = lambda lines: None,
    error: type[SentinelError] = InfrastructureError,
    what: str | None = None,
) -> None:
    """Run a long program. Its output is appended to `log`, and each line is passed to `on_line`.

    On failure, `explain` may choose a message from the last 4,000 lines; by default the last line is shown.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    tail: deque[str] = deque(maxlen=4000)
    with log.open("ab", buffering=0) as out, spawn(argv, cwd=cwd, env=env) as process:
        out.write(f"$ {shown(argv)}\n".encode())
        assert process.stdout is not None  # noqa: S101 -- spawn() made the pipe
        for raw in process.stdout:
            out.write(raw)
            line = raw.decode(errors="replace").rstrip()
            tail.append(line)
            on_line(line)
        code = process.wait()
    if code != 0:
        last = next((line for line in reversed(tail) if line.strip()), "")
        name = what or Path(os.fspath(argv[0])).name
        if any("No space left on device" in line for line in tail):
            raise InfrastructureError(
                f"{name} failed: the disk is full", hint="df -h; sentinel cache prune", log=log
            )
        raise error(f"{name} failed (exit {code}): {explain(tail) or last}", log=log)


def shown(argv: Sequence[Arg]) -> str:
    """Return the command line, quoted for a shell.

    >>> print(shown(['ls', '-l', 'two words']))
    ls -l 'two words'
    """
    return shlex.join(os.fspath(a) for a in argv)
