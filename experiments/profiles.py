# SPDX-License-Identifier: Apache-2.0
"""Profiles of training processes, recorded in a guest and cached, and the plans made from them.

Each kind of step has its own profile and its own plans. A profile belongs to a model or script, a machine and
a preset, and serves every budget. It is recorded twice, the first time on a machine whose node 1 is as fast
as node 0: what each operation takes longer in slow memory is the most that plans can save. Plans are made on
the host.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments import job, policies
from sentinel.bound import BOUND_SECONDS, Bound, lower_bound
from sentinel.planner.fast_times import with_fast_times
from sentinel.planner.formats import figures as figures_format
from sentinel.planner.formats import files
from sentinel.planner.formats.figures import Figures, Memory
from sentinel.planner.formats.plan import Plan
from sentinel.planner.formats.profile import Profile
from sentinel.planner.memory import classify
from sentinel.planner.policy import FRAMES, MOVE_PAGES, Judge, Mechanism, Policy
from sentinel.planner.search import make_plan
from testbed import vm
from testbed.common import files as common
from testbed.common.cache import Cache
from testbed.common.cache_entry import Entry
from testbed.common.errors import WorkloadError
from testbed.common.progress import step
from testbed.guestlink.shell import Shell
from testbed.machine import Machine
from testbed.timing.preset import Preset
from testbed.vm import SavedVm, Vm, snapshot

KIND = "profile"
FORMAT = 6
PROFILED_STEPS = 2  # of each kind: one for times, one for everything else
SCRIPT_STEPS = 2 * PROFILED_STEPS  # in which each kind of a script is expected twice
SUFFIX = ".json.gz"  # of profiles and plans in a folder, behind the kind
_IN_GUEST = "/run/sentinel/profiles"


@dataclass(frozen=True)
class Profiled:
    """The profile of a kind of step, and the duration of such a step in fast memory by the same clock.

    The duration is None if the kind did not run in fast memory.
    """

    path: Path
    profile: Profile
    fast_step_ns: float | None

    @property
    def peak(self) -> int:
        """The most bytes of tensors that live at one time, variables included."""
        return classify.peak(self.profile)

    def plan(
        self,
        budget: int,
        figures: Figures,
        *,
        policy: Policy = "sentinel-opt",
        resident: frozenset[str] | None = None,
        judge: Judge | None = None,
        mechanism: Mechanism = MOVE_PAGES,
    ) -> Plan:
        """Return the plan for a budget in bytes; see `search.make_plan`. Raises the planner's errors.

        Short-lived tensors may spill: the models here are small beside the scratch of their convolutions, so
        a fifth of their peak would be below the floor otherwise. With frames, the schedule begins with the
        solution of the linear program of the bound.
        """
        return make_plan(
            self.profile,
            budget,
            figures,
            fast_step_ns=self.fast_step_ns,
            spill=True,
            policy=policy,
            resident=resident,
            judge=judge,
            source=files.digest(self.path),
            mechanism=mechanism,
            relaxed=self.bound(budget, figures, mechanism).relaxed if mechanism == FRAMES else None,
        )

    def bound(self, budget: int, figures: Figures, mechanism: Mechanism = MOVE_PAGES) -> Bound:
        """Return how short the step can be at best with a budget in bytes."""
        return lower_bound(
            self.profile,
            budget,
            figures,
            self.fast_step_ns,
            mechanism=mechanism,
            time_limit_s=BOUND_SECONDS,
        )


@dataclass(frozen=True)
class Profiles:
    """The profiles of all kinds of steps of a training process, by kind."""

    kinds: Mapping[str, Profiled]

    @property
    def peak(self) -> int:
        """The largest peak of all kinds, in bytes; shares of the budget refer to it."""
        return max(profiled.peak for profiled in self.kinds.values())


def figures_of(preset: Preset, *, helpers: int = 1) -> Figures:
    """The planner's figures of a preset, and of a machine with `helpers` CPUs for migration."""
    fast, slow = (Memory(n.read_latency, n.read_bandwidth, n.write_bandwidth) for n in preset.nodes)
    return Figures(
        nodes=(fast, slow),
        line_bytes=preset.cache.line,
        cache_bytes=preset.cache.size,
        page_move_ns=preset.page,
        compute_mlp=preset.compute.parallelism,
        migration_mlp=preset.helper.parallelism,
        migration_cores=helpers,
        remap_ns=preset.remap,
        remap_page_ns=preset.remap_page,
        shootdown_ns=preset.shootdown,
        cores=preset.cores,
    )


def machine_figures(preset: Preset, machine: Machine) -> Figures:
    """The planner's figures of a preset, and of a virtual machine."""
    return figures_of(preset, helpers=helpers_of(machine))


def write_figures(path: Path, figures: Figures) -> None:
    """Write a machine's figures to a file, for the planner in the guest."""
    common.write_json(path, figures_format.encode(figures))


def helpers_of(machine: Machine) -> int:
    """The machine's migration cores: all CPUs but the compute vCPU, at least one."""
    return max(1, machine.vcpus - 1)


def ensure_profiles(
    waiting: Entry, preset: Preset, *, script: bool, name: str, cache: Cache, uri: str | None = None
) -> Profiles:
    """Return the profiles of the process in a barrier snapshot; record them if they are not cached.

    The snapshot's process must have the runtime. `script` tells whether it runs a script, whose steps may be
    of several kinds in turn; each step of a model runs all its kinds.
    """
    key = common.sha256_json(
        {"format": FORMAT, "snapshot": waiting.key, "preset": preset.model_dump(mode="json")}
    )
    saved = snapshot.load(waiting, cache=cache)

    def record(preset: Preset, folder: Path, steps: int) -> list[dict[str, Any]]:
        order = policies.get("slow-only").order() | {"warmup": 1, "steps": steps, "profile": _IN_GUEST}
        machine = saved.with_preset(preset)
        return train(machine, order, name=name, uri=uri, then=lambda _, shell: shell.get(_IN_GUEST, folder))

    def fill(folder: Path) -> dict[str, Any]:
        return record_twice(
            lambda fast, folder, steps: record(preset.all_fast() if fast else preset, folder, steps),
            folder,
            script=script,
        )

    entry = cache.get(KIND, key)
    if entry is None:
        with step("Profiling a step"):
            entry = cache.build(KIND, key, fill)
    return load(entry)


def record_twice(
    record: Callable[[bool, Path, int], list[dict[str, Any]]], folder: Path, *, script: bool
) -> dict[str, Any]:
    """Fill a cache entry: record the profiles in fast memory, then in slow memory, and put them together.

    `record` trains in fast memory or not, writes the profiles into a folder, and returns the records of so
    many measured steps. Returns the entry's part of its manifest.
    """
    profiles = folder / "profiles"
    with tempfile.TemporaryDirectory() as scratch:
        steps = SCRIPT_STEPS if script else PROFILED_STEPS
        records = record(True, Path(scratch) / "fast", steps + 1)
        fast = _read(Path(scratch) / "fast")
    record(False, profiles, _steps_to_profile(records) if script else PROFILED_STEPS)
    for kind, profile in _read(profiles).items():
        if kind in fast:
            files.write_profile(profiles / f"{kind}{SUFFIX}", with_fast_times(profile, fast[kind]))
    return {"fast_step_ns": _durations(records, fast)}


def load(entry: Entry) -> Profiles:
    """Return the profiles in a cache entry."""
    durations = entry.manifest["fast_step_ns"]
    return Profiles(
        {
            kind: Profiled(path, files.read_profile(path), durations.get(kind))
            for kind, path in by_kind(entry.path / "profiles").items()
        }
    )


def _steps_to_profile(records: list[dict[str, Any]]) -> int:
    """The number of steps in which each recorded kind runs often enough for a profile, if it does."""
    measured = [record.get("kind") for record in records if not record["warmup"]]
    for steps in range(PROFILED_STEPS, len(measured)):
        if all(measured[:steps].count(kind) >= PROFILED_STEPS for kind in measured):
            return steps
    return max(PROFILED_STEPS, len(measured))


def by_kind(folder: Path) -> dict[str, Path]:
    """The profiles or plans in a folder, by kind of step."""
    return {path.name.removesuffix(SUFFIX): path for path in sorted(folder.glob(f"*{SUFFIX}"))}


def _read(folder: Path) -> dict[str, Profile]:
    """The profiles that a guest wrote into a folder. Raises `WorkloadError` if there are none."""
    recorded = {kind: files.read_profile(path) for kind, path in by_kind(folder).items()}
    if not recorded:
        raise WorkloadError("the training process wrote no profile")
    return recorded


def _durations(records: list[dict[str, Any]], profiled: Mapping[str, Profile]) -> dict[str, float]:
    """The ns of a step of each kind without the recording, which takes a few percent.

    It is the last step of the kind after its profile, or else the profile's. The iteration of a model with
    several kinds is one record; its time is divided as in the profiles.
    """
    measured = [record for record in records if not record["warmup"]]
    counts: Counter[str | None] = Counter()
    after: dict[str | None, float] = {}
    for record in measured:
        kind = record.get("kind")
        counts[kind] += 1
        if counts[kind] > PROFILED_STEPS:
            after[kind] = _ns(record)
    if profiled.keys() <= counts.keys():
        return {kind: after.get(kind, float(profile.step_ns)) for kind, profile in profiled.items()}
    iteration_ns = _ns(measured[-1])
    total_ns = sum(profile.step_ns for profile in profiled.values())
    return {kind: iteration_ns * profile.step_ns / total_ns for kind, profile in profiled.items()}


def _ns(record: Mapping[str, Any]) -> float:
    """The duration of a step by the model clock, or by the machine's own clock if it has no other."""
    return float(record["guest_ns"] if record["model_ns"] is None else record["model_ns"])


def train(
    saved: SavedVm,
    order: dict[str, Any],
    *,
    name: str,
    uri: str | None,
    then: Callable[[Vm, Shell], None],
) -> list[dict[str, Any]]:
    """Train from a snapshot and return the records; call `then` before the machine ends.

    `saved` waits at the barrier. Raises `WorkloadError` if there is no step or no model clock.
    """
    records: list[dict[str, Any]] = []
    machine: Vm
    with vm.running(name, saved, uri=uri) as machine, machine.shell() as shell:
        job.release(shell, machine.watchdog(), order, records.append, per_step=machine.limits.step)
        then(machine, shell)
    if not records:
        raise WorkloadError("the training had no step: a plan needs one")
    if any(record["model_ns"] is None for record in records):
        raise WorkloadError("the model clock is missing: a plan needs it")
    return records
