# SPDX-License-Identifier: Apache-2.0
"""Workers that are SLURM jobs, one in each.

dask-jobqueue starts the scheduler in this process, and writes the script of the jobs. It could submit them,
too, but would then not look at them again: it does not report a failed sbatch, waits for a job that failed
before its worker began, does not replace one that reached its time limit, and ignores a failed scancel. So
jobs are submitted, watched and cancelled here.
"""

from __future__ import annotations

import contextlib
import importlib.util
import secrets
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Set
from pathlib import Path

import distributed

from experiments import worker
from experiments.slurm_job import Job
from testbed.common import run
from testbed.common.errors import InfrastructureError, UsageError
from testbed.common.progress import warn

LOGS = "slurm"  # folder of the jobs' logs, in that of the run
_KEYS = ".slurm-"  # prefix of the folder with the cluster's key, likewise
_LOOK_SECONDS = 10.0  # between two looks at the queue: all users share SLURM's controller
_COMMAND_SECONDS = 120.0  # for a command of SLURM; a busy controller takes long
_DEATH_SECONDS = 300  # until a job ends whose worker cannot begin; on shared disks Python starts slowly
_CLOSE_SECONDS = 60
_CANCEL_TRIES, _CANCEL_SECONDS = 5, 2.0

# bash runs its traps when the worker has ended. So SIGTERM ends the worker first, and the folder goes last.
_OWN_FOLDER = (
    'export TMPDIR="$(mktemp -d -t sentinel-XXXXXX)"',
    "trap : TERM",
    """trap 'rm -rf "$TMPDIR"' EXIT""",
)


@contextlib.contextmanager
def started(job: Job, number: int, out: Path) -> Iterator[tuple[distributed.Client, Jobs]]:
    """Start a scheduler in this process, for up to `number` jobs. They end with the block.

    `out`, the folder of the run, gets the jobs' logs, and while the block runs the cluster's key. Raises
    `UsageError` without dask-jobqueue or for an interface that this host lacks, and `InfrastructureError` if
    this host has no SLURM.
    """
    if importlib.util.find_spec("dask_jobqueue") is None:
        raise UsageError("--slurm needs dask-jobqueue", hint="pip install 'sentinel-testbed[slurm]'")
    for program in ("sbatch", "squeue", "scancel"):
        run.which(program, package="slurm-client")
    out = out.absolute()
    name = f"sentinel-{secrets.token_hex(4)}"
    with contextlib.ExitStack() as stack:
        for abandoned in out.glob(f"{_KEYS}*"):  # by a process that was killed
            shutil.rmtree(abandoned, ignore_errors=True)
        key = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=_KEYS, dir=out))) / "key.pem"
        arrivals = _Arrivals()
        cluster = _scheduler(job, name, key, arrivals)
        script = cluster.job_script().replace(str(key), shlex.quote(str(key)))
        jobs = Jobs(name, script, number, out / LOGS, arrivals.names)
        stack.callback(cluster.close, timeout=_CLOSE_SECONDS)
        client = distributed.Client(cluster)
        stack.callback(client.close, timeout=_CLOSE_SECONDS)
        stack.callback(jobs.cancel)  # first of all, whatever the rest does
        yield client, jobs


class _Arrivals(distributed.SchedulerPlugin):  # type: ignore[misc]  # Dask's is not typed
    """Notes the names of all workers that connect, however short they stay."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def add_worker(self, scheduler: distributed.Scheduler, worker: str) -> None:
        """Note a new worker."""
        self.names.add(str(scheduler.workers[worker].name))


def _scheduler(job: Job, name: str, key: Path, arrivals: _Arrivals) -> distributed.SpecCluster:
    """Start the scheduler of a cluster whose jobs have this name, and whose key is the file."""
    on_interrupt = signal.getsignal(signal.SIGINT)
    from dask_jobqueue import SLURMCluster

    signal.signal(signal.SIGINT, on_interrupt)  # the import lets Ctrl-C end this process with status 0
    try:
        return SLURMCluster(
            n_workers=0,
            security=_security(key),
            scheduler_options={
                "dashboard": False,
                "dashboard_address": "127.0.0.1:0",
                "plugins": [arrivals],
            },
            interface=job.interface,
            cores=1,  # threads of the worker
            processes=1,
            memory=f"{job.memory_mib} MiB",
            job_cpu=job.cores,
            job_mem=f"{job.memory_mib}M",
            job_name=name,
            queue=job.partition,
            account=job.account,
            walltime=job.walltime,
            job_extra_directives=list(job.directives),
            job_script_prologue=[*job.setup, *_OWN_FOLDER],
            python=shlex.quote(sys.executable),
            death_timeout=_DEATH_SECONDS,
            worker_extra_args=[
                *("--name", '"$SLURM_JOB_ID"'),  # of several names the last one counts
                *("--memory-limit", "0"),  # SLURM's limit covers machines, too
                *("--no-dashboard", "--dashboard-address", "127.0.0.1:0"),
                *("--preload", worker.__name__),
            ],
        )
    except (RuntimeError, ValueError) as e:
        raise UsageError(
            f"the scheduler cannot start: {e}", hint="see `interface` in the file of --slurm"
        ) from e


def _security(key: Path) -> distributed.Security:
    """Write a new key to the file, and let only those connect who can read it."""
    made = distributed.Security.temporary().get_tls_config_for_role("scheduler")
    key.touch(0o600)
    key.write_text(made["cert"] + made["key"])
    roles = ("client", "scheduler", "worker")
    files = ["tls_ca_file", *(f"tls_{role}_{part}" for role in roles for part in ("cert", "key"))]
    return distributed.Security(require_encryption=True, **dict.fromkeys(files, str(key)))


class Jobs:
    """The jobs of a run, at most `number` at once.

    They share a name that no other job has, so that one can be cancelled even if its submission was
    interrupted. Their workers are named by the jobs' ids; `began` has the names of those that ever connected.
    """

    def __init__(self, name: str, script: str, number: int, logs: Path, began: Set[str]) -> None:
        self.name, self.began = name, began
        self._script, self._number, self._logs = script, number, logs
        self._queued: dict[str, str] = {}  # states by id, of those that have not ended
        self._broken: list[str] = []  # jobs that ended before their workers began
        self._complaint = ""  # the last one about SLURM
        self._next_look = 0.0

    def look(self, wanted: int) -> None:
        """Look at the queue now and then, and submit as many jobs as are missing.

        `wanted` is how many could be used. A job that has ended is replaced; each one whose worker never
        began lowers the number of jobs. Raises `InfrastructureError` if none is left, or if the first one
        cannot be submitted.
        """
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + _LOOK_SECONDS
        try:
            queued = self._list()
        except InfrastructureError as e:
            self._complain(e.message)
            return
        for ended in self._queued.keys() - queued.keys() - self.began:
            self._broken.append(ended)
            warn(self._describe(ended))
        self._queued = queued
        usable = self._number - len(self._broken)
        if usable <= 0 and not queued:
            last = self._broken[-1]
            raise InfrastructureError(self._describe(last), hint=f"sacct -j {last}", log=self._log(last))
        try:
            while len(self._queued) < min(usable, wanted):
                self._submit()
        except InfrastructureError as e:  # perhaps a user may not have more
            if not self._queued:
                raise
            self._complain(e.message)

    def describe(self) -> str:
        """Return the states of the jobs, such as `2 PENDING (Priority), 1 RUNNING`."""
        counts = Counter(self._queued.values())
        return ", ".join(f"{count} {state}" for state, count in sorted(counts.items())) or "no jobs"

    def cancel(self) -> None:
        """Cancel all jobs, and those that appear meanwhile."""
        for _ in range(_CANCEL_TRIES):
            with contextlib.suppress(InfrastructureError):
                run.run(["scancel", f"--name={self.name}"], timeout=_COMMAND_SECONDS)
                if not self._list():
                    return
            time.sleep(_CANCEL_SECONDS)
        warn(f"SLURM may still have jobs of this run: scancel --name={self.name}")

    def _list(self) -> dict[str, str]:
        """Ask for the states of the jobs that have not ended, by id."""
        command = ["squeue", "--noheader", f"--name={self.name}", "--format=%i %T (%r)"]
        lines = run.run(command, timeout=_COMMAND_SECONDS).stdout.splitlines()
        states = dict(line.split(maxsplit=1) for line in lines)
        return {
            job_id: state.removesuffix(" (None)")
            for job_id, state in states.items()
            if not state.startswith("COMPLETING")
        }

    def _submit(self) -> None:
        self._logs.mkdir(exist_ok=True)
        command = ["sbatch", "--parsable", f"--output={self._log('%j')}"]
        answer = run.run(command, stdin=self._script, timeout=_COMMAND_SECONDS).stdout
        self._queued[answer.strip().partition(";")[0]] = "PENDING"  # ID;CLUSTER

    def _log(self, job_id: str) -> Path:
        return self._logs / f"{job_id}.log"

    def _describe(self, job_id: str) -> str:
        """Describe a job whose worker never began."""
        text = f"SLURM job {job_id} ended before its worker began"
        with contextlib.suppress(OSError):
            lines = self._log(job_id).read_text(errors="replace").split("\n")
            last = [line for line in lines if line.strip()][-1:]
            text += "".join(f": {line}" for line in last)
        return text

    def _complain(self, message: str) -> None:
        """Warn that SLURM refuses something, once."""
        if message != self._complaint:
            warn(f"SLURM: {message}")
        self._complaint = message
