# SPDX-License-Identifier: Apache-2.0
"""Running programs: failures quote a command line for a shell, and children never outlive their parent."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
import pytest

from testbed.common.errors import BuildError, InfrastructureError
from testbed.common.run import run, shown, spawn, stream, which
from tests.fakes.programs import Programs


def gone(pid: int) -> bool:
    """Return whether the process has ended; a zombie counts as ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def eventually_gone(pid: int) -> bool:
    deadline = time.monotonic() + 5
    while not gone(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def read_pid(path: Path) -> int:
    deadline = time.monotonic() + 5
    while not (path.exists() and path.read_text().endswith("\n")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return int(path.read_text())


def test_stdout_and_stderr_are_separate() -> None:
    result = run(["sh", "-c", "echo out; echo err >&2"])
    assert (result.returncode, result.stdout, result.stderr) == (0, "out\n", "err\n")


def test_stdin_environment_and_folder_are_passed_on(tmp_path: Path) -> None:
    script = 'cat; echo "$WORD"; pwd; echo "${HOME:+home}"'
    result = run(["sh", "-c", script], stdin="in\n", env={"WORD": "w"}, cwd=tmp_path)
    assert result.stdout == f"in\nw\n{tmp_path}\nhome\n"
    assert run(["cat"]).stdout == ""  # an empty stdin does not block


def test_invalid_utf8_is_replaced() -> None:
    assert run(["printf", r"a\377b"]).stdout == "a\ufffdb"


def test_failure_shows_the_command_line_and_last_output() -> None:
    argv = ["sh", "-c", "echo one >&2; echo two >&2; echo 'it broke' >&2; echo last >&2; exit 3", "a b", "$x"]
    with pytest.raises(BuildError) as caught:
        run(argv, error=BuildError)
    assert caught.value.message == f"two / it broke / last (command exited with status 3: {shlex.join(argv)})"
    pasted = caught.value.message.partition("status 3: ")[2].removesuffix(")")
    assert shlex.split(pasted) == argv


def test_failure_without_stderr_shows_stdout() -> None:
    with pytest.raises(InfrastructureError, match=r"^reason \(command exited with status 1: sh -c"):
        run(["sh", "-c", "echo reason; exit 1"])
    with pytest.raises(InfrastructureError, match=r"^no output \(command exited with status 1: false\)$"):
        run(["false"])


def test_unchecked_failure_returns_the_status() -> None:
    assert run(["sh", "-c", "exit 7"], check=False).returncode == 7


def test_missing_program_names_its_debian_package(programs: Programs) -> None:
    programs.alone()
    with pytest.raises(InfrastructureError, match=r"^qemu-img is not installed$") as caught:
        which("qemu-img", package="qemu-utils")
    assert caught.value.hint == "apt-get install qemu-utils"
    with pytest.raises(InfrastructureError, match=r"^bc is not installed$") as caught:
        run(["bc"])
    assert caught.value.hint == "apt-get install bc"
    here = programs.shell("bc", "exit 0")
    assert which("bc") == str(here)


def test_timeout_kills_the_process_group(tmp_path: Path) -> None:
    script = f"sleep 60 & echo $! >{tmp_path}/pid; wait"
    started = time.monotonic()
    with pytest.raises(InfrastructureError, match=r"^command timed out after 0\.2 s: sh -c "):
        run(["sh", "-c", script], timeout=0.2)
    assert time.monotonic() - started < 3
    assert eventually_gone(read_pid(tmp_path / "pid"))


def test_program_that_ignores_sigterm_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    patient = subprocess.Popen.wait

    def impatient(self: subprocess.Popen[bytes], timeout: float | None = None) -> int:
        return patient(self, timeout=None if timeout is None else 0.1)

    monkeypatch.setattr(subprocess.Popen, "wait", impatient)
    with spawn(["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"]) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
    assert process.returncode == -signal.SIGKILL


@pytest.mark.parametrize("reason", [KeyboardInterrupt(), RuntimeError("a defect"), None])
def test_process_group_ends_with_the_block(tmp_path: Path, reason: BaseException | None) -> None:
    script = f"sleep 60 & echo $! >{tmp_path}/pid; wait"
    try:
        with spawn(["sh", "-c", script]) as process:
            child = read_pid(tmp_path / "pid")
            assert not gone(child)
            if reason is not None:
                raise reason
    except (KeyboardInterrupt, RuntimeError) as e:
        assert e is reason
    assert process.returncode == -signal.SIGTERM
    assert eventually_gone(child)


PARENT = """
import sys
from testbed.common.run import run
run(["sh", "-c", f"echo $$ >{sys.argv[1]}; exec sleep 60"])
"""


def test_child_dies_with_a_killed_parent(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT, tmp_path / "pid"]) as parent:
        child = read_pid(tmp_path / "pid")
        assert not gone(child)
        parent.send_signal(signal.SIGKILL)
    assert eventually_gone(child)


def test_stream_logs_the_command_and_every_line(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "make.log"
    lines: list[str] = []
    for word in ("one", "two"):
        stream(["sh", "-c", "echo $0; echo err >&2; printf end", word], log=log, on_line=lines.append)
    assert lines == ["one", "err", "end", "two", "err", "end"]
    command = "$ sh -c 'echo $0; echo err >&2; printf end'"
    assert log.read_text() == f"{command} one\none\nerr\nend{command} two\ntwo\nerr\nend"


def test_stream_passes_lines_on_immediately(tmp_path: Path) -> None:
    go = tmp_path / "go"

    def on_line(line: str) -> None:
        if line == "first":
            go.touch()  # the program waits for it before the next line

    script = f"echo first; until [ -e {go} ]; do sleep 0.01; done; echo second"
    stream(["timeout", "10", "sh", "-c", script], log=tmp_path / "log", on_line=on_line)
    assert (tmp_path / "log").read_text().endswith("first\nsecond\n")


def test_failed_stream_reports_its_last_line_and_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with pytest.raises(BuildError) as caught:
        stream(["sh", "-c", "echo a; echo b; echo; exit 2"], log=log, error=BuildError, what="the kernel")
    assert caught.value.message == "the kernel failed (exit 2): b"
    assert caught.value.log == log
    with pytest.raises(InfrastructureError, match=r"^sh failed \(exit 1\): $"):
        stream(["sh", "-c", "exit 1"], log=log)


def test_failed_stream_reports_the_explaining_line(tmp_path: Path) -> None:
    def explain(lines: Sequence[str]) -> str | None:
        return next((line for line in lines if "error:" in line), None)

    script = "echo 'a.c:3: error: no'; echo noise; exit 2"
    with pytest.raises(InfrastructureError, match=r"^sh failed \(exit 2\): a\.c:3: error: no$"):
        stream(["sh", "-c", script], log=tmp_path / "log", explain=explain)
    with pytest.raises(InfrastructureError, match=r"^sh failed \(exit 2\): noise$"):
        stream(["sh", "-c", "echo noise; exit 2"], log=tmp_path / "log", explain=explain)


def test_explanation_searches_the_end_of_the_output_only(tmp_path: Path) -> None:
    kept: list[int] = []

    def explain(lines: Sequence[str]) -> None:
        kept.append(len(lines))

    with pytest.raises(InfrastructureError, match=r"5000$"):
        stream(["sh", "-c", "seq 5000; exit 1"], log=tmp_path / "log", explain=explain)
    assert kept == [4000]


def test_stream_on_a_full_disk_is_reported(tmp_path: Path) -> None:
    script = "echo 'ld: final link failed: No space left on device'; echo noise; exit 1"
    with pytest.raises(InfrastructureError, match=r"^make failed: the disk is full$") as caught:
        stream(["sh", "-c", script], log=tmp_path / "log", error=BuildError, what="make")
    assert caught.value.log == tmp_path / "log"
    assert caught.value.hint is not None
    assert "sentinel cache prune" in caught.value.hint


def test_interrupted_stream_ends_its_program(tmp_path: Path) -> None:
    def interrupt(line: str) -> None:
        (tmp_path / "pid").write_text(line + "\n")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stream(["sh", "-c", "echo $$; exec sleep 60"], log=tmp_path / "log", on_line=interrupt)
    assert eventually_gone(read_pid(tmp_path / "pid"))


_fork_hook: list[Callable[[], None]] = []  # a registered hook stays until the process ends
os.register_at_fork(after_in_parent=lambda: [hook() for hook in _fork_hook])


def test_an_interruption_while_a_program_starts_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "_fork_hook", [lambda: signal.raise_signal(signal.SIGINT)])
    with pytest.raises(KeyboardInterrupt), spawn(["sleep", "61"]):
        pass
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert not any("61" in child.cmdline() for child in psutil.Process().children())


def test_shown_command_is_valid_shell() -> None:
    argv: list[str | Path] = ["a", "b c", "it's", "", "$HOME", "*", Path("/x y")]
    assert shlex.split(shown(argv)) == [os.fspath(a) for a in argv]
