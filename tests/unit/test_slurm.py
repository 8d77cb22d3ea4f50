# SPDX-License-Identifier: Apache-2.0
"""Runs on SLURM jobs: a queue that is full or refuses, jobs that end too early, and interruptions."""

from __future__ import annotations

import functools
import json
import os
import signal
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from experiments import cluster, matrix, runner, slurm, slurm_job
from experiments.runner import Outcome
from experiments.slurm_job import Job
from experiments.workers import Workers
from testbed import machine
from testbed.common.errors import InfrastructureError, UsageError
from tests.fakes.lab import SUITE
from tests.fakes.programs import Programs
from tests.fakes.slurm import Slurm
from tests.fakes.worker_backend import WorkerBackend
from tests.unit.test_cluster import Workshop

JOB = Job(walltime="1:00:00", interface="lo")


class JobWorkshop(Workshop):
    """Runs the suite on SLURM jobs."""

    def run_jobs(self, number: int = 1, job: Job = JOB) -> Outcome:
        make = functools.partial(WorkerBackend, self.switches)
        return runner.run(
            matrix.load(self.suite),
            self.out,
            command="sentinel run suite.yaml",
            backend=make(),
            workers=Workers(make, number, slurm=job),
        )

    @property
    def trainings(self) -> int:
        """How many workers have begun a training."""
        return len(list(self.switches.glob("worker-*")))


@pytest.fixture
def workshop(tmp_path: Path, programs: Programs) -> JobWorkshop:
    programs.shell("qemu-system-x86_64", "echo QEMU emulator version 7.2.11")
    return JobWorkshop(tmp_path)


@pytest.fixture
def queue(tmp_path: Path, programs: Programs, monkeypatch: pytest.MonkeyPatch) -> Iterator[Slurm]:
    """A fake SLURM, whose jobs have all ended at the end of the test."""
    monkeypatch.setattr(slurm, "_LOOK_SECONDS", 0.2)
    monkeypatch.setattr(slurm, "_CANCEL_SECONDS", 0.2)
    monkeypatch.setattr(slurm, "_DEATH_SECONDS", 7200)
    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))  # a killed job leaves its folder
    fake = Slurm.install(tmp_path / "queue", programs)
    yield fake
    left = fake.processes()
    for process in left:
        process.kill()
    assert left == []


def until(condition: Callable[[], object]) -> None:
    while not condition():
        time.sleep(0.1)


def test_jobs_run_all_repeats_in_spite_of_a_killed_one(
    workshop: JobWorkshop, queue: Slurm, programs: Programs
) -> None:
    wait = workshop.switches / "wait"
    wait.touch()
    modes: list[int] = []

    def disturb() -> None:
        until(lambda: workshop.trainings == 2)
        seen = len(programs.calls)
        until(lambda: len(programs.calls) >= seen + 2)  # the run has looked at its workers
        modes.extend(stat.S_IMODE(path.stat().st_mode) for path in workshop.out.glob(".slurm-*"))
        queue.kill("101")
        until(lambda: "103" in queue.ids)
        wait.unlink()

    thread = threading.Thread(target=disturb, daemon=True)
    thread.start()
    outcome = workshop.run_jobs(2)
    thread.join()
    assert (outcome.done, outcome.failures) == (12, [])
    assert workshop.repeats() == [3, 3, 3, 3]
    events = workshop.events()
    assert [event["worker"] for event in events if event["event"] == "worker-lost"] == ["101"]
    assert {event["worker"] for event in events if event["event"] == "repeat-ended"} <= {"102", "103"}
    assert queue.ids == ["101", "102", "103"]
    assert modes == [0o700]
    assert {path.name for path in workshop.out.iterdir()} == {"run.json", "events.jsonl", "cells", "slurm"}


def test_jobs_that_cannot_be_submitted_are_reported(
    workshop: JobWorkshop, queue: Slurm, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.switch("refuse")
    with pytest.raises(InfrastructureError, match="Batch job submission failed: Invalid account") as caught:
        workshop.run_jobs()
    assert "exited with status 1: sbatch --parsable" in str(caught.value)
    (programs.folder / "sbatch").unlink()
    with pytest.raises(InfrastructureError, match="sbatch is not installed") as missing:
        workshop.run_jobs()
    assert missing.value.hint == "apt-get install slurm-client"
    monkeypatch.setitem(sys.modules, "dask_jobqueue", None)
    with pytest.raises(UsageError, match="--slurm needs dask-jobqueue") as uninstalled:
        workshop.run_jobs()
    assert uninstalled.value.hint == "pip install 'sentinel-testbed[slurm]'"


def test_an_interface_that_the_host_lacks_is_reported(workshop: JobWorkshop, queue: Slurm) -> None:
    with pytest.raises(UsageError, match="'ib7' is not a valid network interface"):
        workshop.run_jobs(job=JOB.model_copy(update={"interface": "ib7"}))
    assert queue.ids == []


def test_a_job_that_fails_before_its_worker_begins_is_reported(workshop: JobWorkshop, queue: Slurm) -> None:
    broken = JOB.model_copy(update={"setup": ("echo no module qemu", "exit 1")})
    with pytest.raises(InfrastructureError) as caught:
        workshop.run_jobs(2, broken)
    assert str(caught.value) in {
        f"SLURM job {job_id} ended before its worker began: no module qemu" for job_id in ("101", "102")
    }
    assert caught.value.log is not None
    assert caught.value.log.read_text() == "no module qemu\n"
    assert queue.ids == ["101", "102"]  # they are not replaced


def test_a_job_is_replaced_if_its_worker_began(
    queue: Slurm, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However short it was there: the run may not have looked at its workers meanwhile."""
    monkeypatch.setattr(slurm, "_LOOK_SECONDS", 0.0)
    began: set[str] = set()
    jobs = slurm.Jobs("mine", "#SBATCH -J mine\nexec sleep 600\n", 1, tmp_path / "logs", began)
    jobs.look(5)
    began.add("101")
    queue.kill("101")
    jobs.look(5)
    assert queue.ids == ["101", "102"]
    assert capsys.readouterr().err == ""
    queue.kill("102")
    with pytest.raises(InfrastructureError, match="SLURM job 102 ended before its worker began"):
        jobs.look(5)


def test_a_queue_that_is_full_or_slow_delays_the_run(
    workshop: JobWorkshop, queue: Slurm, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pend = queue.switch("pend")
    queue.switch("full")
    states: list[str] = []
    describe = slurm.Jobs.describe

    def recorded(jobs: slurm.Jobs) -> str:
        states.append(describe(jobs))
        if len(states) == 3:
            pend.unlink()
        return states[-1]

    monkeypatch.setattr(slurm.Jobs, "describe", recorded)
    assert workshop.run_jobs(3).done == 12
    assert states[:3] == ["1 PENDING", "1 PENDING (Resources)", "1 PENDING (Resources)"]
    assert states[-1] == "1 RUNNING"
    assert queue.ids == ["101"]
    assert capsys.readouterr().err.count("warning: SLURM: sbatch: error: Batch job submission failed") == 1


INTERRUPTED = """
import sys
from pathlib import Path
from experiments import slurm
from tests.unit.test_slurm import JobWorkshop

if __name__ == "__main__":
    slurm._LOOK_SECONDS, slurm._DEATH_SECONDS = 0.2, 7200
    JobWorkshop(Path(sys.argv[1])).run_jobs(2)
"""


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGKILL], ids=["interrupted", "killed"])
def test_no_job_is_left(workshop: JobWorkshop, queue: Slurm, tmp_path: Path, sign: signal.Signals) -> None:
    (workshop.switches / "wait").touch()
    queue.switch("deaf")
    program = tmp_path / "program.py"
    program.write_text(INTERRUPTED)
    root = str(Path(matrix.__file__).parent.parent)
    environment = {**os.environ, "PYTHONPATH": root}
    with subprocess.Popen(
        [sys.executable, program, tmp_path], start_new_session=True, env=environment, stderr=subprocess.PIPE
    ) as process:
        until(lambda: workshop.trainings == 2 or process.poll() is not None)
        assert len(queue.ids) == 2
        os.killpg(process.pid, sign)
        _, errors = process.communicate()
    assert process.returncode != 0, errors.decode()
    if sign == signal.SIGINT:
        assert errors.decode().rstrip().endswith("KeyboardInterrupt")
        assert list((tmp_path / "scratch").glob("sentinel-*")) == []
        assert list(workshop.out.glob(".slurm-*")) == []
    (workshop.switches / "wait").unlink()  # so that the jobs of a killed run need not wait for their repeats
    if sign == signal.SIGKILL:
        until(lambda: not queue.processes())
    assert queue.processes() == []
    assert workshop.repeats() == [0, 0, 0, 0]
    assert workshop.run(jobs=0).done == 12


def greeting(address: str, context: ssl.SSLContext) -> bytes:
    """What a server of the cluster says to a client; nothing if it refuses it."""
    place = urlsplit(address)
    with socket.create_connection((place.hostname, place.port)) as plain:
        try:
            with context.wrap_socket(plain) as encrypted:
                return encrypted.recv(1)
        except (ssl.SSLError, ConnectionError):
            return b""


def test_only_holders_of_the_key_can_connect(queue: Slurm, tmp_path: Path) -> None:
    (tmp_path / "run folder").mkdir()
    with slurm.started(JOB, 1, tmp_path / "run folder") as (client, jobs):
        cluster._await_first(client, jobs, 1)
        (key,) = (tmp_path / "run folder").glob(".slurm-*/key.pem")
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
        assert jobs.began == {"101"}
        info = client.scheduler_info()
        (worker,) = info["workers"].values()
        stranger = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        stranger.check_hostname = False
        stranger.verify_mode = ssl.CERT_NONE
        member = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        member.check_hostname = False
        member.load_verify_locations(key)
        member.load_cert_chain(key)
        for address in (info["address"], next(iter(info["workers"])), worker["nanny"]):
            assert address.startswith("tls://127.0.0.1:")
            assert greeting(address, stranger) == b""
            assert greeting(address, member) != b""
        listening = {
            connection.laddr.ip
            for process in (psutil.Process(), *queue.processes())
            for connection in process.net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN
        }
        assert listening == {"127.0.0.1"}


def test_the_file_of_a_job_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text("walltime: 60\nqueue: long\n")
    with pytest.raises(UsageError) as caught:
        slurm_job.load(path)
    first, second = str(caught.value).splitlines()
    assert first.startswith(f'{path}:1:11: walltime: must be in quotes: write "60"')
    assert second.startswith(f"{path}:2:1: queue: unknown key; allowed: walltime, cores, memory, partition")
    path.write_text("walltime: 60:00\nmemory: 1 GiB\n")
    job = slurm_job.load(path)
    assert (job.walltime, job.memory_mib, job.cores) == ("60:00", 1024, 2)
    with pytest.raises(UsageError, match="needs 4 GiB of memory, and a job has 1 GiB"):
        job.check_capacity(machine.load("two-node"))


def test_the_command_takes_a_file_of_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sentinel_: Callable[..., tuple[int, str, str]]
) -> None:
    def record(*_: object, workers: Workers, **__: object) -> Outcome:
        raise InfrastructureError(f"{workers.jobs} jobs in {workers.slurm and workers.slurm.partition}")

    monkeypatch.setattr(runner, "run", record)
    path, suite = tmp_path / "cluster.yaml", tmp_path / "suite.yaml"
    path.write_text('{ walltime: "60", partition: long }')
    suite.write_text(SUITE)
    run = functools.partial(sentinel_, "run", suite, "--out", tmp_path / "run", "--slurm", path)
    assert run("-j", "16") == (9, "", "error: 16 jobs in long\n")
    assert run() == (9, "", "error: 1 jobs in long\n")
    code, _, errors = run("--scheduler", "tcp://127.0.0.1:9")
    assert (code, errors.splitlines()[0]) == (
        2,
        "error: the workers of --scheduler run already: give it without -j and --slurm",
    )
    assert run("--target", "host")[0] == 2
    path.write_text('{ walltime: "60", memory: 1 GiB }')
    assert "a job has 1 GiB" in run()[2]
    code, text, _ = sentinel_("suite", "schema", "slurm")
    assert json.loads(text)["properties"]["memory"]["default"] == "8 GiB"


def test_a_job_asks_for_what_its_file_says(queue: Slurm, tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(
        "{ walltime: 1-0, cores: 3, memory: 1024.5 MiB, partition: long, account: me, interface: lo,"
        " directives: [--exclusive], setup: [module load qemu] }"
    )
    job = slurm_job.load(path)
    queue.switch("pend")
    with slurm.started(job, 1, tmp_path) as (_, jobs):
        jobs.look(1)
        script = (queue.folder / "101.sh").read_text().splitlines()
    assert script[2:11] == [
        f"#SBATCH -J {jobs.name}",
        "#SBATCH -p long",
        "#SBATCH -A me",
        "#SBATCH -n 1",
        "#SBATCH --cpus-per-task=3",
        "#SBATCH --mem=1025M",
        "#SBATCH -t 1-0",
        "#SBATCH --exclusive",
        "module load qemu",
    ]
    assert queue.ids == []  # it waited, and was cancelled
