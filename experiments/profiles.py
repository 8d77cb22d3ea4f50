# SPDX-License-Identifier: Apache-2.0
"""Profiles of models, and plans made of them: what cells with the `sentinel` placement start from.

A profile is of a model on a machine with a preset, and the same for every budget; it is measured once, in a
restored guest. How long a step takes with all tensors in fast memory is measured beside it: plans are made
by both. Plans are made here, in no time; in a training of one's own `python3 -m planner` makes them in the
guest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments import job
from sentinel.planner import check, search
from sentinel.planner.formats import files
from sentinel.planner.formats.figures import Figures, Memory
from sentinel.planner.formats.plan import Plan
from sentinel.planner.formats.profile import Profile
from sentinel.planner.memory import classify
from testbed import vm
from testbed.common import files as common
from testbed.common.cache import Cache, Entry
from testbed.common.errors import WorkloadError
from testbed.common.progress import step
from testbed.machine import Machine
from testbed.timing.preset import Preset
from testbed.vm import Saved, Vm, snapshot

KIND = "profile"
FORMAT = 3
PROFILED = 2  # steps: one for its times, one for all the rest
_IN_GUEST = "/run/sentinel/profile.json.gz"


@dataclass(frozen=True)
class Profiled:
    """A model's profile, and the ns of a step in fast memory by the same clock."""

    path: Path
    profile: Profile
    fast_step_ns: float

    @property
    def peak(self) -> int:
        """Bytes that its tensors take at most at once, variables included."""
        return classify.peak(self.profile)

    def plan(self, budget: int, figures: Figures, *, published: bool = False) -> Plan:
        """The plan for that many bytes of fast memory, maybe by the published rule alone. Raises the
        planner's errors.

        Short-lived tensors spill if that is better: these models are small beside the scratch of their
        convolutions, and would not fit into a fifth of their peak otherwise.
        """
        made = search.make(
            self.profile,
            budget,
            figures,
            fast_step_ns=self.fast_step_ns,
            spill=True,
            policy="sentinel" if published else "sentinel-opt",
            source=files.digest(self.path),
        )
        return check.assured(self.profile, made)


def figures_of(preset: Preset, *, helpers: int = 1) -> Figures:
    """What the planner wants to know of a preset, and of a machine with so many CPUs for helpers (1 or 2)."""
    fast, slow = (Memory(n.read_latency, n.read_bandwidth, n.write_bandwidth) for n in preset.nodes)
    return Figures(
        nodes=(fast, slow),
        line=preset.cache.line,
        cache=preset.cache.size,
        page=preset.page,
        compute=preset.compute.parallelism,
        helper=preset.helper.parallelism,
        helpers=helpers,
    )


def helpers_of(machine: Machine) -> int:
    """How many CPUs of the machine migrate: those beside the one that computes, one for each direction."""
    return max(1, min(2, machine.vcpus - 1))


def of(waiting: Entry, preset: Preset, *, name: str, cache: Cache, uri: str | None = None) -> Profiled:
    """The profile of the model that waits in that snapshot with the runtime; measured if it is not cached."""
    key = common.sha256_json(
        {"format": FORMAT, "snapshot": waiting.key, "preset": preset.model_dump(mode="json")}
    )
    saved = snapshot.load(waiting, cache=cache).costing(preset)

    def fill(folder: Path) -> dict[str, Any]:
        fast = _train(saved, {"placement": "fast-only", "warmup": 1, "steps": 1}, name=name, uri=uri)
        order = {"placement": "slow-only", "warmup": 1, "steps": PROFILED, "profile": _IN_GUEST}
        _train(
            saved,
            order,
            name=name,
            uri=uri,
            then=lambda shell: shell.get(_IN_GUEST, folder / "profile.json.gz"),
        )
        return {"fast_step_ns": fast[-1]["model_ns"]}

    entry = cache.get(KIND, key)
    if entry is None:
        with step("Profiling a step"):
            entry = cache.build(KIND, key, fill)
    path = entry.path / "profile.json.gz"
    return Profiled(path, files.read_profile(path), float(entry.manifest["fast_step_ns"]))


def _train(
    saved: Saved,
    order: dict[str, Any],
    *,
    name: str,
    uri: str | None,
    then: Callable[[Any], None] = lambda _: None,
) -> list[dict[str, Any]]:
    """The records of a training from the snapshot; `then` gets the shell when it is over."""
    records: list[dict[str, Any]] = []
    machine: Vm
    with vm.running(name, saved, uri=uri) as machine, machine.shell() as shell:
        job.release(shell, machine.watchdog(), order, records.append, per_step=machine.limits.step)
        then(shell)
    if any(record["model_ns"] is None for record in records):
        raise WorkloadError("the model's clock was not there: a plan cannot be made without")
    return records
