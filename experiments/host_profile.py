# SPDX-License-Identifier: Apache-2.0
"""Profiles recorded with the guest's TensorFlow on this host's processor, without a machine.

A training process runs in the guest image's root file system (`images.root`), with the same runtime, code
and job as in a machine. So tensors, lifetimes, uses and the order of operations are those of the model at any
size that fits the host's memory. What the host cannot know is the modelled machine's time: the profile has
the processor time of each operation, and how fast the processor is, and the cost model scales it to the
modelled socket and adds memory's time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments import frameworks, guest_code, job, profiles, provenance
from experiments.job import ProcessError, Work
from images import build as images
from images import definition
from images import root as roots
from images.root import Root
from sentinel.planner.formats import files
from sentinel.planner.formats.profile import Native, Profile
from testbed.common.cache import Cache
from testbed.common.cache_entry import Entry
from testbed.common.errors import InfrastructureError, WorkloadError
from testbed.common.progress import step
from testbed.host import memory

# Float32 operations per ns (GFLOP/s): 24 cores of a Xeon Platinum 8260, 64 in a cycle, at 2.4 GHz
SOCKET_SPEED = 3700.0
STEPS = profiles.PROFILED_STEPS + 3  # of a model; those after the profile tell how long a step takes
SCRIPT_STEPS = profiles.SCRIPT_STEPS + 4
MIN_MEMORY = 2 << 30  # bytes that TensorFlow and the smallest models need
RESERVE = 512 << 20  # bytes that the host keeps
_MEMORY_HINT = "a smaller batch, or end other programs: sentinel vm status"
_POLL_SECONDS = 0.2
_PREFIX = "sentinel-host-"
_PROFILES = "profiles"  # in the job's folder


def record(
    work: Work,
    *,
    warmup: int = 1,
    steps: int = STEPS,
    socket_speed: float = SOCKET_SPEED,
    cache: Cache | None = None,
) -> dict[str, Profile]:
    """Profile one step of each kind of a training process, and return the profiles by kind.

    The profile begins after `warmup` steps; the process ends after `steps` more. Those after the profile tell
    how long a step takes without the recording. `socket_speed` is the speed of the modelled socket, in
    float32 operations per ns.

    Raises `InfrastructureError` without root, a mountable image, or enough memory, and `ProcessError` if the
    process fails.
    """
    cache = cache or Cache()
    roots.check_host()
    image = _image(cache)
    _check_memory()
    library = frameworks.DEFAULT.build_runtime(cache=cache)
    with cache.using(image), _scratch() as scratch:
        root = _stage(work, image.path / images.DISK, library, scratch)
        with step("Speed of this processor"):
            speed = _speed(root, scratch)
        with step("Profiling a step on this host") as shown:
            order = {"warmup": warmup, "steps": steps, "profile": f"{job.FOLDER}/{_PROFILES}"}

            def on_steps(done: int) -> None:
                shown.update(done / (warmup + steps), f"step {done} of {warmup + steps}")

            _train(work, root, scratch, order, on_steps)
        native = Native(provenance.host()["cpu"], speed, socket_speed)
        recorded = {
            kind: dataclasses.replace(files.read_profile(path), native=native)
            for kind, path in profiles.by_kind(scratch / "job" / _PROFILES).items()
        }
        lines = _read(scratch / "job" / "steps.jsonl").splitlines()
    if not recorded:
        raise WorkloadError(
            f"{work.name} wrote no profile: no kind of step ran {profiles.PROFILED_STEPS} times",
            hint="more --steps, or --step-op to name an operation of the training",
        )
    return undisturbed(recorded, [json.loads(line) for line in lines])


def undisturbed(recorded: Mapping[str, Profile], records: Sequence[dict[str, Any]]) -> dict[str, Profile]:
    """Scale the times of profiles to the median step after them, which nothing records.

    A step of a model with several kinds is one record; the factor is that of all kinds then.
    """
    counts: Counter[str] = Counter()
    after: dict[str, list[float]] = {}
    for record in records:
        if "kind" in record and not record["warmup"]:
            kind = record["kind"]
            counts[kind] += 1
            if counts[kind] > profiles.PROFILED_STEPS:
                after.setdefault(kind, []).append(float(record["guest_ns"]))
    median = {kind: statistics.median(ns) for kind, ns in after.items()}
    if recorded.keys() <= counts.keys():
        return {
            kind: _scaled(profile, median[kind] / profile.step_ns if kind in median else 1.0)
            for kind, profile in recorded.items()
        }
    total_ns = sum(profile.step_ns for profile in recorded.values())
    factor = sum(median.values()) / total_ns if median else 1.0
    return {kind: _scaled(profile, factor) for kind, profile in recorded.items()}


def _scaled(profile: Profile, factor: float) -> Profile:
    ops, begin = profile.ops, profile.ops.begin_ns[0]
    begin_ns, end_ns = (np.rint((ns - begin) * factor).astype(np.int64) for ns in (ops.begin_ns, ops.end_ns))
    return dataclasses.replace(
        profile,
        step_ns=max(1, round(profile.step_ns * factor)),
        ops=dataclasses.replace(ops, begin_ns=begin_ns, end_ns=end_ns),
    )


def _image(cache: Cache) -> Entry:
    entry = cache.get(images.KIND, definition.default().key)
    if entry is None:
        raise InfrastructureError("the guest image is not built", hint="sentinel image build")
    return entry


def _check_memory() -> None:
    free = memory.available()
    if free < MIN_MEMORY:
        raise InfrastructureError(
            f"not enough memory: TensorFlow needs {MIN_MEMORY >> 30} GiB, and this host has "
            f"{free / 2**30:.1f} GiB available",
            hint=_MEMORY_HINT,
        )


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    """A scratch folder, which is removed; those that killed processes left behind are, too."""
    for stale in Path(tempfile.gettempdir()).glob(f"{_PREFIX}[0-9]*-*"):
        if not Path("/proc", stale.name.removeprefix(_PREFIX).split("-")[0]).exists():
            shutil.rmtree(stale, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{os.getpid()}-") as folder:
        yield Path(folder)


def _stage(work: Work, disk: Path, library: Path, scratch: Path) -> Root:
    """Lay out what the process needs, and return the root file system in which it is in its places."""
    for name in ("top", "code", "job"):
        (scratch / name).mkdir()
    guest_code.stage(scratch / "code", guest_code.sources())
    shutil.copy(library, scratch / "code" / frameworks.DEFAULT.runtime_name)
    (scratch / "job" / "job.json").write_text(json.dumps(work.job()))
    folders = {guest_code.FOLDER: scratch / "code", job.FOLDER: scratch / "job"}
    if work.files is not None:
        host_files, place = work.files
        (scratch / "files").mkdir()
        host_files.stage(scratch / "files")
        folders[place] = scratch / "files"
    return Root(disk, scratch / "top", folders)


def _environment() -> dict[str, str]:
    return {"PYTHONPATH": guest_code.FOLDER, "PYTHONDONTWRITEBYTECODE": "1", "SENTINEL_CLOCK": "cpu"}


def _speed(root: Root, scratch: Path) -> float:
    """Return this processor's speed, in float32 operations per ns."""
    log = scratch / "speed.log"
    with root.running(frameworks.DEFAULT.speed_command(), env=_environment(), log=log) as process:
        status = _wait(process, lambda: False)
    if status:
        raise _failure("measuring the processor", status, log)
    return float(log.read_text().splitlines()[-1])


def _train(
    work: Work, root: Root, scratch: Path, order: dict[str, Any], on_steps: Callable[[int], None]
) -> None:
    """Run the training process, from its barrier to its end."""
    folder, command = work.command
    log, records, barrier = (scratch / "job" / name for name in ("log", "steps.jsonl", "barrier"))
    with root.running(command, folder=folder, env=_environment(), log=log) as process:
        status = _wait(process, (scratch / "job" / "waiting").exists)
        if status is None:
            status = _wait(process, lambda: _release(barrier, order))
        if status is not None:
            raise _failure(f"{work.name}, before its first session,", status, log)

        def report() -> bool:
            on_steps(_lines(records))
            return False

        status = _wait(process, report)
    if status or '{"end": true}' not in _read(records):
        raise _failure(work.name, status or 0, log)


def _release(barrier: Path, order: dict[str, Any]) -> bool:
    """Write the order to the FIFO; return False if the process does not wait there yet."""
    try:
        fifo = os.open(barrier, os.O_WRONLY | os.O_NONBLOCK)
    except OSError as e:
        if e.errno in (errno.ENXIO, errno.ENOENT):
            return False
        raise
    with os.fdopen(fifo, "w") as f:
        f.write(json.dumps(order))
    return True


def _wait(process: subprocess.Popen[bytes], over: Callable[[], bool]) -> int | None:
    """Wait until `over`, or return the exit status of the process as a shell gives it.

    Raises `InfrastructureError` if the host runs out of memory meanwhile.
    """
    while True:
        status = process.poll()
        if status is not None:
            return status if status >= 0 else 128 - status
        if over():
            return None
        if memory.available() < RESERVE:
            raise InfrastructureError(
                f"not enough memory: the training left this host {RESERVE >> 20} MiB, and was ended",
                hint=_MEMORY_HINT,
            )
        time.sleep(_POLL_SECONDS)


def _failure(who: str, status: int, log: Path) -> InfrastructureError | ProcessError:
    """Return why a program in the root file system failed."""
    refused = roots.explain(status, log)
    if refused is not None:
        return refused
    lines = _read(log).strip().splitlines()
    details = f": {lines[-1]}" if lines else ""
    return ProcessError(f"{who} failed: {job.describe_exit(status)}{details}", status=status)


def _lines(path: Path) -> int:
    return _read(path).count("\n")


def _read(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""
