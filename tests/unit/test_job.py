# SPDX-License-Identifier: Apache-2.0
"""A training process in a guest: its records, and every way in which it can end."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from experiments import job, models, policies, scripts
from experiments.job import ProcessError, Work
from testbed.common.errors import (
    GuestHangError,
    GuestPanicError,
    LostConnectionError,
    SentinelError,
    WorkloadError,
)
from testbed.guestlink.console import Console
from testbed.guestlink.shell import Result
from testbed.guestlink.watchdog import Watchdog
from testbed.limits import Limits

ORDER = {**policies.get("slow-only").order(), "steps": 2, "warmup": 0}
WORK = Work(model=models.resolve("cnn"), seed=7, threads=1)
PANIC = "Kernel panic - not syncing: Fatal exception\n"
OOM = "Out of memory: Killed process 42 (python2.7) total-vm:1kB\n"


class Output:
    """A fake of a followed command: lists of lines, and functions to call between them."""

    def __init__(self, script: list[list[str] | Callable[[], None]]) -> None:
        self._script = list(script)
        self.closed = False

    def __enter__(self) -> Output:
        return self

    def __exit__(self, *_: object) -> None:
        self.closed = True

    def lines(self, *, wait: float) -> list[str]:
        if not self._script:
            return []
        part = self._script.pop(0)
        if callable(part):
            part()
            return []
        return part

    @property
    def over(self) -> bool:
        return not self._script


class Guest:
    """A fake shell that records commands, with a console and a clock."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.time = 0.0
        self.console = folder / "console.log"
        self.console.touch()
        self.watchdog = Watchdog(
            Console(self.console), Limits(lost=5.0), end_reason=lambda: None, now=lambda: self.time
        )
        self.connected = True
        self.log = ""
        self.commands: list[tuple[str, str | None]] = []
        self.puts: list[tuple[Path, str]] = []
        self.followed: list[str] = []
        self.output = Output([])
        self.printed: list[bytes] = []
        monkeypatch.setattr("time.sleep", self.pass_time)

    def pass_time(self, seconds: float) -> None:
        self.time += seconds

    def after(self, seconds: float) -> Callable[[], None]:
        return lambda: self.pass_time(seconds)

    def say(self, text: str) -> Callable[[], None]:
        def write() -> None:
            self.console.write_text(text)

        return write

    def lose(self) -> None:
        self.connected = False

    def fetch(self, *parts: bytes) -> bytes:
        """Release a script that prints `parts`; return the output that is passed on."""
        self.output = Output([["{}"], *([] for _ in parts), ['{"end": true}', '{"exit": 0}']])
        self.printed = list(parts)
        self.log = str(sum(map(len, parts)))
        received: list[bytes] = []
        job.release(
            self,  # type: ignore[arg-type]
            self.watchdog,
            ORDER,
            lambda _: None,
            per_step=60.0,
            on_output=received.append,
        )
        return b"".join(received)

    # The interface of Follower

    over = False

    def __enter__(self) -> Guest:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def read(self, *, wait: float) -> bytes | None:
        return self.printed.pop(0) if self.printed else None

    # The interface of Shell

    def put(self, source: Path, target: str) -> None:
        self.puts.append((source, target))

    def run(self, command: str, *, stdin: str | None = None, **_: Any) -> Result:
        self.commands.append((command, stdin))
        return Result(0, self.log if "tail" in command or "stat" in command else "", "")

    def follow(self, command: str) -> Any:
        self.followed.append(command)
        if command.endswith("/log"):
            return self
        if not self.connected:
            raise LostConnectionError("the connection to the guest broke")
        return self.output

    def release(
        self, *script: list[str] | Callable[[], None], per_step: float = 60.0
    ) -> list[dict[str, Any]]:
        steps: list[dict[str, Any]] = []
        self.output = Output(list(script))
        job.release(self, self.watchdog, ORDER, steps.append, per_step=per_step)  # type: ignore[arg-type]
        return steps

    def fails(self, *script: list[str] | Callable[[], None], per_step: float = 60.0) -> SentinelError:
        with pytest.raises(SentinelError) as caught:
            self.release(*script, per_step=per_step)
        return caught.value


@pytest.fixture
def guest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Guest]:
    guest = Guest(tmp_path, monkeypatch)
    yield guest
    assert guest.output.closed or not guest.followed or not guest.connected


def test_steps_are_passed_on_until_the_process_succeeds(guest: Guest) -> None:
    steps = guest.release(['{"step": 0}'], ['{"step": 1}', '{"end": true}'], ['{"exit": 0}'])
    assert steps == [{"step": 0}, {"step": 1}]
    assert guest.output.closed
    (command, stdin), *_ = guest.commands
    assert command == "cat >/run/sentinel/job/barrier"
    assert json.loads(stdin or "") == ORDER
    assert guest.followed == ["tail -n +1 -F /run/sentinel/job/steps.jsonl 2>/dev/null"]


def test_the_output_of_a_script_is_passed_on_byte_by_byte(guest: Guest) -> None:
    parts = (b"epoch 1\n", b"50%\r100%\n", b"\xff no newline", b" at the end")
    assert guest.fetch(*parts) == b"".join(parts)
    assert guest.followed[0] == "tail -c +1 -f /run/sentinel/job/log"


def test_steps_before_a_failure_are_passed_on(guest: Guest) -> None:
    steps: list[dict[str, Any]] = []
    guest.output = Output([['{"step": 0}', '{"exit": 1}']])
    with pytest.raises(WorkloadError):
        job.release(guest, guest.watchdog, ORDER, steps.append, per_step=60)  # type: ignore[arg-type]
    assert steps == [{"step": 0}]


def test_a_failed_process_is_reported_with_its_last_line(guest: Guest) -> None:
    guest.log = "Traceback\nValueError: no such layer\n"
    error = guest.fails(['{"exit": 1}'])
    assert isinstance(error, WorkloadError)
    assert error.message == "the training process failed with exit status 1: ValueError: no such layer"
    guest.log = ""
    assert guest.fails(['{"exit": 2}']).message == "the training process failed with exit status 2"


def test_a_missing_end_or_a_nonzero_status_is_a_failure(guest: Guest) -> None:
    assert "ended too early" in guest.fails(['{"step": 0}', '{"exit": 0}']).message
    assert "failed with exit status 1" in guest.fails(['{"step": 0}', '{"end": true}', '{"exit": 1}']).message


def test_a_killed_process_is_explained_by_the_console(guest: Guest) -> None:
    guest.log = "the last thing it wrote"
    error = guest.fails(['{"step": 0}'], guest.say(OOM), ['{"exit": 137}'])
    assert isinstance(error, WorkloadError)
    assert error.message == (
        "the training process was killed by signal 9; the console: "
        "Out of memory: Killed process 42 (python2.7) total-vm:1kB"
    )
    assert error.log == guest.console


def test_a_killed_process_without_a_finding_is_reported_with_its_last_line(guest: Guest) -> None:
    guest.log = "step 3"
    assert guest.fails(['{"exit": 139}']).message == "the training process was killed by signal 11: step 3"


def test_missing_records_are_a_failure(guest: Guest) -> None:
    error = guest.fails(['{"step": 0}'])
    assert isinstance(error, WorkloadError)
    assert "stopped writing records" in error.message
    error = guest.fails(['{"step": 0}', '{"end": true}'])
    assert "stopped writing records" in error.message


@pytest.mark.parametrize(
    "line", ["garbage", '{"step": 1, "los', "null", "[]", "3", '{"step": 1}{"exit": 137}']
)
def test_an_invalid_record_fails_the_workload_and_is_shown(guest: Guest, line: str) -> None:
    error = guest.fails(['{"step": 0}', line, '{"exit": 0}'])
    assert isinstance(error, WorkloadError)
    assert error.message == f"the training process wrote an invalid record: {line!r}"


def test_a_process_killed_during_a_write_is_reported_by_its_signal(guest: Guest) -> None:
    lines = ['{"step": 0}', '{"step": 1, "los', '{"exit": 137}']
    assert guest.fails(lines).message.startswith("the training process was killed by signal 9")


def test_a_panic_is_reported_while_records_still_arrive(guest: Guest) -> None:
    assert isinstance(guest.fails(['{"step": 0}'], guest.say(PANIC), ['{"exit": 0}']), GuestPanicError)


def test_a_step_beyond_its_time_limit_is_a_hang(guest: Guest) -> None:
    error = guest.fails(['{"step": 0}'], guest.after(59), guest.after(1), [], per_step=60)
    assert isinstance(error, GuestHangError)
    assert "no progress for 60 s" in error.message


def test_every_record_is_progress(guest: Guest) -> None:
    waits = [part for i in range(5) for part in (guest.after(50), [f'{{"step": {i}}}'])]
    assert len(guest.release(*waits, ['{"end": true}', '{"exit": 0}'], per_step=60)) == 5


def test_a_lost_connection_is_judged_after_the_console_had_time(guest: Guest) -> None:
    error = guest.fails(['{"step": 0}'], guest.lose)
    assert isinstance(error, LostConnectionError)
    assert guest.time >= 5


def test_a_lost_connection_with_a_panic_is_a_panic(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    def later(seconds: float) -> None:
        guest.time += seconds
        if guest.time > 2:
            guest.console.write_text(PANIC)

    monkeypatch.setattr("time.sleep", later)
    assert isinstance(guest.fails(['{"step": 0}'], guest.lose), GuestPanicError)
    assert 2 < guest.time < 5


def test_a_connection_lost_at_the_start_is_judged_alike(guest: Guest) -> None:
    guest.connected = False
    assert isinstance(guest.fails([]), LostConnectionError)


def test_prepare_deploys_the_code_and_waits_for_the_barrier(guest: Guest) -> None:
    guest.output = Output([[], [], ['{"prepare_ns": 1500000000}']])
    assert job.prepare(guest, guest.watchdog, WORK, within=60) == 1.5  # type: ignore[arg-type]
    assert [target for _, target in guest.puts] == ["/opt/sentinel"]
    (command, stdin), *_ = guest.commands
    assert json.loads(stdin or "") == {"model": WORK.model, "seed": 7, "threads": 1, "runtime": False}
    assert "sh /run/sentinel/job python2.7 -B -m guest.train /run/sentinel/job >/dev/null" in command


def test_a_script_is_copied_and_run_with_its_arguments(guest: Guest, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("print(1)\n")
    arguments = ["--name", "a 'quoted' $word"]
    script = scripts.load(tmp_path / "train.py", arguments, step_ops=["my/op"])
    work = Work(seed=3, threads=2, runtime=True, script=script)
    (tmp_path / "library.so").write_text("")
    guest.output = Output([[""], [""], ['{"prepare_ns": 1500000000}']])
    job.prepare(guest, guest.watchdog, work, within=60, library=tmp_path / "library.so")  # type: ignore[arg-type]
    assert [target for _, target in guest.puts] == [
        "/opt/sentinel", "/opt/sentinel/libsentinel.so", "/root/script"
    ]  # fmt: skip
    (command, stdin), *_ = guest.commands
    assert json.loads(stdin or "") == {"seed": 3, "threads": 2, "runtime": True}
    words = shlex.split(command)
    assert words[words.index("/root/script") : words.index(">/dev/null")] == [
        *("/root/script", "python2.7", "-u", "-B", "-m", "guest.wrap", "--job", "/run/sentinel/job"),
        *("--step-op=my/op", "train.py", "--name", "a 'quoted' $word"),
    ]
    assert (
        work.key() != Work(seed=3, threads=2, runtime=True, script=scripts.load(tmp_path / "train.py")).key()
    )


def test_a_launched_process_leaves_its_output_and_its_status(tmp_path: Path) -> None:
    """The launcher runs here, with its folder replaced."""
    launcher = job._LAUNCHER.replace(job.FOLDER, str(tmp_path))
    command = [
        "sh",
        "-c",
        'echo "$0"; pwd; echo error >&2; printf "{\\"st" >steps.jsonl; kill -9 $$',
        "a 'b' $c",
    ]
    subprocess.run(["sh", "-c", launcher, "sh", str(tmp_path), *command], check=True)
    assert (tmp_path / "log").read_text().startswith(f"a 'b' $c\n{tmp_path}\nerror\n")
    assert (tmp_path / "steps.jsonl").read_text() == '{"st\n{"exit": 137}\n'


def test_a_script_that_ends_before_a_session_is_reported_with_status_and_output(
    guest: Guest, tmp_path: Path
) -> None:
    (tmp_path / "train.py").write_text("")
    work = Work(seed=3, threads=2, script=scripts.load(tmp_path / "train.py"))
    guest.log = "Traceback\nNameError: x\n"
    guest.output = Output([[""], [""], ['{"exit": 3}']])
    with pytest.raises(ProcessError) as caught:
        job.prepare(guest, guest.watchdog, work, within=60)  # type: ignore[arg-type]
    error = caught.value
    assert error.message == "train.py exited with status 3 before it created a session: NameError: x"
    assert (error.status, error.output) == (3, guest.log)


def test_output_before_the_barrier_is_progress(guest: Guest) -> None:
    waits = [part for _ in range(5) for part in (guest.after(50), [""])]
    guest.output = Output([*waits, ['{"prepare_ns": 5}']])
    assert job.prepare(guest, guest.watchdog, WORK, within=60) > 0  # type: ignore[arg-type]


def test_a_process_that_ends_before_its_barrier_is_reported_with_the_reason(guest: Guest) -> None:
    guest.log = "ImportError: No module named tensorflow\n"
    guest.output = Output([["cat: waiting: No such file or directory"]])
    with pytest.raises(WorkloadError, match="ended before its barrier: ImportError: No module"):
        job.prepare(guest, guest.watchdog, WORK, within=60)  # type: ignore[arg-type]


def test_a_process_that_does_not_reach_its_barrier_is_a_hang(guest: Guest) -> None:
    guest.output = Output([guest.after(30), guest.after(30), []])
    with pytest.raises(GuestHangError, match="no progress for 60 s"):
        job.prepare(guest, guest.watchdog, WORK, within=60)  # type: ignore[arg-type]
