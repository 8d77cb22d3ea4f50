# SPDX-License-Identifier: Apache-2.0
"""The watchdog's verdicts, with a clock that the test advances."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from testbed.common.errors import (
    BootError,
    GuestHangError,
    GuestPanicError,
    InfrastructureError,
    LostConnectionError,
)
from testbed.guestlink.console import Console
from testbed.guestlink.watchdog import Watchdog
from testbed.limits import Limits

LIMITS = replace(Limits(), lost=10.0)
PANIC = "[ 9.0] Kernel panic - not syncing: Fatal exception\n"
LOCKUP = "[ 9.0] watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [cat:53]\n"


class Guest:
    """A guest with a console, a clock and an SSH server, all controlled by the test."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.time = 1000.0
        self.end_reason: str | None = None
        self.answers = True
        self.reachable_calls = 0
        self.watchdog = Watchdog(
            Console(path),
            LIMITS,
            end_reason=lambda: self.end_reason,
            reachable=self._reachable,
            now=lambda: self.time,
        )

    def _reachable(self) -> bool:
        self.reachable_calls += 1
        return self.answers

    def say(self, text: str) -> None:
        with self.path.open("a") as f:
            f.write(text)

    def after(self, seconds: float, *, silence: float | None = None, progress: float | None = None) -> None:
        self.time += seconds
        self.watchdog.check(silence=silence, progress=progress)


@pytest.fixture
def guest(tmp_path: Path) -> Guest:
    return Guest(tmp_path / "console.log")


def test_progress_and_output_give_no_verdict(guest: Guest) -> None:
    for i in range(100):
        guest.say(f"[{i}.0] line\n")
        guest.watchdog.progress()
        guest.after(9, silence=10, progress=10)
    guest.after(1e6)  # no limit, no verdict


def test_panic_quotes_the_console(guest: Guest) -> None:
    guest.say("[1.0] fine\n" + PANIC)
    with pytest.raises(GuestPanicError) as caught:
        guest.after(0)
    assert caught.value.message == "guest kernel: Fatal exception"
    assert caught.value.log == guest.path


def test_ended_machine_gives_the_reason(guest: Guest) -> None:
    guest.end_reason = "QEMU died"
    with pytest.raises(InfrastructureError, match=r"^the machine ended: QEMU died$") as caught:
        guest.after(0)
    assert caught.value.log == guest.path


def test_panic_wins_over_the_end_it_caused(guest: Guest) -> None:
    guest.end_reason = "shut down"
    guest.say(PANIC)
    with pytest.raises(GuestPanicError):
        guest.after(0)


def test_last_console_lines_are_read(tmp_path: Path) -> None:
    path = tmp_path / "console.log"

    def ended() -> str:
        path.write_text(PANIC)  # printed between the last poll and the end
        return "shut down"

    with pytest.raises(GuestPanicError):
        Watchdog(Console(path), LIMITS, end_reason=ended).check()


def test_shutdown_before_ready_is_a_boot_error(guest: Guest) -> None:
    guest.say("[1.0] reboot: Power down\n")
    guest.end_reason = "shut down"
    with pytest.raises(BootError, match="before it was ready"):
        guest.after(0)


def test_shutdown_after_ready_is_an_infrastructure_error(guest: Guest) -> None:
    guest.say("sentinel: guest ready\n")
    guest.end_reason = "shut down"
    with pytest.raises(InfrastructureError, match="the machine ended: shut down"):
        guest.after(0)


def test_lost_connection_waits_for_the_grace_period(guest: Guest) -> None:
    guest.watchdog.connection_lost()
    guest.after(9.9)
    guest.watchdog.connection_lost()  # a second report does not restart the grace period
    with pytest.raises(LostConnectionError, match="lost the connection") as caught:
        guest.after(0.1)
    assert caught.value.log == guest.path


def test_panic_within_the_grace_period_wins(guest: Guest) -> None:
    guest.watchdog.connection_lost()
    guest.after(9.9)
    guest.say(PANIC)
    with pytest.raises(GuestPanicError):
        guest.after(50)


def test_end_within_the_grace_period_wins(guest: Guest) -> None:
    guest.watchdog.connection_lost()
    guest.after(5)
    guest.end_reason = "QEMU died"
    with pytest.raises(InfrastructureError, match="QEMU died"):
        guest.after(50)


def test_lockup_turns_a_lost_connection_into_a_hang(guest: Guest) -> None:
    guest.say(LOCKUP)
    guest.after(0)  # a lockup alone is no verdict: under emulation the guest may recover
    guest.watchdog.connection_lost()
    guest.after(9)
    with pytest.raises(GuestHangError, match=r"still runs; console: BUG: soft lockup") as caught:
        guest.after(1)
    assert caught.value.log == guest.path


def test_progress_ends_the_grace_period(guest: Guest) -> None:
    guest.watchdog.connection_lost()
    guest.after(9)
    guest.watchdog.progress()
    guest.after(100)


def test_silence_is_a_hang(guest: Guest) -> None:
    guest.say("[1.0] booting\n")
    guest.after(5, silence=6)
    guest.after(5.9, silence=6)
    with pytest.raises(GuestHangError, match=r"^no output from the guest for 6 s$"):
        guest.after(0.1, silence=6)


def test_missing_console_counts_as_silence(guest: Guest) -> None:
    guest.after(0, silence=6)
    with pytest.raises(GuestHangError, match="no output"):
        guest.after(6, silence=6)


def test_output_restarts_the_silence_limit(guest: Guest) -> None:
    for i in range(5):
        guest.say(f"line {i}\n")
        guest.after(5.9, silence=6)


def test_silence_quotes_the_evidence(guest: Guest) -> None:
    guest.say("INFO: task touch:55 blocked for more than 120 seconds.\n")
    guest.after(0)
    with pytest.raises(GuestHangError, match=r"no output .*; console: INFO: task touch:55 blocked"):
        guest.after(6, silence=6)


def test_no_progress_is_a_hang_while_the_guest_answers(guest: Guest) -> None:
    guest.after(19.9, progress=20)
    assert guest.reachable_calls == 0  # not called before progress is overdue
    with pytest.raises(GuestHangError, match=r"^no progress for 20 s, though the guest answers$") as caught:
        guest.after(0.1, progress=20)
    assert guest.reachable_calls == 1
    assert caught.value.log == guest.path


def test_no_progress_is_a_lost_connection_if_the_guest_does_not_answer(guest: Guest) -> None:
    guest.answers = False
    with pytest.raises(LostConnectionError, match=r"^no progress for 20 s, and the guest does not answer$"):
        guest.after(20, progress=20)


def test_no_progress_with_evidence_is_a_hang(guest: Guest) -> None:
    guest.say(LOCKUP)
    guest.answers = False
    with pytest.raises(GuestHangError, match="console: BUG: soft lockup"):
        guest.after(20, progress=20)


def test_progress_restarts_the_progress_limit(guest: Guest) -> None:
    for _ in range(5):
        guest.after(19.9, progress=20)
        guest.watchdog.progress()
    with pytest.raises(GuestHangError):
        guest.after(20, progress=20)


def test_output_and_progress_are_separate(guest: Guest) -> None:
    guest.say("[1.0] busy\n")
    guest.after(15, progress=20)
    guest.say("[2.0] busy\n")
    with pytest.raises(GuestHangError, match="no progress"):
        guest.after(5, silence=6, progress=20)
    guest.watchdog.progress()
    with pytest.raises(GuestHangError, match="no output"):
        guest.after(6, silence=6, progress=20)


def test_killed_program_gives_no_verdict(guest: Guest) -> None:
    guest.say("[1.0] python3[53]: segfault at 0 ip 0 sp 0 error 4\nOut of memory: Killed process 1 (x)\n")
    guest.after(0)
    assert [f.means for f in guest.watchdog.console.findings] == ["workload", "workload"]
