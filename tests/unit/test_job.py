# SPDX-License-Identifier: Apache-2.0
"""A training process in a guest: its records, and every way in which it can end."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from experiments import job, models, policies
from testbed.common.errors import (
    GuestHangError,
    GuestPanicError,
    LostConnectionError,
    SentinelError,
    WorkloadError,
)
from testbed.guestlink.console import Console
from testbed.guestlink.ssh import Result
from testbed.guestlink.watchdog import Watchdog
from testbed.limits import Limits

ORDER = {**policies.get("slow-only").order(), "steps": 2, "warmup": 0}
JOB = {"model": models.resolve("cnn"), "seed": 7, "threads": 1}
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

    # The interface of Shell

    def put(self, source: Path, target: str) -> None:
        self.puts.append((source, target))

    def run(self, command: str, *, stdin: str | None = None, **_: Any) -> Result:
        self.commands.append((command, stdin))
        return Result(0, self.log if "tail" in command else "", "")

    def follow(self, command: str) -> Output:
        self.followed.append(command)
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
    assert "failed with exit status 0" in guest.fails(['{"step": 0}', '{"exit": 0}']).message
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
    assert job.prepare(guest, guest.watchdog, JOB, within=60) == 1.5  # type: ignore[arg-type]
    assert [target for _, target in guest.puts] == ["/opt/sentinel"]
    (command, stdin), *_ = guest.commands
    assert json.loads(stdin or "") == JOB
    assert "python2.7 -B -m guest.train /run/sentinel/job >log 2>&1" in command


def test_a_process_that_ends_before_its_barrier_is_reported_with_the_reason(guest: Guest) -> None:
    guest.log = "ImportError: No module named tensorflow\n"
    guest.output = Output([["cat: waiting: No such file or directory"]])
    with pytest.raises(WorkloadError, match="ended before its barrier: ImportError: No module"):
        job.prepare(guest, guest.watchdog, JOB, within=60)  # type: ignore[arg-type]


def test_a_process_that_does_not_reach_its_barrier_is_a_hang(guest: Guest) -> None:
    guest.output = Output([guest.after(30), guest.after(30), []])
    with pytest.raises(GuestHangError, match="no progress for 60 s"):
        job.prepare(guest, guest.watchdog, JOB, within=60)  # type: ignore[arg-type]
