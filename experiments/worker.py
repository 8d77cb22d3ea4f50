# SPDX-License-Identifier: Apache-2.0
"""The part of a run that its workers execute: repeats, whose records go back to the process of the run.

A worker is a process of a Dask cluster. It prepares its host once for a run, and keeps nothing of a repeat:
only the process of the run writes into the run's folder.
"""

from __future__ import annotations

import io
import platform
import shutil
import signal
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import distributed

from experiments import provenance, resuming
from experiments.backend import Backend
from experiments.matrix import Matrix
from experiments.session import Session
from testbed.common import progress
from testbed.common.errors import BuildError, ExitCode, SentinelError, UsageError


@dataclass(frozen=True)
class Assignment:
    """What a worker needs to know of a run.

    `run` is unique, `made_by` what the repeats of the run have in common (`resuming.made_by`), and
    `kept_runtime` the runtime of those that are finished.
    """

    run: str
    matrix: Matrix
    backend: Callable[[], Backend]
    made_by: Mapping[str, Any]
    kept_runtime: str | None = None

    @property
    def topic(self) -> str:
        """The topic of the events that workers send."""
        return f"sentinel-{self.run}"


@dataclass(frozen=True)
class Failure:
    """An expected failure in a form that can be sent to another process."""

    code: ExitCode
    message: str
    hint: str | None = None

    @classmethod
    def of(cls, error: SentinelError) -> Self:
        """Describe an error."""
        return cls(error.code, error.message, error.hint)

    def error(self) -> SentinelError:
        """The error, with the same exit code."""
        error = SentinelError(self.message, hint=self.hint)
        error.code = self.code
        return error


@dataclass(frozen=True)
class Reply:
    """The end of a repeat on a worker: its records as a tar file, and its failure if it failed.

    There are no records if the worker could not do its part: `lost` says why. `fatal` is an error that every
    repeat would have.
    """

    worker: str
    address: str
    seconds: float
    records: bytes = b""
    failure: Failure | None = None
    lost: str | None = None
    fatal: Failure | None = None


class _AbortedError(Exception):
    """The run was interrupted."""


_lock = threading.Lock()  # a worker with several threads still runs one repeat at a time
_station: _Station | None = None
_aborted: set[str] = set()


def dask_setup(_worker: object) -> None:
    """Set up a worker on this host: Ctrl-C is for the process of the run, which ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    progress.console.quiet = True  # so is the terminal


def abort(run: str) -> None:
    """End the repeat of a run on this worker at its next step."""
    _aborted.add(run)


def name() -> str:
    """The name of this worker in its cluster: a number, or its address."""
    return str(distributed.get_worker().name)


def tell(topic: str, cell_id: str, number: int, **values: Any) -> None:
    """Send an event about a repeat to the process of the run."""
    message = {"cell": cell_id, "repeat": number, "by": name(), **values}  # Dask adds a `worker`
    distributed.get_worker().log_event(topic, message)


def measure(assignment: Assignment, cell_id: str, number: int, command: str) -> Reply:
    """Run one repeat and return its records. `command` reproduces the cell."""
    started = time.monotonic()
    with _lock:
        result = _measure(assignment, cell_id, number, command)
        address = distributed.get_worker().address
        return Reply(name(), address, time.monotonic() - started, **result)


def _measure(assignment: Assignment, cell_id: str, number: int, command: str) -> dict[str, Any]:
    """Run one repeat and return the variable part of the reply."""
    global _station  # noqa: PLW0603 -- one per process
    tell(assignment.topic, cell_id, number, event="started")
    try:
        if _station is None or _station.run != assignment.run:
            _station = None  # if the next line fails
            _station = _Station(assignment)
        failure, records = _station.repeat(cell_id, number, command)
    except (UsageError, BuildError) as e:
        return {"fatal": Failure.of(e)}
    except (SentinelError, OSError, _AbortedError) as e:
        return {"lost": str(e)}
    return {"records": records, "failure": None if failure is None else Failure.of(failure)}


class _Station:
    """A host that is prepared for a run."""

    def __init__(self, assignment: Assignment) -> None:
        matrix, backend = assignment.matrix, assignment.backend()
        self.run, self._topic = assignment.run, assignment.topic
        artifacts = backend.prepare(matrix)
        origin = provenance.collect(artifacts, command="")
        resuming.check_worker(assignment.made_by, origin, host=platform.node())
        boot = artifacts.boot
        throttle = provenance.throttle(boot.preset, backend.calibrate(boot), boot.remote)
        self._scratch = tempfile.TemporaryDirectory(prefix="sentinel-worker-")
        self._folder = Path(self._scratch.name) / "run"
        self._cells = {cell.id: cell for cell in matrix.cells}
        self._command = ""
        self._session = Session(
            matrix,
            backend,
            boot,
            self._folder,
            origin.model_copy(update={"throttle": throttle}),
            command_of=lambda _: self._command,
            kept_runtime=assignment.kept_runtime,
        )

    def repeat(self, cell_id: str, number: int, command: str) -> tuple[SentinelError | None, bytes]:
        """Run a repeat; return its failure, and its records."""

        def on_step(step: int, measured: bool) -> None:
            if self.run in _aborted:
                raise _AbortedError("the run was interrupted")
            tell(self._topic, cell_id, number, event="step", step=step, measured=measured)

        self._command = command
        try:
            failure = self._session.repeat(
                self._cells[cell_id],
                number,
                on_restore=lambda: None,
                on_step=on_step,
            )
            return failure, pack(self._folder)
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)


def pack(folder: Path) -> bytes:
    """Return the records in a folder as a tar file."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.name.startswith("."):
                archive.add(path, arcname=str(path.relative_to(folder)))
    return buffer.getvalue()
