# SPDX-License-Identifier: Apache-2.0
"""A SLURM of one host: sbatch starts a job's script as a process of its own, and scancel ends it.

Files in its folder say what it does:

refuse   sbatch fails
full     sbatch fails from the second job on
pend     jobs stay in the queue until the file is gone and squeue is called
deaf     scancel fails, once
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.fakes.programs import Programs

_COMMON = """
import json, os, signal, subprocess, time
folder = Path({folder!r})

def start(job):
    with open(job["log"], "ab") as log:
        process = subprocess.Popen(
            ["bash", job["script"]], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            env=dict(os.environ, SLURM_JOB_ID=str(job["id"])),
        )
    job["pid"] = process.pid

def keep(job):
    new = folder / "new"
    new.write_text(json.dumps(job))
    new.rename(folder / f"{{job['id']}}.job")

def is_alive(job):
    try:
        return Path(f"/proc/{{job['pid']}}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False

def jobs():
    name = next(word for word in sys.argv if word.startswith("--name=")).partition("=")[2]
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("*.job"))]
    return [job for job in found if job["name"] == name]
"""

_SBATCH = """
known = len(list(folder.glob("*.job")))
if (folder / "refuse").exists() or (folder / "full").exists() and known:
    sys.exit("sbatch: error: Batch job submission failed: Invalid account or partition")
text = sys.stdin.read()
lines = [line.split() for line in text.splitlines()]
number = 101 + known
script = folder / f"{number}.sh"
script.write_text(text)
output = next(word for word in sys.argv if word.startswith("--output=")).partition("=")[2]
job = {"id": number, "script": str(script), "log": output.replace("%j", str(number)), "pid": None}
job["name"] = next(words[2] for words in lines if words[:2] == ["#SBATCH", "-J"])
if not (folder / "pend").exists():
    start(job)
keep(job)
print(f"{number};cluster")
"""

_SQUEUE = """
for job in jobs():
    if job["pid"] is None and not (folder / "pend").exists():
        start(job)
        keep(job)
    if job["pid"] is None:
        print(job["id"], "PENDING", "(Resources)")
    elif is_alive(job):
        print(job["id"], "RUNNING", "(None)")
"""

_SCANCEL = """
if (folder / "deaf").exists():
    (folder / "deaf").unlink()
    sys.exit("scancel: error: Unable to contact slurm controller")
for job in jobs():
    if job["pid"] is None:
        (folder / f"{job['id']}.job").unlink()
        continue
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(job["pid"], sign)
        except ProcessLookupError:
            break
        for _ in range(300):
            if not is_alive(job):
                break
            time.sleep(0.1)
"""


@dataclass(frozen=True)
class Slurm:
    """The fake, with its state in `folder`."""

    folder: Path

    @classmethod
    def install(cls, folder: Path, programs: Programs) -> Slurm:
        """Put sbatch, squeue and scancel on PATH."""
        folder.mkdir()
        common = _COMMON.format(folder=str(folder))
        for name, body in (("sbatch", _SBATCH), ("squeue", _SQUEUE), ("scancel", _SCANCEL)):
            programs.python(name, common + body)
        return cls(folder)

    def switch(self, name: str) -> Path:
        """Make the file `name`."""
        path = self.folder / name
        path.touch()
        return path

    @property
    def ids(self) -> list[str]:
        """The ids of all jobs submitted so far, but for those cancelled before they started."""
        return sorted(path.stem for path in self.folder.glob("*.job"))

    def kill(self, job_id: str) -> None:
        """End a job without warning, as its node or its time limit might."""
        process = psutil.Process(self._pid(job_id))
        os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(psutil.NoSuchProcess):
            while process.status() != psutil.STATUS_ZOMBIE:
                time.sleep(0.01)

    def processes(self) -> list[psutil.Process]:
        """The live processes of all jobs."""
        sessions = {self._pid(job_id) for job_id in self.ids}
        found = []
        for process in psutil.process_iter():
            try:
                if os.getsid(process.pid) in sessions and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (OSError, psutil.Error):
                continue
        return found

    def _pid(self, job_id: str) -> int:
        pid = json.loads((self.folder / f"{job_id}.job").read_text())["pid"]
        return -1 if pid is None else int(pid)
