# SPDX-License-Identifier: Apache-2.0
"""Commands and files over SSH, with a server in this process that runs the commands on this host."""

from __future__ import annotations

import os
import shlex
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import fabric.runners
import paramiko
import pytest
from paramiko.common import cMSG_CHANNEL_WINDOW_ADJUST

from testbed.common import settings
from testbed.common.errors import (
    GuestHangError,
    GuestPanicError,
    InfrastructureError,
    LostConnectionError,
    UsageError,
    WorkloadError,
)
from testbed.guestlink import keys, ssh
from testbed.guestlink.shell import Result, Shell
from testbed.vm import ports
from tests.fakes.ssh_server import SshServer


@pytest.fixture(scope="module")
def key_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture(autouse=True)
def one_key(key_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENTINEL_STATE", str(key_folder))


@pytest.fixture
def server() -> Iterator[SshServer]:
    guest = SshServer(keys.public_key())
    yield guest
    guest.close()


@pytest.fixture
def shell(server: SshServer) -> Iterator[Shell]:
    with ssh.shell(server.port, within=10) as connected:
        assert connected.connected
        yield connected


def test_run_returns_status_and_output(shell: Shell) -> None:
    assert shell.run("echo out; echo err >&2") == Result(0, "out\n", "err\n")
    assert shell.run("exit 7", check=False).code == 7


def test_run_passes_stdin(shell: Shell) -> None:
    assert shell.run("cat", stdin='{"a": "é"}\n').out == '{"a": "é"}\n'
    assert shell.run("cat", stdin="").out == ""


def test_lines_arrive_while_the_command_runs(shell: Shell, tmp_path: Path) -> None:
    go = tmp_path / "go"
    seen: list[str] = []
    errors: list[str] = []

    def on_line(line: str) -> None:
        seen.append(line)
        go.touch()

    command = f"printf one; echo; until [ -e {go} ]; do sleep 0.01; done; echo two; echo bad >&2"
    shell.run(command, on_line=on_line, on_error=errors.append, timeout=10)
    assert seen == ["one", "two"]
    assert errors == ["bad"]


def test_last_line_without_newline_is_passed_on(shell: Shell) -> None:
    seen: list[str] = []
    shell.run("printf 'one\\ntwo'", on_line=seen.append)
    assert seen == ["one", "two"]


def test_failed_command_is_a_workload_error(shell: Shell) -> None:
    with pytest.raises(
        WorkloadError, match=r"^in the guest: no such thing \(command exited with status 3: echo no such"
    ):
        shell.run("echo no such thing >&2; exit 3")
    with pytest.raises(WorkloadError, match=r"^in the guest: last \(command exited with status 1"):
        shell.run("echo first; echo last; exit 1")
    with pytest.raises(
        WorkloadError, match=r"^in the guest: no output \(command exited with status 1: exit 1\)"
    ):
        shell.run("exit 1")


def test_command_timeout_is_a_hang(shell: Shell) -> None:
    with pytest.raises(GuestHangError, match=r"^command timed out after 0\.2 s: sleep 30$"):
        shell.run("sleep 30", timeout=0.2)


def test_command_timeout_is_a_hang_while_the_timer_ends(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A timer's thread that has closed the channel, but still runs, on a busy host."""
    kill = fabric.runners.Remote.kill

    def slow_kill(remote: fabric.runners.Remote) -> None:
        kill(remote)
        time.sleep(0.5)

    monkeypatch.setattr(fabric.runners.Remote, "kill", slow_kill)
    with pytest.raises(GuestHangError, match=r"^command timed out after 0\.2 s: sleep 30$"):
        shell.run("sleep 30", timeout=0.2)


def test_broken_connection_during_command_is_lost(shell: Shell, server: SshServer) -> None:
    timer = threading.Timer(0.2, server.hang_up)
    timer.start()
    with pytest.raises(LostConnectionError, match="the connection to the guest broke"):
        shell.run("sleep 30", timeout=20)
    timer.join()
    assert not shell.connected


def test_broken_connection_is_lost_for_every_operation(
    shell: Shell, server: SshServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.close()
    deadline = time.monotonic() + 5
    while shell.connected and time.monotonic() < deadline:
        time.sleep(0.01)
    with pytest.raises(LostConnectionError):
        shell.run("true", timeout=5)
    with pytest.raises(LostConnectionError):
        shell.follow("true")
    with pytest.raises(LostConnectionError):
        shell.put(Path(__file__), "/x")
    with pytest.raises(LostConnectionError):
        shell.get("/x", tmp_path / "x")


def test_follower_reads_output_while_the_command_runs(shell: Shell, tmp_path: Path) -> None:
    go = tmp_path / "go"
    with shell.follow(
        f"echo one; until [ -e {go} ]; do sleep 0.01; done; printf 'two\\nthr'; printf ee"
    ) as out:
        lines: list[str] = []
        while not lines:
            lines += out.lines(wait=1)
        assert lines == ["one"]
        assert out.lines(wait=0.05) == []
        assert not out.over
        go.touch()
        deadline = time.monotonic() + 10
        while not out.over and time.monotonic() < deadline:
            lines += out.lines(wait=0.2)
        lines += out.lines(wait=0.2)
    assert lines == ["one", "two", "three"]


def test_follower_is_over_when_the_connection_breaks(shell: Shell, server: SshServer) -> None:
    with shell.follow("echo one; sleep 30") as out:
        while not out.lines(wait=1):
            pass
        server.hang_up()
        deadline = time.monotonic() + 5
        while not out.over:
            assert time.monotonic() < deadline
            out.lines(wait=0.05)


def test_put_folder_keeps_modes_and_skips_pycache(shell: Shell, tmp_path: Path) -> None:
    source = tmp_path / "code"
    (source / "sub" / "__pycache__").mkdir(parents=True)
    (source / "sub" / "__pycache__" / "a.pyc").touch()
    (source / "run").write_text("#!/bin/sh\n")
    (source / "run").chmod(0o755)
    (source / "sub" / "data").write_bytes(b"\0\xff" * 100_000)
    target = tmp_path / "a b" / "guest's"
    shell.put(source, str(target))
    assert (target / "run").stat().st_mode & 0o777 == 0o755
    assert (target / "sub" / "data").read_bytes() == b"\0\xff" * 100_000
    assert not (target / "sub" / "__pycache__").exists()


def test_put_file_under_new_name(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("text")
    shell.put(tmp_path / "a", str(tmp_path / "new" / "b"))
    assert (tmp_path / "new" / "b").read_text() == "text"
    if os.geteuid() == 0:
        assert (tmp_path / "new" / "b").stat().st_uid == 0


def test_put_missing_source_is_a_usage_error(shell: Shell, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="none does not exist"):
        shell.put(tmp_path / "none", "/x")


def test_put_into_existing_folder(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    (tmp_path / "a").chmod(0o751)
    (tmp_path / "code" / "sub").mkdir(parents=True)
    (tmp_path / "code" / "sub" / "b").write_text("new")
    there = tmp_path / "there"
    there.mkdir(mode=0o700)
    shell.put(tmp_path / "a", str(there))
    shell.put(tmp_path / "a", f"{there}/new/folder/")
    for path in (there / "a", there / "new" / "folder" / "a"):
        assert (path.read_text(), path.stat().st_mode & 0o777) == ("a", 0o751)
    shell.put(tmp_path / "code", str(there))
    assert (there / "sub" / "b").read_text() == "new"
    assert there.stat().st_mode & 0o777 == 0o700  # /root keeps its mode, or sshd would refuse its keys
    shell.put(tmp_path / "code", f"{there}/")
    assert (there / "code" / "sub" / "b").read_text() == "new"
    (tmp_path / "link").symlink_to("code")
    shell.put(tmp_path / "link", str(tmp_path / "copy"))
    assert (tmp_path / "copy" / "sub" / "b").read_text() == "new"
    assert not (tmp_path / "copy").is_symlink()
    assert not list(there.rglob("*.part*"))


def test_special_characters_in_names(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "here").write_text("text")
    folder = tmp_path / "in"
    for name in ("-x", "a b", "it's", "a\nb", "$(id)", "*", "é", "x\\n"):
        shell.put(tmp_path / "here", str(folder / name))
        assert (folder / name).read_text() == "text"
        shell.get(str(folder / name), tmp_path / "back")
        assert (tmp_path / "back").read_text() == "text"
    shell.get(str(folder), tmp_path / "all of it")
    assert {p.name for p in (tmp_path / "all of it").iterdir()} == {p.name for p in folder.iterdir()}


def test_put_special_file_is_a_usage_error(shell: Shell, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "broken").symlink_to("nowhere")
    for source, message in (
        (tmp_path / "fifo", "fifo: cannot be read: it is a FIFO, not a file"),
        (Path("/dev/null"), "cannot be read: it is a device, not a file"),
        (tmp_path / "broken", "broken does not exist"),
        (tmp_path / "loop", "loop cannot be read: "),
        (tmp_path / ("x" * 300), "cannot be read: .*too long"),
        (Path("/"), "is the root of the file system"),
    ):
        with pytest.raises(UsageError, match=message):
            shell.put(source, str(tmp_path / "target"))
    with pytest.raises(UsageError, match="the path in the guest is empty"):
        shell.put(Path(__file__), "")
    assert not (tmp_path / "target").exists()


def test_put_failure_quotes_the_guest(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 5_000_000)  # more than the channel takes before the command ends
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a").mkdir()
    for source, target, words in (
        (tmp_path / "a", tmp_path / "a" / "b" / "c", "Not a directory"),
        (tmp_path / "a", tmp_path / "folder", "cannot overwrite directory"),
        (tmp_path / "folder", tmp_path / "a", "File exists"),
        (tmp_path / "a", tmp_path / ("x" * 300), "File name too long"),
        (tmp_path / "a", Path("/proc/nothing"), "/proc/nothing"),
    ):
        with pytest.raises(WorkloadError, match=f"^in the guest: .*{words}.* \\(status [0-9]+\\)$"):
            shell.put(source, str(target))
    assert shell.run("echo still here").out == "still here\n"


def test_get_file(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(b"\0data" * 200_000)
    shell.get(str(tmp_path / "there"), tmp_path / "here")
    assert (tmp_path / "here").read_bytes() == b"\0data" * 200_000
    shell.get("/proc/version", tmp_path / "here")  # of size 0, as its folder says
    assert (tmp_path / "here").read_text() == Path("/proc/version").read_text()
    with pytest.raises(UsageError, match=r"^no such file or folder in the guest: /no/such/file$"):
        shell.get("/no/such/file", tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_get_folder_keeps_modes_and_links(shell: Shell, tmp_path: Path) -> None:
    there = tmp_path / "there"
    (there / "sub").mkdir(parents=True)
    (there / "sub" / "run").write_text("#!/bin/sh\n")
    (there / "sub" / "run").chmod(0o755)
    (there / "link").symlink_to("/etc/passwd")
    shell.get(str(there), tmp_path / "here")
    assert (tmp_path / "here" / "sub" / "run").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "here" / "link").readlink() == Path("/etc/passwd")
    with pytest.raises(UsageError, match=r"here: cannot be written: File exists$"):
        shell.get(str(there), tmp_path / "here")
    assert not list(tmp_path.glob(".*"))


def test_get_special_file_is_a_usage_error(shell: Shell, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for source, message in (
        (str(tmp_path / "fifo"), "fifo in the guest is neither a file nor a folder"),
        ("/dev/zero", "/dev/zero in the guest is neither"),
        (str(tmp_path), "fifo in the guest is a special file"),
        ("/proc/self", "/proc/self in the guest is a folder of its kernel: copy single files of it"),
        ("", "the path in the guest is empty"),
        ("/" + "x" * 5000, "no such file or folder in the guest: /xxx"),
    ):
        with pytest.raises(UsageError, match=message):
            shell.get(source, tmp_path / "here")
    for target in (tmp_path / "none" / "x", Path("/proc/x"), tmp_path / "fifo" / "x", tmp_path / ("x" * 300)):
        with pytest.raises(UsageError, match="cannot be written: "):
            shell.get("/etc/passwd", target)
    assert shell.run("echo still here").out == "still here\n"


def test_broken_connection_during_copy_is_lost(shell: Shell, server: SshServer, tmp_path: Path) -> None:
    (tmp_path / "large").mkdir()
    with (tmp_path / "large" / "file").open("wb") as f:
        f.truncate(1 << 30)
    timer = threading.Timer(0.3, server.hang_up)
    timer.start()
    with pytest.raises(LostConnectionError, match="the connection to the guest broke"):
        shell.get(str(tmp_path / "large"), tmp_path / "here")
    timer.join()
    assert not (tmp_path / "here").exists()
    assert not list(tmp_path.glob(".*"))


def test_connection_that_breaks_while_output_is_confirmed_is_lost(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def send(transport: paramiko.Transport, message: paramiko.Message) -> None:
        if message.asbytes()[:1] == cMSG_CHANNEL_WINDOW_ADJUST:
            raise EOFError  # as the socket does before the thread that receives finds out
        real_send(transport, message)

    (tmp_path / "large").mkdir()
    with (tmp_path / "large" / "file").open("wb") as f:
        f.truncate(1 << 24)
    real_send = paramiko.Transport._send_user_message
    monkeypatch.setattr(paramiko.Transport, "_send_user_message", send)
    with pytest.raises(LostConnectionError, match="the connection to the guest broke"):
        shell.get(str(tmp_path / "large"), tmp_path / "here")
    assert not (tmp_path / "here").exists()


def test_error_in_line_callback_is_raised(shell: Shell) -> None:
    def full(_: str) -> None:
        raise OSError(28, "No space left on device", "standard output")

    with pytest.raises(OSError, match="No space left"):
        shell.run("echo one", on_line=full)


def test_rejected_key_is_an_infrastructure_error(server: SshServer) -> None:
    server.public_key = "another"
    with (
        pytest.raises(InfrastructureError, match="rejects the testbed's SSH key"),
        ssh.shell(server.port, within=5),
    ):
        pytest.fail("logged in with the wrong key")


def test_missing_server_is_a_hang_after_the_limit() -> None:
    (port,) = ports.candidates(1)
    started = time.monotonic()
    with (
        pytest.raises(GuestHangError, match="SSH server did not answer within 0 s") as caught,
        ssh.shell(port, within=0.3),
    ):
        pytest.fail("connected to nothing")
    assert 0.3 <= time.monotonic() - started < 3
    assert caught.value.hint is not None


def test_connect_retries_until_the_server_answers() -> None:
    asked: list[float] = []
    (port,) = ports.candidates(1)
    late: list[SshServer] = []

    def come_up() -> None:
        if len(asked) == 3:
            guest = SshServer(keys.public_key())
            late.append(guest)
            forward(port, guest.port)
        asked.append(time.monotonic())

    with ssh.shell(port, within=10, alive=come_up) as shell:
        assert shell.run("echo here").out == "here\n"
    assert len(asked) >= 4
    late[0].close()


def forward(port: int, to: int) -> None:
    """Forward one connection on `port` to another port, as QEMU does."""
    listener = socket.create_server(("127.0.0.1", port))

    def pump(a: socket.socket, b: socket.socket) -> None:
        try:
            while data := a.recv(65536):
                b.sendall(data)
        except OSError:
            pass
        finally:
            a.close()
            b.close()

    def accept() -> None:
        peer, _ = listener.accept()
        other = socket.create_connection(("127.0.0.1", to))
        for pair in ((peer, other), (other, peer)):
            threading.Thread(target=pump, args=pair, daemon=True).start()
        listener.close()

    threading.Thread(target=accept, daemon=True).start()


def test_verdict_ends_the_wait_for_a_server() -> None:
    (port,) = ports.candidates(1)

    def panic() -> None:
        raise GuestPanicError("panic")

    with pytest.raises(GuestPanicError), ssh.shell(port, within=60, alive=panic):
        pytest.fail("connected to nothing")


def test_a_port_without_a_greeting_is_no_server(server: SshServer) -> None:
    assert ssh.answers(server.port, within=5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        assert not ssh.answers(silent.getsockname()[1], within=0.2)
        assert time.monotonic() - started < 2
    (closed,) = ports.candidates(1)
    assert not ssh.answers(closed, within=0.2)


def test_the_openssh_command_line_uses_only_our_key_and_no_config() -> None:
    line = ssh.command_line(2222, ["echo", "a b"])
    assert line[0] == "ssh"
    assert line[-3:] == [f"root@{ssh.HOST}", "echo", "a b"]
    text = shlex.join(line)
    for words in ("-F none", "-p 2222", f"-i {settings.state_root()}/keys/id_ed25519", "IdentitiesOnly=yes"):
        assert words in text
    assert "StrictHostKeyChecking=no" in text
    assert "UserKnownHostsFile=/dev/null" in text
