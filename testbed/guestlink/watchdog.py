# SPDX-License-Identifier: Apache-2.0
"""Decide why a guest makes no progress. Each cause is a different error.

panic            the console shows a panic or oops                              GuestPanicError
QEMU ended       the supervisor ended it (full host disk), or it was killed     InfrastructureError
connection lost  SSH broke or does not answer, and the console shows no cause   LostConnectionError
no output        a booting guest printed nothing for too long                   GuestHangError
no progress      the guest answers, but its workload reports nothing            GuestHangError

A panic often shows first as a broken connection. So the watchdog waits for the console before it reports one.
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
    """Call `check` often; it raises the verdict.

    `end_reason` returns why the machine ended, or None while it runs. `reachable` returns whether its SSH
    server answers; it is called only when progress is overdue. `place` names the guest in messages. `now` is
    a clock in seconds.
    """

    def __init__(
        self,
        console: Console,
        limits: Limits,
        *,
        end_reason: Callable[[], str | None],
        reachable: Callable[[], bool] = lambda: True,
        place: str = "the guest",
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.console = console
        self.limits = limits
        self._end_reason = end_reason
        self._reachable = reachable
        self._place = place
        self._now = now
        self._lost_at: float | None = None
        self._last_progress = now()
        self._last_length = -1
        self._last_output = now()

    @property
    def log(self) -> Path:
        """The console's file."""
        return self.console.path

    def progress(self) -> None:
        """Report progress: a step, a line of output, a finished command."""
        self._last_progress = self._now()
        self._lost_at = None

    def connection_lost(self) -> None:
        """Report a broken connection. Starts the grace period `Limits.lost`."""
        if self._lost_at is None:
            self._lost_at = self._now()

    def check(self, *, silence: float | None = None, progress: float | None = None) -> None:
        """Raise the verdict if there is one.

        `silence` and `progress` limit the seconds without console output and without progress.
        """
        end_reason = self._end_reason()  # before polling: the last output is then on the console
        self.console.poll()
        if self.console.lines != self._last_length:
            self._last_length = self.console.lines
            self._last_output = self._now()
        panic = self.console.first("panic")
        if panic is not None:
            raise GuestPanicError(f"guest kernel: {panic.quote}", log=self.log)
        if end_reason is not None:
            raise self._ended(end_reason)
        if self._lost_at is not None and self._now() - self._lost_at >= self.limits.lost:
            raise self._explained(
                LostConnectionError(f"lost the connection to {self._place}, which still runs")
            )
        if silence is not None and self._now() - self._last_output >= silence:
            raise self._explained(GuestHangError(f"no output from {self._place} for {silence:.0f} s"))
        if progress is not None and self._now() - self._last_progress >= progress:
            overdue = f"no progress for {progress:.0f} s"
            if self._reachable():
                raise self._explained(GuestHangError(f"{overdue}, though {self._place} answers"))
            raise self._explained(LostConnectionError(f"{overdue}, and {self._place} does not answer"))

    def _ended(self, reason: str) -> SentinelError:
        if reason == "shut down" and not self.console.ready:
            return BootError("the guest shut down before it was ready", log=self.log)
        hint = "df -h; sentinel cache prune" if reason.startswith("the disk is full") else None
        return InfrastructureError(f"the machine ended: {reason}", hint=hint, log=self.log)

    def _explained(self, verdict: SentinelError) -> SentinelError:
        """Add the console's evidence. A lockup turns a lost connection into a hang."""
        verdict.log = self.log
        evidence = self.console.first("hang")
        if evidence is not None:
            return GuestHangError(f"{verdict.message}; console: {evidence.quote}", log=self.log)
        return verdict
