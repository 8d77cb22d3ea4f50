# SPDX-License-Identifier: Apache-2.0
"""Profiles of models, recorded in a guest and cached, and the plans made from them.

A profile belongs to a model, a machine and a preset, and serves every budget. The duration of a step in fast
memory is measured with it, since plans depend on both. Plans are made on the host.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments import job, policies
from sentinel.planner.formats import files
from sentinel.planner.formats.figures import Figures, Memory
from sentinel.planner.formats.plan import Plan
from sentinel.planner.formats.profile import Profile
from sentinel.planner.memory import classify
from sentinel.planner.policy import Policy
from sentinel.planner.search import make_plan
from testbed import vm
from testbed.common import files as common
from testbed.common.cache import Cache, Entry
from testbed.common.errors import WorkloadError
from testbed.common.progress import step
from testbed.machine import Machine
from testbed.timing.preset import Preset
from testbed.vm import SavedVm, Vm, snapshot

KIND = "profile"
FORMAT = 4
PROFILED_STEPS = 2  # one for times, one for everything else
_IN_GUEST = "/run/sentinel/profile.json.gz"


@dataclass(frozen=True)
class Profiled:
    """A model's profile, and the duration of a step in fast memory by the same clock."""

    path: Path
    profile: Profile
    fast_step_ns: float

    @property
    def peak(self) -> int:
        """The most bytes of tensors that live at one time, variables included."""
        return classify.peak(self.profile)

    def plan(self, budget: int, figures: Figures, *, policy: Policy = "sentinel-opt") -> Plan:
        """Return the plan for a budget in bytes. Raises the planner's errors.

        Short-lived tensors may spill: the models here are small beside the scratch of their convolutions, so
        a fifth of their peak would be below the floor otherwise.
        """
        return make_plan(
            self.profile,
            budget,
            figures,
            fast_step_ns=self.fast_step_ns,
            spill=True,
            policy=policy,
            source=files.digest(self.path),
        )


def figures_of(preset: Preset, *, helpers: int = 1) -> Figures:
    """The planner's figures of a preset, and of a machine with `helpers` CPUs for migration (1 or 2)."""
    fast, slow = (Memory(n.read_latency, n.read_bandwidth, n.write_bandwidth) for n in preset.nodes)
    return Figures(
        nodes=(fast, slow),
        line_bytes=preset.cache.line,
        cache_bytes=preset.cache.size,
        page_move_ns=preset.page,
        compute_mlp=preset.compute.parallelism,
        migration_mlp=preset.helper.parallelism,
        migration_threads=helpers,
    )


def helpers_of(machine: Machine) -> int:
    """The machine's CPUs for migration threads: all but the compute vCPU, at most one per direction."""
    return max(1, min(2, machine.vcpus - 1))


def ensure_profile(
    waiting: Entry, preset: Preset, *, name: str, cache: Cache, uri: str | None = None
) -> Profiled:
    """Return the profile of the model in a barrier snapshot; record it if it is not cached.

    The snapshot's process must have the runtime.
    """
    key = common.sha256_json(
        {"format": FORMAT, "snapshot": waiting.key, "preset": preset.model_dump(mode="json")}
    )
    saved = snapshot.load(waiting, cache=cache).with_preset(preset)

    def fill(folder: Path) -> dict[str, Any]:
        fast = {**policies.get("fast-only").order(), "warmup": 1, "steps": 1}
        fast_steps = _train(saved, fast, name=name, uri=uri)
        slow = {
            **policies.get("slow-only").order(),
            "warmup": 1,
            "steps": PROFILED_STEPS,
            "profile": _IN_GUEST,
        }
        _train(
            saved,
            slow,
            name=name,
            uri=uri,
            then=lambda shell: shell.get(_IN_GUEST, folder / "profile.json.gz"),
        )
        return {"fast_step_ns": fast_steps[-1]["model_ns"]}

    entry = cache.get(KIND, key)
    if entry is None:
        with step("Profiling a step"):
            entry = cache.build(KIND, key, fill)
    path = entry.path / "profile.json.gz"
    return Profiled(path, files.read_profile(path), float(entry.manifest["fast_step_ns"]))


def _train(
    saved: SavedVm,
    order: dict[str, Any],
    *,
    name: str,
    uri: str | None,
    then: Callable[[Any], None] = lambda _: None,
) -> list[dict[str, Any]]:
    """Train from a snapshot and return the records; call `then` with the shell before the machine ends."""
    records: list[dict[str, Any]] = []
    machine: Vm
    with vm.running(name, saved, uri=uri) as machine, machine.shell() as shell:
        job.release(shell, machine.watchdog(), order, records.append, per_step=machine.limits.step)
        then(shell)
    if any(record["model_ns"] is None for record in records):
        raise WorkloadError("the model clock is missing: a plan needs it")
    return records
