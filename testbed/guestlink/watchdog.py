# SPDX-License-Identifier: Apache-2.0
"""Judges a guest: each way of not getting on has a verdict of its own.

panic            the console says so                                               GuestPanicError
QEMU is gone     its keeper ended it (a full host disk), or it was killed          InfrastructureError
connection lost  SSH broke or answers no more, and the console tells no reason     LostConnectionError
no output        a booting guest printed nothing for too long                      GuestHangError
no progress      the guest answers, but what it was told to do reports nothing     GuestHangError

A panic often shows as a broken connection first, so a lost connection waits for the console before it judges.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from testbed.common.errors import (
    BootError,
    GuestHangError,
    GuestPanicError,
    InfrastructureError,
    LostConnectionError,
    SentinelError,
)
from testbed.guestlink.console import Console
from testbed.limits import Limits


class Watchdog:
    """Call `check` often; it raises the verdict, once there is one.

    `ended` tells why the machine is gone, or None while it runs; `reachable` whether its SSH server answers
    (asked only when something is overdue). `now` is a clock in seconds.
    """

    def __init__(
        self,
        console: Console,
        limits: Limits,
        *,
        ended: Callable[[], str | None],
        reachable: Callable[[], bool] = lambda: True,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.console = console
        self.limits = limits
        self._ended = ended
        self._reachable = reachable
        self._now = now
        self._lost_at: float | None = None
        self._last_progress = now()
        self._last_length = -1
        self._last_output = now()

    @property
    def log(self) -> Path:
        return self.console.path

    def progress(self) -> None:
        """What was waited for came nearer: a step, a line, a finished command."""
        self._last_progress = self._now()
        self._lost_at = None

    def connection_lost(self) -> None:
        """SSH broke. Starts the grace period."""
        if self._lost_at is None:
            self._lost_at = self._now()

    def check(self, *, silence: float | None = None, progress: float | None = None) -> None:
        """Raise the verdict if there is one.

        `silence` and `progress` are the limits of this phase in seconds; None where one does not apply.
        """
        ended = self._ended()  # asked before reading: what it printed last is then on the console
        self.console.poll()
        if self.console.lines != self._last_length:
            self._last_length = self.console.lines
            self._last_output = self._now()
        panic = self.console.first("panic")
        if panic is not None:
            raise GuestPanicError(f"the guest's kernel: {panic.what}", log=self.log)
        if ended is not None:
            raise self._gone(ended)
        if self._lost_at is not None and self._now() - self._lost_at >= self.limits.lost:
            raise self._explained(LostConnectionError("the guest runs but its connection is lost"))
        if silence is not None and self._now() - self._last_output >= silence:
            raise self._explained(GuestHangError(f"no output from the guest for {silence:.0f} s"))
        if progress is not None and self._now() - self._last_progress >= progress:
            silent = f"no progress for {progress:.0f} s"
            if self._reachable():
                raise self._explained(GuestHangError(f"{silent}, though the guest answers"))
            raise self._explained(LostConnectionError(f"{silent}, and the guest does not answer"))

    def _gone(self, why: str) -> SentinelError:
        if why == "shut down" and not self.console.ready:
            return BootError("the guest shut itself down before it was ready", log=self.log)
        hint = "df -h; sentinel cache prune" if why.startswith("the disk is full") else None
        return InfrastructureError(f"the machine is gone: {why}", hint=hint, log=self.log)

    def _explained(self, verdict: SentinelError) -> SentinelError:
        """Add what the console says of the reason; a lockup turns a lost connection into a hang."""
        verdict.log = self.log
        evidence = self.console.first("hang")
        if evidence is not None:
            return GuestHangError(f"{verdict.message}; the console: {evidence.what}", log=self.log)
        return verdict
