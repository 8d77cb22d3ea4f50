# SPDX-License-Identifier: Apache-2.0
"""Repeats on several workers at once: processes of this host, SLURM jobs, or workers of a Dask cluster.

The process of the run hands out repeats one by one and stores what comes back. A repeat whose worker dies
runs again on another one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import logging
import queue
import tarfile
import tempfile
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import distributed

from experiments import slurm, worker
from experiments.ledger import Ledger
from experiments.matrix import Cell, Matrix
from experiments.order import Task
from experiments.worker import Assignment, Reply
from experiments.workers import Workers
from results import writer
from testbed.common.errors import InfrastructureError, SentinelError, UsageError
from testbed.common.progress import step, warn

_MAX_TRIES = 3  # of a repeat on workers that cannot do their part
_CONNECT_SECONDS = 30
_POLL_SECONDS = 1.0  # between two looks at the events of workers
_CLOSE_SECONDS = 60
_PATIENCE = 60  # looks without any worker, before that is reported


@dataclasses.dataclass(frozen=True)
class Cluster:
    """A connection to a cluster; `jobs` are its workers if they are SLURM's."""

    client: distributed.Client
    jobs: slurm.Jobs | None = None


@contextlib.contextmanager
def connected(workers: Workers, out: Path, *, repeats: int) -> Iterator[Cluster]:
    """Connect to the cluster of the workers. One of this host or of SLURM jobs lives as long as the block.

    `out` is the folder of the run. SLURM's queue may take long to start the first job. Raises
    `InfrastructureError` if the scheduler does not answer or jobs cannot be run, and `UsageError` for an
    invalid address.
    """
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # its messages are about its own parts
    with contextlib.ExitStack() as stack:
        if workers.scheduler is not None:
            yield Cluster(stack.enter_context(_client(workers.scheduler)))
            return
        if workers.slurm is not None:
            client, jobs = stack.enter_context(slurm.started(workers.slurm, workers.jobs, out))
            _await_first(client, jobs, repeats)
            yield Cluster(client, jobs)
            return
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="sentinel-workers-"))
        with step(f"Starting {workers.jobs} workers"):
            cluster = distributed.LocalCluster(
                n_workers=workers.jobs,
                threads_per_worker=1,
                processes=True,
                security=True,  # others on this host must not run code as us
                dashboard_address=None,
                memory_limit=None,
                silence_logs=logging.CRITICAL,
                local_directory=scratch,
                env={"TMPDIR": scratch},
                preload=[worker.__name__],
            )
            stack.callback(cluster.close, timeout=_CLOSE_SECONDS)
            client = distributed.Client(cluster)
            stack.callback(client.close, timeout=_CLOSE_SECONDS)
        yield Cluster(client)


def _await_first(client: distributed.Client, jobs: slurm.Jobs, repeats: int) -> None:
    """Submit jobs, and wait until the first worker has begun."""
    with step(f"Waiting for SLURM jobs {jobs.name}") as shown:
        while not client.scheduler_info(n_workers=-1)["workers"]:
            jobs.look(repeats)
            shown.update(None, jobs.describe())
            time.sleep(_POLL_SECONDS)
        shown.done(jobs.describe())


def assignment(
    matrix: Matrix, workers: Workers, made_by: Mapping[str, Any], kept_runtime: str | None
) -> Assignment:
    """The part of a run that all its workers have to know."""
    bare = dataclasses.replace(matrix)  # without the cells, which workers expand again
    return Assignment(uuid.uuid4().hex, bare, workers.backend, made_by, kept_runtime)


def _client(address: str) -> distributed.Client:
    try:
        return distributed.Client(address, timeout=_CONNECT_SECONDS)
    except ValueError as e:
        raise UsageError(f"--scheduler {address}: {e}", hint="such as tcp://host:8786") from None
    except OSError:
        raise InfrastructureError(
            f"the scheduler at {address} does not answer", hint="start one with: dask scheduler"
        ) from None


def run(
    tasks: Sequence[Task],
    assignment: Assignment,
    cluster: Cluster,
    ledger: Ledger,
    out: Path,
    *,
    command_of: Callable[[Cell], str],
    replace: bool,
) -> None:
    """Run all repeats and store them in `out`.

    Raises errors that every repeat would have, and `InfrastructureError` if the records cannot be stored or
    no SLURM job can run.
    """
    dispatch = _Dispatch(assignment, cluster, ledger, out, command_of, replace)
    try:
        dispatch.run(deque(tasks))
    except BaseException:
        dispatch.abort()
        raise


class _Dispatch:
    """Hands out repeats, as many as keep all workers busy, so that those of a skipped cell never start."""

    def __init__(
        self,
        assignment: Assignment,
        cluster: Cluster,
        ledger: Ledger,
        out: Path,
        command_of: Callable[[Cell], str],
        replace: bool,
    ) -> None:
        self._assignment, self._ledger = assignment, ledger
        self._client, self._jobs = cluster.client, cluster.jobs
        self._out, self._command_of, self._replace = out, command_of, replace
        self._pending: dict[distributed.Future, Task] = {}
        self._tries: Counter[tuple[str, int]] = Counter()
        self._messages: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._workerless = 0
        self._workers: dict[str, str] = {}  # names by address
        self._client.subscribe_topic(assignment.topic, lambda event: self._messages.put(event[1]))

    def run(self, tasks: deque[Task]) -> None:
        while tasks or self._pending:
            self._watch(len(tasks) + len(self._pending))
            while tasks and len(self._pending) < max(1, 2 * len(self._workers)):
                task = tasks.popleft()
                if self._ledger.is_skipped(task.cell):
                    self._ledger.dropped(task)
                else:
                    self._submit(task)
            if not self._pending:
                continue
            with contextlib.suppress(TimeoutError):
                distributed.wait(list(self._pending), timeout=_POLL_SECONDS, return_when="FIRST_COMPLETED")
            self._follow()
            for future in [future for future in self._pending if future.done()]:
                self._ended(future, self._pending.pop(future))
        self._watch(0)

    def abort(self) -> None:
        """Let workers end what they do for this run. SLURM jobs are cancelled instead."""
        if self._jobs is not None:
            return
        with contextlib.suppress(Exception):  # the cluster may be gone
            self._client.cancel(list(self._pending), force=True)
            self._client.run(worker.abort, self._assignment.run, on_error="ignore")

    def _watch(self, repeats: int) -> None:
        """Note which workers there are, and which have gone. `repeats` are still to be done."""
        found = self._client.scheduler_info(n_workers=-1)["workers"]
        for address in self._workers.keys() - found.keys():
            self._ledger.worker_lost(self._workers[address])
        self._workers = {address: str(info["name"]) for address, info in found.items()}
        self._ledger.workers = max(1, len(found))
        if self._jobs is not None and repeats:
            self._jobs.look(repeats)
        self._workerless = 0 if found else self._workerless + 1
        if self._workerless == _PATIENCE:
            advice = "dask worker ADDRESS --nthreads 1" if self._jobs is None else self._jobs.describe()
            warn(f"the cluster has no workers; waiting for one: {advice}")

    def _submit(self, task: Task, *, but: str | None = None) -> None:
        """Hand out a repeat, if possible not to the worker with the address `but`."""
        number = self._tries[task.cell.id, task.repeat]
        others = [address for address in self._workers if address != but]
        future = self._client.submit(
            worker.measure,
            self._assignment,
            task.cell.id,
            task.repeat,
            self._command_of(task.cell),
            key=f"{self._assignment.topic}-{task.cell.id}-{task.repeat}-{number}",
            pure=False,
            workers=others if but is not None and others else None,
            allow_other_workers=but is not None and bool(others),
        )
        self._pending[future] = task

    def _follow(self) -> None:
        """Pass on what workers have said meanwhile."""
        tasks = {(task.cell.id, task.repeat): task for task in self._pending.values()}
        with contextlib.suppress(queue.Empty):
            while True:
                message = self._messages.get_nowait()
                task = tasks.get((message["cell"], message["repeat"]))
                if task is None:
                    continue
                if message["event"] == "started":
                    self._ledger.began(task, worker=message["by"])
                else:
                    self._ledger.step_done(task, message["step"], message["measured"])

    def _ended(self, future: distributed.Future, task: Task) -> None:
        if future.status == "cancelled":  # the scheduler was restarted
            self._submit(task)
            return
        error = future.exception()
        if isinstance(error, distributed.KilledWorker):
            failure = InfrastructureError("every worker that ran it died")
            self._ledger.ended(task, failure)
            return
        if error is not None:
            raise error
        reply: Reply = future.result()
        if reply.fatal is not None:
            raise reply.fatal.error()
        if reply.lost is not None:
            self._lost(task, reply)
            return
        _store(self._out, task, reply, replace=self._replace)
        failed: SentinelError | None = None if reply.failure is None else reply.failure.error()
        self._ledger.ended(task, failed, seconds=reply.seconds, worker=reply.worker)

    def _lost(self, task: Task, reply: Reply) -> None:
        self._tries[task.cell.id, task.repeat] += 1
        if self._tries[task.cell.id, task.repeat] == _MAX_TRIES:
            self._ledger.ended(
                task, InfrastructureError(f"{reply.worker}: {reply.lost}"), worker=reply.worker
            )
            return
        self._ledger.lost(task, worker=reply.worker, reason=str(reply.lost))
        self._submit(task, but=reply.address)


def _store(out: Path, task: Task, reply: Reply, *, replace: bool) -> None:
    """Store the records of a repeat: all of them or none."""
    with tempfile.TemporaryDirectory(prefix=".incoming-", dir=out) as scratch:
        folder = Path(scratch)
        with tarfile.open(fileobj=io.BytesIO(reply.records)) as archive:
            # Python 3.11.2 knows no filters
            archive.extraction_filter = getattr(tarfile, "data_filter", lambda member, _: member)
            archive.extractall(folder)  # noqa: S202 -- this program packed it
        for profile in folder.glob("profiles/*"):
            writer.write_profile(out, profile)
        (source,) = (folder / "cells" / task.cell.id).iterdir()
        writer.adopt_repeat(out, task.cell.id, task.repeat, source, replace=replace)
