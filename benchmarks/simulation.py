# SPDX-License-Identifier: Apache-2.0
"""Compare simulated steps with emulated ones of the same model, size and preset.

    sentinel profile --host resnet -o host/resnet.json.gz
    PYTHONPATH=. python benchmarks/simulation.py runs/models resnet host/resnet.json.gz

RUN has measured cells of MODEL; PROFILE is its host profile, a file or a folder. For each measured cell it
prints the step by the model clock and the simulated one. From the timing model's counters of the fast-only
cell it prints the socket's computing time and the bytes read and written, beside the profile's. If RUN has
the profile of the emulated step (`RUN/profiles`, or --emulated), it compares the tensors by key.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

import numpy as np

from experiments import policies, profiles, simulation
from experiments.profiles import Profiles
from results.runs import Repeat, Run
from sentinel.planner.formats import files
from sentinel.planner.formats.figures import Figures
from sentinel.planner.formats.profile import SCRATCH, Profile
from sentinel.planner.memory import classify
from sentinel.planner.timing.cost import estimate_traffic
from testbed.timing import preset as presets

STEP_BEGIN, STEP_END = 3, 4  # markers in counters.jsonl


def counters(repeat: Repeat) -> dict[str, float]:
    """Computing ns, and bytes read and written, of the compute vCPU in the last step."""
    begin: dict[str, float] = {}
    step: dict[str, float] = {}
    for line in (repeat.path / "counters.jsonl").read_text().splitlines():
        record = json.loads(line)
        vcpu = record["vcpus"][0]
        now = {"compute_ns": vcpu["compute_ns"], "read": sum(vcpu["read"]), "written": sum(vcpu["written"])}
        if record["marker"] == STEP_BEGIN:
            begin = now
        elif record["marker"] == STEP_END and begin:
            step = {name: now[name] - begin[name] for name in now}
    return step


def show_step(steps: Profiles, figures: Figures, measured: dict[str, float]) -> None:
    """Print what the host profile says of the step, and what the emulator counted."""
    compute_ns = read = written = 0.0
    for profiled in steps.kinds.values():
        profile = profiled.profile
        assert profile.native is not None
        compute_ns += profile.step_ns * profile.native.scale
        r, w = estimate_traffic(profile, figures.cache_bytes)
        read, written = read + r.sum(), written + w.sum()
    simulated = {"compute_ns": compute_ns, "read": read, "written": written}
    for name, value in simulated.items():
        counted = measured[name]
        ratio = value / counted
        print(f"{name:11} simulated {value / 1e6:9.2f} M, emulated {counted / 1e6:9.2f} M: {ratio:.2f}")


def show_tensors(host: Profile, emulated: Profile) -> None:
    """Print how many tensors have the same key in both profiles, and both peaks."""
    keys = [{p.key(i) for i in range(len(p.tensors))} for p in (host, emulated)]
    common = keys[0] & keys[1]
    scratch = {emulated.key(int(i)) for i in np.flatnonzero(emulated.tensors.kind == SCRATCH)}
    others = keys[1] - common - scratch
    graph = "equal" if host.graph == emulated.graph else "DIFFERS"
    print(
        f"tensors     host {len(keys[0])}, emulated {len(keys[1])}, same key {len(common)}; "
        f"of the others {len(others)} are no scratch; graph {graph}"
    )
    peaks = [classify.peak(p) / 2**20 for p in (host, emulated)]
    print(f"peak        host {peaks[0]:.2f} MiB, emulated {peaks[1]:.2f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("model")
    parser.add_argument("profile", type=Path)
    parser.add_argument("--emulated", type=Path, help="folder with the profiles of the emulated step")
    options = parser.parse_args()
    run = Run.load(options.run)
    preset = str(run.info.resolved["preset"])
    figures = profiles.figures_of(presets.load(preset))
    steps = simulation.load(options.profile)
    cells = [c for c in run.cells if c.repeats and c.resolved["model"]["name"] == options.model]
    for cell in cells:
        if cell.resolved["placement"] == "fast-only":
            show_step(steps, figures, counters(cell.repeats[0]))
    folder = options.emulated or options.run / "profiles"
    for path in profiles.by_kind(folder).values():
        emulated = files.read_profile(path)
        for profiled in steps.kinds.values():
            if profiled.profile.graph == emulated.graph:
                show_tensors(profiled.profile, emulated)
    print("policy        budget   emulated ms  simulated ms  ratio  of fast-only: emulated  simulated")
    fast_ns = None
    for cell in cells:
        policy, share = policies.get(cell.resolved["placement"]), cell.resolved.get("fast_memory") or "100%"
        measured = [s.model_ns for r in cell.repeats for s in r.steps if not s.warmup and s.model_ns]
        result = simulation.run(options.model, steps, [policy], [share], figures)
        step_ns = result.predictions[0].step_ns
        if step_ns is None:
            print(f"{policy.name:13} {share:7} {result.predictions[0].problem}")
            continue
        measured_ns = statistics.median(measured)
        fast_ns = fast_ns or measured_ns
        print(
            f"{policy.name:13} {share:7} {measured_ns / 1e6:12.2f} {step_ns / 1e6:13.2f} "
            f"{step_ns / measured_ns:6.2f}  {measured_ns / fast_ns:22.2f} {step_ns / result.fast_ns:10.2f}"
        )


if __name__ == "__main__":
    main()
