# SPDX-License-Identifier: Apache-2.0
"""Real machines: how they are named, reached, checked and locked."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from experiments import matrix as matrices
from experiments.suite import Suite
from testbed.common.errors import InfrastructureError, LostConnectionError, UsageError, WorkloadError
from testbed.common.schema import json_schema
from testbed.guestlink.local import LocalShell
from testbed.targets import checks, facts, lock, spec
from testbed.targets.held import ALIVE, Held
from testbed.targets.machine import TargetMachine, folder_of
from testbed.targets.remote import RemoteShell
from testbed.targets.spec import Target
from testbed.vm import ports
from tests.fakes.programs import Programs
from tests.fakes.ssh_server import SshServer
from tests.fakes.targets import GIB, OPTANE, behind_ssh

Run = Callable[..., tuple[int, str, str]]
SUITE = "name: real\nmodels: [{ name: cnn }]\nplacements: [fast-only, slow-only]\n"


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[SshServer, Target]]:
    server, target = behind_ssh(tmp_path, monkeypatch)
    with contextlib.closing(server):
        yield server, target


def cells(folder: Path, text: str) -> list[matrices.Cell]:
    path = folder / "suite.yaml"
    path.write_text(SUITE + text)
    return list(matrices.load(path).cells)


def test_target_of_a_command_is_parsed() -> None:
    assert spec.parse("vm") is None
    assert spec.parse("host") == Target()
    assert spec.parse("ssh:root@optane1") == Target(ssh="root@optane1")
    assert spec.parse("ssh:me@10.0.0.1:2222") == Target(ssh="me@10.0.0.1", port=2222)
    for text in ("", "hots", "root@optane1", "ssh:optane1", "ssh:a@b:", "ssh:a@b:0", "ssh:-oX@b", "ssh:a@-b"):
        with pytest.raises(UsageError, match="must be "):
            spec.parse(text)


def test_suite_names_its_target(tmp_path: Path) -> None:
    virtual = cells(tmp_path, "")
    assert [cell.id for cell in cells(tmp_path, "target: vm\n")] == [cell.id for cell in virtual]
    host = cells(tmp_path, "target: host\n")
    real = cells(tmp_path, "target: { ssh: root@optane1, port: 2222, folder: /data/x }\n")
    assert host[0].resolved["target"] == {"name": "host"}
    assert real[0].resolved["target"] == {"name": "root@optane1"}
    assert not host[0].resolved.keys() & {"machine", "kernel"}
    assert len({cell.id for cell in (*virtual, *host, *real)}) == 6
    assert real == cells(tmp_path, "target: { ssh: root@optane1 }\n")  # how it is reached does not matter


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("target: hots", "target: must be vm, host, or {ssh: user@host}"),
        ("target: 5", "target: must be vm, host"),
        ("target: { port: 22 }", "`ssh` is missing"),
        ("target: { ssh: optane1 }", "target.ssh: "),
        ("target: { ssh: a@b, port: 0 }", "target.port: "),
        ("target: { ssh: a@b, user: me }", "target.user: "),
        ("target: host\nmode: replay", "target: replays need the timing model"),
    ],
)
def test_wrong_target_of_a_suite_is_located(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(UsageError, match=r"suite\.yaml:4:") as caught:
        cells(tmp_path, text + "\n")
    assert problem in caught.value.message


def test_schema_describes_targets() -> None:
    text = str(json_schema(Suite)["properties"]["target"])
    assert "'enum': ['vm', 'host']" in text
    assert "'required': ['ssh']" in text


def test_threads_of_a_real_machine_are_not_those_of_the_spec(tmp_path: Path) -> None:
    assert cells(tmp_path, "target: host\nthreads: 24\n")
    with pytest.raises(UsageError, match="the machine has 2 CPUs"):
        cells(tmp_path, "threads: 24\n")


def test_workers_are_refused_on_a_real_machine(tmp_path: Path, sentinel_: Run) -> None:
    (tmp_path / "suite.yaml").write_text(SUITE)
    words = ["run", tmp_path / "suite.yaml", "--target", "host", "--out", tmp_path / "out"]
    for extra in (["-j", "2"], ["--scheduler", "tcp://here:1"]):
        code, _, errors = sentinel_(*words, *extra)
        assert (code, "one repeat at a time" in errors) == (2, True)
    code, _, errors = sentinel_("run", tmp_path / "suite.yaml", "--target", "optane1")
    assert (code, "must be vm, host, or ssh:user@host" in errors) == (2, True)


def test_dry_run_lists_the_cells_of_a_target(tmp_path: Path, sentinel_: Run) -> None:
    (tmp_path / "suite.yaml").write_text(SUITE)
    code, out, _ = sentinel_(
        "run", tmp_path / "suite.yaml", "--target", "ssh:root@optane1", "--dry-run", "--json"
    )
    assert (code, '"name": "root@optane1"' in out) == (0, True)


def test_facts_of_this_host_are_read(tmp_path: Path) -> None:
    read = facts.read(LocalShell(), PurePosixPath(tmp_path / "not" / "there"))
    assert (read.system, read.processor, read.release) == (os.uname().sysname, "x86_64", os.uname().release)
    assert read.cpus == os.sysconf("SC_NPROCESSORS_ONLN")
    assert read.user == os.geteuid()
    assert read.nodes[0].total >= read.nodes[0].free > 0
    assert read.disk > 0
    assert not read.missing


def test_facts_name_missing_programs(programs: Programs, tmp_path: Path) -> None:
    programs.alone("sh", "uname", "sed", "grep", "head", "id", "cat", "df", "awk", "dirname", "getconf", "tr")
    read = facts.read(LocalShell(), PurePosixPath(tmp_path))
    assert set(read.missing) == set(facts.PROGRAMS) - {"chroot"}  # in /usr/sbin, which is searched, too
    (failed,) = (check for check in checks.examine(read) if check.name == "programs")
    assert failed.fix == "apt-get install coreutils gzip mount tar util-linux"


def test_facts_of_something_else_than_a_shell_are_an_error(programs: Programs, tmp_path: Path) -> None:
    programs.shell("sh", "echo no such luck >&2; exit 1")
    with pytest.raises(InfrastructureError, match="not a Linux machine with a shell: no such luck"):
        facts.read(LocalShell(), PurePosixPath(tmp_path))


def test_two_node_machine_passes_all_checks() -> None:
    found = checks.examine(OPTANE, budget=100 * GIB)
    assert {check.state for check in found} == {"ok"}
    checks.ensure("optane1", found)


@pytest.mark.parametrize(
    ("change", "name", "state", "words"),
    [
        ({"system": "FreeBSD"}, "system", "fail", "FreeBSD"),
        ({"processor": "aarch64"}, "system", "fail", "aarch64"),
        ({"user": 1000}, "permissions", "fail", "neither root nor sudo"),
        ({"user": 1000, "sudo": True}, "permissions", "ok", "sudo"),
        ({"overlay": False}, "file systems", "fail", "no overlay"),
        ({"loop": False}, "file systems", "fail", "no loop devices"),
        ({"nodes": OPTANE.nodes[:1]}, "nodes", "warn", "functional only, without slow memory"),
        ({"nodes": OPTANE.nodes[1:]}, "nodes", "fail", "no memory on node 0"),
        ({"nodes": (facts.Node(0, GIB, GIB), OPTANE.nodes[1])}, "nodes", "fail", "node 0 has no CPUs"),
        ({"available": GIB}, "memory", "fail", "1.0 GiB available; TensorFlow needs 2"),
        (
            {"nodes": (facts.Node(0, GIB, GIB, "0"), OPTANE.nodes[1])},
            "memory",
            "fail",
            "the budget is 100.0 GiB",
        ),
        ({"disk": GIB}, "disk", "fail", "1.0 GiB free for the folder; needs 3.0"),
        ({"page_profile": True}, "page profiler", "ok", "/dev/page_profile"),
    ],
)
def test_check_of_a_target_says_what_is_wrong(
    change: dict[str, Any], name: str, state: str, words: str
) -> None:
    found = checks.examine(dataclasses.replace(OPTANE, **change), disk=3 * GIB, budget=100 * GIB)
    check = next(check for check in found if check.name == name)
    assert (check.state, words in check.detail) == (state, True)
    if state == "fail":
        assert check.fix
        with pytest.raises(InfrastructureError, match=f"^optane1: {name}: "):
            checks.ensure("optane1", found)


def test_local_shell_runs_commands_and_copies_files(tmp_path: Path) -> None:
    shell = LocalShell()
    assert shell.run("cat; echo error >&2", stdin="text\n") == shell.run("echo text; echo error >&2")
    with pytest.raises(WorkloadError, match=r"^on this host: oops \(command exited with status 3"):
        shell.run("echo oops >&2; exit 3")
    (tmp_path / "a").write_bytes(b"\0\xff" * 300_000)
    shell.put(tmp_path / "a", str(tmp_path / "new" / "b"))
    shell.get(str(tmp_path / "new"), tmp_path / "back")
    assert (tmp_path / "back" / "b").read_bytes() == (tmp_path / "a").read_bytes()
    with pytest.raises(WorkloadError, match=r"^on this host: .*File exists"):
        shell.put(tmp_path / "a", str(tmp_path / "a" / "b"))
    with pytest.raises(UsageError, match="no such file"):
        shell.get("/no/such/file", tmp_path / "x")


def test_local_shell_follows_a_command(tmp_path: Path) -> None:
    with LocalShell().follow("echo one; echo two; printf three") as output:
        lines = []
        while not output.over:
            lines += output.lines(wait=5)
    assert lines == ["one", "two", "three"]


def test_commands_inside_run_behind_the_entrance() -> None:
    shell = LocalShell().inside(["env", "A=b c"])
    assert shell.run("echo \"$A\" 'd e'").out == "b c d e\n"
    with shell.inside(["env", "B=1"]).follow("echo $A $B") as output:
        assert output.lines(wait=5) == ["b c 1"]


def test_held_command_ends_with_its_input(tmp_path: Path) -> None:
    done = tmp_path / "done"
    with Held(LocalShell(), f"echo hello; while {ALIVE}; do :; done; touch {done}") as held:
        assert held.wait("hello", within=10) == ("", [])
        assert held.running
        assert not done.exists()
    assert done.exists()
    assert not held.running


def test_held_command_that_ends_too_early_gives_its_output() -> None:
    with Held(LocalShell(), "echo one; echo two; exit 1") as held:
        assert held.wait("ready", within=10) == (None, ["one", "two"])


def test_target_is_locked_for_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = PurePosixPath(tmp_path / "target")
    first = lock.acquire(LocalShell(), folder)
    monkeypatch.setattr(lock, "_describe_self", lambda: "process 2 on there (sentinel run b.yaml)")
    with pytest.raises(UsageError, match=rf"^this host is in use by process {os.getpid()} on ") as caught:
        lock.acquire(LocalShell(), folder)
    assert caught.value.hint is not None
    first.close()
    with lock.acquire(LocalShell(), folder) as second:
        assert second.running
        assert (tmp_path / "target" / "owner").read_text() == "process 2 on there (sentinel run b.yaml)\n"
    assert not (tmp_path / "target" / "owner").exists()


def test_lock_waits_for_an_earlier_one_of_the_same_process(tmp_path: Path) -> None:
    folder = PurePosixPath(tmp_path / "target")
    lock.acquire(LocalShell(), folder)._channel.shutdown_write()  # as after a lost connection
    with lock.acquire(LocalShell(), folder) as again:
        assert again.running


def test_lock_in_an_unusable_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InfrastructureError, match=r"this host: cannot use .*/file/x: ") as caught:
        lock.acquire(LocalShell(), PurePosixPath(tmp_path / "file" / "x"))
    assert caught.value.hint is not None


def test_folder_of_a_target(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENTINEL_STATE", "/state")
    assert str(folder_of(Target())) == "/state/target"
    assert str(folder_of(Target(ssh="a@b"))) == "/var/tmp/sentinel"
    assert str(folder_of(Target(ssh="a@b", folder=Path("/x")))) == "/x"


def test_target_over_ssh_is_reached_and_locked(remote: tuple[SshServer, Target]) -> None:
    _, target = remote
    with TargetMachine.open(target) as machine:
        assert machine.facts.cpus == os.sysconf("SC_NPROCESSORS_ONLN")
        assert not machine.locked
        machine.lock()
        assert machine.locked
    assert not machine.locked


def test_lost_connection_gives_the_lock_back(remote: tuple[SshServer, Target], tmp_path: Path) -> None:
    server, target = remote
    machine = TargetMachine.open(target)
    machine.lock()
    server.hang_up()
    with pytest.raises(LostConnectionError, match=r"the connection to root@127\.0\.0\.1 broke"):
        machine.shell.run("true")
    assert not machine.locked
    deadline = time.monotonic() + 20
    while (tmp_path / "target" / "owner").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    with TargetMachine.open(target) as again:
        again.lock()


def test_unknown_host_key_is_an_error(remote: tuple[SshServer, Target], tmp_path: Path) -> None:
    (tmp_path / "home" / ".ssh" / "known_hosts").write_text("")
    with pytest.raises(InfrastructureError, match=r"host key of root@127\.0\.0\.1 is not known") as caught:
        RemoteShell(remote[1])
    assert f"ssh root@127.0.0.1 -p {remote[0].port}" in str(caught.value.hint)


def test_changed_host_key_is_an_error(remote: tuple[SshServer, Target], tmp_path: Path) -> None:
    server, target = remote
    other = SshServer("")
    path = tmp_path / "home" / ".ssh" / "known_hosts"
    path.write_text(path.read_text().replace(server.host_key.get_base64(), other.host_key.get_base64()))
    other.close()
    with pytest.raises(InfrastructureError, match="another host key"):
        RemoteShell(target)


def test_refused_user_key_is_a_usage_error(remote: tuple[SshServer, Target]) -> None:
    server, target = remote
    server.public_key = "another"
    with pytest.raises(UsageError, match="refuses this user's keys"):
        RemoteShell(target)


def test_missing_key_file_is_a_usage_error(remote: tuple[SshServer, Target], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="none: does not exist"):
        RemoteShell(remote[1].model_copy(update={"key": tmp_path / "none"}))


def test_unreachable_target_is_an_error(remote: tuple[SshServer, Target]) -> None:
    (port,) = ports.candidates(1)
    with pytest.raises(InfrastructureError, match=r"cannot connect to root@127\.0\.0\.1: ") as caught:
        RemoteShell(remote[1].model_copy(update={"port": port}))
    assert caught.value.hint is not None


def test_clean_removes_the_folder_of_a_target(
    remote: tuple[SshServer, Target], tmp_path: Path, sentinel_: Run
) -> None:
    server, target = remote
    folder = tmp_path / "target"
    (folder / "image-abc").mkdir(parents=True)
    (folder / "run").mkdir()
    words = [f"ssh:root@127.0.0.1:{server.port}", "--key", target.key or "", "--folder", folder]
    code, _, errors = sentinel_("target", "clean", *words)
    assert (code, f"removed {folder} from root@127.0.0.1" in errors) == (0, True)
    assert not folder.exists()


def test_clean_spares_a_folder_with_other_files(tmp_path: Path, sentinel_: Run) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis").touch()
    code, _, errors = sentinel_("target", "clean", "host", "--folder", tmp_path / "home")
    assert (code, "has files of others: thesis" in errors) == (2, True)
    assert (tmp_path / "home" / "thesis").exists()


def test_check_shows_what_a_target_lacks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sentinel_: Run
) -> None:
    lacking = dataclasses.replace(OPTANE, loop=False, nodes=OPTANE.nodes[:1])
    monkeypatch.setattr(facts, "read", lambda shell, folder: lacking)
    code, out, _ = sentinel_("target", "check", "host", "--folder", tmp_path / "target", "--json")
    states = {check["name"]: check["state"] for check in json.loads(out)}
    assert code == 9
    assert (states["nodes"], states["file systems"], states["system"]) == ("warn", "fail", "ok")
    assert not (tmp_path / "target").exists()  # nothing is written to a target that cannot be used


def test_virtual_machines_are_no_real_machine(sentinel_: Run) -> None:
    for command in ("check", "clean", "install-kernel", "remove-kernel"):
        code, _, errors = sentinel_("target", command, "vm")
        assert (code, "vm is no real machine" in errors) == (2, True)
