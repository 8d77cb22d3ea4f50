# SPDX-License-Identifier: Apache-2.0
"""A backend that replays recorded steps instead of training: `mode: replay` in suites.

A model's step is recorded once, in a machine; each repeat replays it, which takes seconds. Records are those
of a run; there are no losses, and no times but the model clock's.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments import policies, profiles
from experiments.backend import Callbacks, VirtualMachines
from experiments.boot import Artifacts
from experiments.job import Work
from experiments.matrix import Matrix
from experiments.planning import NoPlanError
from experiments.profiles import SUFFIX, Profiled, Profiles
from experiments.replays import Replays, Row
from sentinel.planner.formats import files as planner
from sentinel.planner.formats.figures import Figures
from sentinel.replay import costs
from sentinel.replay import trace as traces
from testbed.common.cache_entry import Entry
from testbed.common.errors import UsageError
from testbed.machine import Machine
from testbed.timing.calibration import Calibration
from testbed.timing.preset import Preset
from testbed.vm import Boot


@dataclass(frozen=True)
class _Recorded:
    """A recorded step: what replays it, and its profiles with the replayed times."""

    player: Replays
    profiles: Profiles


class Replayer:
    """The backend. `machines` records steps, and calibrates the model."""

    def __init__(self, machines: VirtualMachines) -> None:
        self._machines = machines
        self._works: dict[str, Work] = {}
        self._recorded: dict[str, _Recorded] = {}
        self._cores = 1
        self._folder = tempfile.TemporaryDirectory(prefix="sentinel-replay-")

    def prepare(self, matrix: Matrix) -> Artifacts:
        """Build what is needed to record."""
        self._cores = profiles.helpers_of(matrix.machine)
        return self._machines.prepare(matrix)

    def calibrate(self, boot: Boot) -> Calibration | None:
        """Calibrate the model in a machine, unless that is cached."""
        return self._machines.calibrate(boot)

    def barrier_snapshot(self, boot: Boot, work: Work) -> Entry:
        """The snapshot from which the step is recorded."""
        waiting = self._machines.barrier_snapshot(boot, work)
        self._works[waiting.key] = work
        return waiting

    def profiles(self, waiting: Entry, preset: Preset, *, script: bool) -> Profiles:
        """The profiles of the recorded step, with its replayed times. Raises `UsageError`."""
        return self._step(waiting, preset).profiles

    def figures(self, preset: Preset, machine: Machine) -> Figures:
        """The figures that the replay has."""
        return self._machines.figures(preset, machine)

    def train(
        self,
        waiting: Entry,
        preset: Preset | None,
        order: dict[str, Any],
        *,
        inputs: Mapping[str, Path],
        callbacks: Callbacks,
    ) -> None:
        """Replay the step under the order, once: another one would be the same.

        Raises `NoPlanError` for a plan that cannot be replayed.
        """
        assert preset is not None  # noqa: S101 -- suites with this mode have a preset
        player = self._step(waiting, preset).player
        for step in _records(_replay(player, order, inputs)):
            callbacks.on_step(step)

    def _step(self, waiting: Entry, preset: Preset) -> _Recorded:
        """Record the step if it is not cached, and measure its costs."""
        if waiting.key not in self._recorded:
            work = self._works[waiting.key]
            path = self._machines.access_trace(waiting, preset, work=work.name)
            player = Replays(traces.read(path), path, preset, migration_cores=self._cores, seed=work.seed)
            self._recorded[waiting.key] = _Recorded(player, self._profiles(waiting, player))
        return self._recorded[waiting.key]

    def _profiles(self, waiting: Entry, player: Replays) -> Profiles:
        folder = Path(self._folder.name) / waiting.key
        folder.mkdir()
        kinds = {}
        for name, kind in player.trace.kinds.items():
            measured = costs.measure(player.trace, kind, player.preset, player.fast)
            path = folder / f"{name}{SUFFIX}"
            planner.write_profile(path, measured.profile)
            kinds[name] = Profiled(path, measured.profile, measured.fast.step_ns)
        return Profiles(kinds)


def _replay(player: Replays, order: Mapping[str, Any], inputs: Mapping[str, Path]) -> Row:
    """Replay what an order to a training process says (sentinel/guest/job.py)."""
    if "plan" in order:
        try:
            (path,) = profiles.by_kind(inputs[order["plan"]]).values()
            return player.run_plan("", planner.read_plan(path))
        except (UsageError, ValueError) as e:
            raise NoPlanError(f"cannot be replayed: {e}") from None
    if "replay" in order:
        return player.run(policies.get(order["replay"]), order["fast_memory"])
    if "limit" in order:
        budget = order["fast_memory"]
        return Row("", budget, player.run_limit(order["limit"], budget))
    memory = order.get("memory", {})
    replayed = player.run_memory(memory.get("policy", "default"), tuple(memory.get("nodes", ())))
    return Row("", None, replayed)


def _records(row: Row) -> list[dict[str, Any]]:
    """The records of a warm-up step and of the measured one."""
    ns = max(1, round(row.replayed.step_ns))
    return [
        {
            "step": number,
            "kind": None,
            "warmup": number == 0,
            "guest_ns": ns,
            "model_ns": ns,
            "loss": None,
            "runtime": {"planned": row.plan is not None, **runtime},
        }
        for number, runtime in enumerate(row.statistics())
    ]
