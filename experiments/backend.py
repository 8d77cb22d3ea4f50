# SPDX-License-Identifier: Apache-2.0
"""Where repeats run: the machines behind a session."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from experiments import access_traces, barrier_snapshot, boot, job, profiles
from experiments.boot import Artifacts
from experiments.job import ProcessError, Work
from experiments.matrix import Matrix
from experiments.profiles import Profiles
from sentinel.planner.formats.figures import Figures
from testbed import vm
from testbed.common.cache import Cache
from testbed.common.cache_entry import Entry
from testbed.machine import Machine
from testbed.timing import calibration, counters, measurement
from testbed.timing.calibration import Calibration
from testbed.timing.preset import Preset
from testbed.vm import Boot, snapshot

_PLANNING_FACTOR = 5  # of the limit of a step, if the planner runs in it


@dataclass(frozen=True)
class Callbacks:
    """What a training calls as it goes on.

    `on_start` gets the path of the console's log, `on_step` the record of each step, `on_output` the output
    of the process as it comes, and `on_summary` the summary of a process that planned by itself.
    """

    on_start: Callable[[Path], None]
    on_step: Callable[[dict[str, Any]], None]
    on_output: Callable[[bytes], None] | None = None
    on_summary: Callable[[dict[str, Any]], None] = lambda _: None


class Backend(Protocol):
    """Prepares machines and trains on them."""

    def prepare(self, matrix: Matrix) -> Artifacts:
        """Build what the matrix needs. Raises `BuildError`."""

    def calibrate(self, boot: Boot) -> Calibration | None:
        """Measure the machine's memory; None if both nodes are equally fast by construction."""

    def barrier_snapshot(self, boot: Boot, work: Work) -> Entry:
        """A snapshot in which the process for `work` waits; see `ensure_barrier_snapshot`."""

    def profiles(self, waiting: Entry, preset: Preset, *, script: bool) -> Profiles:
        """The profiles of the process that waits in the snapshot; see `ensure_profiles`."""

    def figures(self, preset: Preset, machine: Machine) -> Figures:
        """The figures of the memory, for the planner."""

    def train(
        self,
        waiting: Entry,
        preset: Preset | None,
        order: dict[str, Any],
        *,
        inputs: Mapping[str, Path],
        callbacks: Callbacks,
    ) -> None:
        """Restore the snapshot, copy `inputs` (files and folders by their path in the guest), and train.

        Raises the verdict of a failed training.
        """


class VirtualMachines:
    """The backend on this host. `location` is the source of the kernel, `uri` the connection to libvirt."""

    def __init__(self, *, location: str | None = None, uri: str | None = None, cache: Cache | None = None):
        self._location, self._uri = location, uri
        self._cache = cache or Cache()
        self._name = f"run-{os.getpid()}"

    def prepare(self, matrix: Matrix) -> Artifacts:
        """Build the kernel and the image."""
        return boot.prepare(
            matrix.machine,
            preset=matrix.preset,
            kernel=matrix.suite.kernel,
            location=self._location,
            cache=self._cache,
        )

    def calibrate(self, boot: Boot) -> Calibration | None:
        """Run the probe in a machine, unless it is cached."""
        if boot.preset is None and boot.remote is None:
            return None
        measured = measurement.calibrate(boot, cache=self._cache, uri=self._uri)
        calibration.report(measured)
        return measured

    def barrier_snapshot(self, boot: Boot, work: Work) -> Entry:
        """Boot a machine up to the barrier, unless its snapshot is cached."""
        return barrier_snapshot.ensure_barrier_snapshot(
            boot, work, name=self._name, cache=self._cache, uri=self._uri
        )

    def profiles(self, waiting: Entry, preset: Preset, *, script: bool) -> Profiles:
        """Profile a step of each kind, unless the profiles are cached."""
        return profiles.ensure_profiles(
            waiting, preset, script=script, name=self._name, cache=self._cache, uri=self._uri
        )

    def figures(self, preset: Preset, machine: Machine) -> Figures:
        """The figures that the timing model has."""
        return profiles.machine_figures(preset, machine)

    def access_trace(self, waiting: Entry, preset: Preset, *, work: str) -> Path:
        """Trace a step of the process that waits in the snapshot, unless the trace is cached."""
        return access_traces.ensure_trace(
            waiting, preset, work=work, name=self._name, cache=self._cache, uri=self._uri
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
        """Train in a restored machine, which ends with the training."""
        saved = snapshot.load(waiting, cache=self._cache).with_preset(preset)
        with vm.running(self._name, saved, uri=self._uri) as machine:
            callbacks.on_start(machine.console_path)
            # A process that plans by itself waits for its planner within a step.
            per_step = machine.limits.step * (_PLANNING_FACTOR if "online" in order else 1)
            with machine.shell() as shell:
                for target, source in inputs.items():
                    shell.put(source, target)
                try:
                    job.release(
                        shell,
                        machine.watchdog(),
                        order,
                        callbacks.on_step,
                        per_step=per_step,
                        on_output=callbacks.on_output,
                    )
                except ProcessError:
                    if "online" in order:
                        callbacks.on_summary(job.read_summary(shell))
                    raise
                if "online" in order:
                    callbacks.on_summary(job.read_summary(shell))
            if preset is not None:
                counters.check(machine.counters_path)
