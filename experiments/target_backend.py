# SPDX-License-Identifier: Apache-2.0
"""A backend that trains on a real machine instead of a virtual one: `target` in suites.

There is no snapshot: each repeat starts the training process anew, in the guest image's root file system. The
only clock is the machine's own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from experiments import (
    barrier_snapshot,
    frameworks,
    job,
    policies,
    profiles,
    target_memory,
    target_origin,
    target_root,
)
from experiments.backend import Callbacks
from experiments.boot import Artifacts
from experiments.job import ProcessError, Work
from experiments.matrix import Matrix
from experiments.profiles import Profiles
from images import build as images
from sentinel.planner.formats.figures import Figures, Memory
from testbed.common import files
from testbed.common.cache import Cache
from testbed.common.cache_entry import Entry
from testbed.common.errors import SentinelError, UsageError, WorkloadError
from testbed.common.progress import note, step, warn
from testbed.guestlink.console import Console
from testbed.guestlink.shell import Shell
from testbed.guestlink.watchdog import Watchdog
from testbed.limits import scaled
from testbed.machine import Machine
from testbed.targets import checks
from testbed.targets.held import Held
from testbed.targets.machine import TargetMachine
from testbed.targets.spec import Target
from testbed.timing.calibration import Calibration
from testbed.timing.preset import Preset
from testbed.vm import Boot

HARDWARE: Final = "hardware"  # the accelerator that records name
_KIND = "target"  # of entries that stand for a process to start; they are not in the cache
_PROFILES = "/run/sentinel/profiles"
_MIGRATION_CORES = 4  # at most: more take processors from the computation and copy no faster
_PLANNING_FACTOR = 5  # of the limit of a step, if the planner runs in it
# The kernel's messages since it had run for so many seconds
_UPTIME = "cut -d ' ' -f 1 /proc/uptime"
_KERNEL_LOG = "dmesg | awk -F '[][]' -v since={} '$2 + 0 >= since' | tail -n 200"


class RealMachine:
    """The backend of one target, which it locks for this process until `close`."""

    def __init__(self, target: Target, *, cache: Cache | None = None) -> None:
        self._target = target
        self._cache = cache or Cache()
        self._limits = scaled(HARDWARE)
        self._machine: TargetMachine | None = None
        self._image: Entry | None = None
        self._calibration: Calibration | None = None
        self._works: dict[str, Work] = {}
        self._built: Path | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="sentinel-target-")

    def close(self) -> None:
        """Give the target back."""
        if self._machine is not None:
            self._machine.close()
            self._machine = None

    def prepare(self, matrix: Matrix) -> Artifacts:
        """Lock and check the target, and send it the image. Raises `InfrastructureError`, `UsageError`."""
        self._image = images.build(cache=self._cache).entry
        machine = self._ready()
        disk = target_root.disk_needed(machine, self._image)
        budget = max((cell.budget_bytes or 0 for cell in matrix.cells), default=0)
        found = checks.examine(machine.facts, disk=disk, budget=budget)
        checks.ensure(machine.shell.place, found)
        for check in found:
            if check.state == "warn":
                warn(f"{machine.shell.place}: {check.name}: {check.detail}")
        threads = max(cell.resolved["threads"] for cell in matrix.cells)
        if threads > machine.facts.cpus:
            raise UsageError(f"`threads`: {machine.shell.place} has {machine.facts.cpus} CPUs")
        target_root.send_image(machine, self._image)
        with target_root.entered(machine, self._image) as (shell, _):
            target_memory.check_permissions(shell, two_nodes=machine.two_nodes)
        kernel = target_origin.kernel(machine, Path(self._folder.name))
        boot = Boot(
            machine=matrix.machine,
            kernel=kernel.bzimage,
            image=self._image.path / images.DISK,
            accelerator=HARDWARE,
            uses=(self._image,),
        )
        origin = {"host": target_origin.host(machine), "target": target_origin.target(machine)}
        return Artifacts(kernel, images.Image(boot.image, self._image), boot, origin)

    def calibrate(self, boot: Boot) -> Calibration | None:
        """Measure both nodes with the probe, unless that is cached; None without slow memory."""
        machine = self._ready()
        if not machine.two_nodes:
            return None
        with target_root.entered(machine, self._image_entry) as (shell, _):
            self._calibration = target_memory.calibrate(machine.facts, shell, cache=self._cache)
        note(target_memory.described(self._calibration))
        if not target_memory.is_slower(self._calibration):
            warn(f"{machine.shell.place}: node 1 is not slower than node 0: this measures no slow memory")
        return self._calibration

    def barrier_snapshot(self, boot: Boot, work: Work) -> Entry:
        """What stands for the process, which each repeat starts anew."""
        library = self._library(work)
        machine = self._ready()
        described = {
            "work": work.key(),
            "image": self._image_entry.key,
            "runtime": barrier_snapshot.runtime_digest(library),
            "machine": [machine.target.name, machine.facts.id, machine.facts.release, machine.facts.version],
        }
        key = files.sha256_json(described)
        self._works[key] = work
        created = datetime.datetime.now(datetime.UTC).isoformat()
        return Entry(_KIND, key, Path(), {"runtime": described["runtime"], "created": created})

    def profiles(self, waiting: Entry, preset: Preset, *, script: bool) -> Profiles:
        """Profile a step of each kind in fast and in slow memory, unless the profiles are cached.

        Without slow memory both are the same.
        """
        key = files.sha256_json({"format": profiles.FORMAT, "target": waiting.key})

        def record(fast: bool, folder: Path, steps: int) -> list[dict[str, Any]]:
            records: list[dict[str, Any]] = []
            policy = policies.get("fast-only" if fast else "slow-only")
            order = policy.order() | {"warmup": 1, "steps": steps, "profile": _PROFILES}
            with self._started(waiting) as (shell, watchdog):
                job.release(shell, watchdog, self._adapted(order), records.append, per_step=self._limits.step)
                shell.get(_PROFILES, folder)
            return records

        entry = self._cache.get(profiles.KIND, key)
        if entry is None:
            with step("Profiling a step"):
                entry = self._cache.build(
                    profiles.KIND, key, lambda folder: profiles.record_twice(record, folder, script=script)
                )
        return profiles.load(entry)

    def figures(self, preset: Preset, machine: Machine) -> Figures:
        """The preset's figures with what the probe measured in the place of its memory and cache."""
        facts = self._ready().facts
        figures = profiles.figures_of(preset, helpers=min(max(1, facts.cpus - 1), _MIGRATION_CORES))
        if self._calibration is None:
            return figures
        fast, slow = (
            Memory(values["read_latency"], values["read"], values["write"])
            for values in map(self._calibration.measured, (checks.FAST, checks.SLOW))
        )
        return dataclasses.replace(
            figures, nodes=(fast, slow), cache_bytes=facts.cache or figures.cache_bytes
        )

    def train(
        self,
        waiting: Entry,
        preset: Preset | None,
        order: dict[str, Any],
        *,
        inputs: Mapping[str, Path],
        callbacks: Callbacks,
    ) -> None:
        """Start the process, copy `inputs`, and train. Raises the verdict of a failed training."""
        with self._started(waiting) as (shell, watchdog):
            callbacks.on_start(watchdog.log)
            for place, source in inputs.items():
                shell.put(source, place)
            online = "online" in order
            try:
                job.release(
                    shell,
                    watchdog,
                    self._adapted(order),
                    callbacks.on_step,
                    per_step=self._limits.step * (_PLANNING_FACTOR if online else 1),
                    on_output=callbacks.on_output,
                )
            except ProcessError:
                if online:
                    callbacks.on_summary(job.read_summary(shell))
                raise
            if online:
                callbacks.on_summary(job.read_summary(shell))

    @contextlib.contextmanager
    def _started(self, waiting: Entry) -> Iterator[tuple[Shell, Watchdog]]:
        """Start a process, and yield when it waits at its barrier. It ends with the block."""
        work = self._works[waiting.key]
        machine = self._ready()
        library = self._library(work)
        since = machine.shell.run(_UPTIME).out.strip()
        with target_root.entered(machine, self._image_entry) as (shell, held):
            watchdog = self._watchdog(machine, held)
            try:
                job.prepare(shell, watchdog, work, within=self._limits.prepare, library=library)
                yield shell, watchdog
            except SentinelError as e:
                with contextlib.suppress(SentinelError):
                    _add_kernel_log(e, machine.shell, watchdog.log, since)
                raise

    def _ready(self) -> TargetMachine:
        """The target, locked. Connects again if the connection was lost."""
        if self._machine is None or not self._machine.locked:
            self.close()
            self._machine = TargetMachine.open(self._target)
            checks.ensure(self._machine.shell.place, checks.basic(self._machine.facts))
            self._machine.lock()
        return self._machine

    @property
    def _image_entry(self) -> Entry:
        assert self._image is not None  # noqa: S101 -- prepare() comes first
        return self._image

    def _library(self, work: Work) -> Path | None:
        if work.runtime and self._built is None:
            self._built = frameworks.DEFAULT.build_runtime(cache=self._cache)
        return self._built if work.runtime else None

    def _watchdog(self, machine: TargetMachine, held: Held) -> Watchdog:
        def end_reason() -> str | None:
            if held.running or not machine.shell.connected:
                return None
            return f"the processes on {machine.shell.place} were killed"

        folder = Path(tempfile.mkdtemp(dir=self._folder.name))
        return Watchdog(
            Console(folder / "console.log"),  # for the kernel's messages, after a failure
            self._limits,
            end_reason=end_reason,
            reachable=lambda: machine.shell.connected,
            place=machine.shell.place,
        )

    def _adapted(self, order: dict[str, Any]) -> dict[str, Any]:
        """The order for a machine that may have one node: then all memory is on it, and no budget holds."""
        if self._ready().two_nodes:
            return order
        adapted = {key: value for key, value in order.items() if key != "limit"}
        if adapted.get("memory", {}).get("nodes"):
            adapted["memory"] = {**adapted["memory"], "nodes": [checks.FAST]}
        return adapted


def _add_kernel_log(error: SentinelError, shell: Shell, log: Path, since: str) -> None:
    """Write what the target's kernel has said into `log`, and quote what explains the error."""
    log.write_text(shell.run(_KERNEL_LOG.format(since), check=False, timeout=60).out)
    console = Console(log)
    console.poll()
    finding = console.first("workload")
    if finding is not None and isinstance(error, WorkloadError):
        error.message += f"; the kernel: {finding.quote}"
