# SPDX-License-Identifier: Apache-2.0
"""What has happened in a run so far: outcome, cells to skip, progress and events."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from experiments.durations import Durations
from experiments.estimate import Estimate
from experiments.events import Events
from experiments.matrix import Cell, Matrix
from experiments.order import Task
from testbed.common.errors import ExitCode, SentinelError
from testbed.common.progress import Step, is_live, note, warn

_MAX_FAILURES = 3  # of a cell; a busy host may cause one


@dataclass
class Outcome:
    """The result of a run: repeats done now, repeats kept, and the first failure of each failed cell."""

    done: int = 0
    kept: int = 0
    failures: list[SentinelError] = field(default_factory=list)

    @property
    def code(self) -> ExitCode:
        """The exit code of the first failure, or `OK`."""
        return self.failures[0].code if self.failures else ExitCode.OK


class Ledger:
    """Follows the repeats of a run.

    With `parallel` several repeats run at once, and each has its own row of progress.
    """

    def __init__(
        self,
        matrix: Matrix,
        tasks: Sequence[Task],
        outcome: Outcome,
        events: Events,
        shown: Step,
        *,
        parallel: bool = False,
    ) -> None:
        self._matrix, self._outcome, self._events, self._shown = matrix, outcome, events, shown
        self._parallel = parallel
        self.workers = 1  # that run repeats now
        suite = matrix.suite
        self.estimate = Estimate(len(tasks), suite.warmup + (suite.steps or 0))
        self.durations = Durations()
        self._began: dict[str, float] = {}
        self._total = len(tasks)
        self._ended = 0
        self._attempts: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        self._skipped: set[str] = set()

    def is_skipped(self, cell: Cell) -> bool:
        """Whether too many repeats of the cell have failed to try more."""
        return cell.id in self._skipped

    def label(self, task: Task) -> str:
        """The task in words, such as `cnn b8, fast-only, repeat 1/3`."""
        return f"{self._matrix.axes.label(task.cell.resolved)}, repeat {task.repeat + 1}/{task.cell.repeats}"

    def began(self, task: Task, *, worker: str = "") -> None:
        """A repeat begins, on a worker if there are several."""
        if self.label(task) in self._began:  # on a worker that has died since
            self._events.add("repeat-lost", **self._names(task, ""), reason="the worker has gone")
        self._began[self.label(task)] = time.monotonic()
        if not self._parallel:
            self.estimate.begin()
        self._events.add("repeat-started", **self._names(task, worker))
        self._show(task, "restoring")

    def step_done(self, task: Task, number: int, measured: bool) -> None:
        """A step of a repeat has ended. `number` counts those of its kind, measured or not."""
        if not self._parallel:
            self.estimate.step_done()
        # The number of unmeasured steps is the guest's decision: a plan's trial needs several.
        steps = task.cell.resolved["steps"]
        of_all = "" if steps is None else f"/{steps}"
        self._show(task, f"step {number}{of_all}" if measured else f"warm-up step {number}")

    def lost(self, task: Task, *, worker: str, reason: str) -> None:
        """A worker has lost a repeat, which runs again."""
        self._began.pop(self.label(task), None)
        self._events.add("repeat-lost", **self._names(task, worker), reason=reason)
        warn(f"{self.label(task)}: lost by worker {worker}, runs again: {reason}")

    def worker_lost(self, worker: str) -> None:
        """A worker has gone; what it ran runs again on another one."""
        self._events.add("worker-lost", worker=worker)
        warn(f"worker {worker} has gone; what it ran runs again")

    def ended(
        self, task: Task, failure: SentinelError | None, *, seconds: float | None = None, worker: str = ""
    ) -> None:
        """A repeat has ended and is stored. `seconds` is its duration on a worker."""
        cell = task.cell
        self.estimate.finish(seconds=seconds)
        began = self._began.pop(self.label(task), None)
        if failure is None and (seconds is not None or began is not None):
            self.durations.add(cell, seconds if seconds is not None else time.monotonic() - (began or 0.0))
        self._ended += 1
        self._attempts[cell.id] += 1
        self._shown.remove_row(self.label(task))
        result = {"status": "failed", "message": failure.message} if failure else {"status": "ok"}
        self._events.add("repeat-ended", **self._names(task, worker), **result)
        if failure is None:
            self._outcome.done += 1
            if not is_live():
                left = self.estimate.remaining(workers=self.workers)
                note(f"{self.label(task)}: done ({self._ended}/{self._total}, {left})")
        else:
            self._failed(task, failure)
        if self._parallel:
            self._show_all()

    def _failed(self, task: Task, failure: SentinelError) -> None:
        cell, label = task.cell, self._matrix.axes.label(task.cell.resolved)
        self._failures[cell.id] += 1
        failures = self._failures[cell.id]
        if failures == 1:
            self._outcome.failures.append(failure)
        warn(f"{label}, repeat {task.repeat + 1}: {failure.message}")
        # If all repeats so far failed, further ones would, too.
        if not self.is_skipped(cell) and failures in (_MAX_FAILURES, self._attempts[cell.id]):
            self._skipped.add(cell.id)
            count = "1 failed repeat" if failures == 1 else f"{failures} failed repeats"
            warn(f"{label}: skipped after {count}; run the suite again to retry")
            self._events.add("cell-skipped", cell=cell.id, label=label, failures=failures)

    def dropped(self, task: Task) -> None:
        """A repeat of a skipped cell is not run."""
        self.estimate.finish()
        self._ended += 1

    def _names(self, task: Task, worker: str) -> dict[str, object]:
        label = self._matrix.axes.label(task.cell.resolved)
        names: dict[str, object] = {"cell": task.cell.id, "label": label, "repeat": task.repeat}
        return {**names, "worker": worker} if worker else names

    def _show(self, task: Task, activity: str) -> None:
        if self._parallel:
            self._shown.show_row(self.label(task), activity)
            self._show_all()
            return
        text = f"{self.label(task)}, {activity}"
        if (
            task.cell.resolved["steps"] is None or task.cell.online
        ):  # the guest decides how many steps there are
            self._shown.update(None, text)
        else:
            self._shown.update(
                self.estimate.fraction, f"{text}, {self.estimate.remaining(workers=self.workers)}"
            )

    def _show_all(self) -> None:
        failed = f", {len(self._failures)} cells with failures" if self._failures else ""
        text = (
            f"{self._ended} of {self._total} repeats{failed}, {self.estimate.remaining(workers=self.workers)}"
        )
        self._shown.update(self.estimate.fraction, text)
