# SPDX-License-Identifier: Apache-2.0
"""Show what each part of `sentinel-opt` adds, alone and together with all others, by replay.

    PYTHONPATH=. python benchmarks/ablation.py traces/resnet56.npz --fast-memory 0.2

The parts: four migration cores instead of one; frames instead of `move_pages`; copies that begin after the
last write (eager) instead of the last use; exact costs of a trace instead of those of one profiled step; the
bound's linear program instead of prices as the begin of a schedule; replays that choose among the best plans
instead of predictions. Eager copies and the program need frames. Prints the step, and its share of the speed
in fast memory alone.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, fields, replace
from pathlib import Path

from experiments.profiles import Profiled, figures_of
from experiments.replays import Replays, Row
from sentinel.planner import frames
from sentinel.planner.policy import FRAMES
from sentinel.replay import trace as traces
from sentinel.replay.trace import PAGE, Trace
from testbed.timing import preset
from testbed.timing.preset import Preset

CORES = 4
LINE = "{:44} {:>9} {:>8} {:>9} {:>9}"


@dataclass(frozen=True)
class Parts:
    """Which parts a planner and its machine have."""

    cores: bool = False
    frames: bool = False
    eager: bool = False
    costs: bool = False
    program: bool = False
    replays: bool = False


NONE, ALL = Parts(), Parts(*[True] * len(fields(Parts)))
NAMES = [field.name for field in fields(Parts)]
NEED_FRAMES = ("eager", "program")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("trace", type=Path)
    parser.add_argument("--preset", default="optane-6dimm")
    parser.add_argument("--fast-memory", type=float, default=0.2, help="share of the peak")
    options = parser.parse_args()
    trace, memory = traces.read(options.trace), preset.load(options.preset)
    players = {cores: Player(trace, options.trace, memory, cores) for cores in (1, CORES)}
    budget = int(options.fast_memory * players[1].replays.peak)
    print(LINE.format("planner", "step ms", "of fast", "copied MB", "remaps"), flush=True)
    for name, parts in variants():
        player = players[CORES if parts.cores else 1]
        show(name, player, player.run(parts, budget))
    show("the paper's rule, one core", players[1], players[1].paper(budget))


def variants() -> list[tuple[str, Parts]]:
    """Return no part, each one alone (with frames if it needs them), all, and all without each one."""
    alone = [
        (f"{name} alone", Parts(**{name: True, "frames": name == "frames" or name in NEED_FRAMES}))
        for name in NAMES
    ]
    without = [
        (f"all without {name}", replace(ALL, **dict.fromkeys([name, *needing(name)], False)))
        for name in NAMES
    ]
    return [("none", NONE), *alone, ("all", ALL), *without]


def needing(name: str) -> tuple[str, ...]:
    return NEED_FRAMES if name == "frames" else ()


def show(name: str, player: Player, row: Row) -> None:
    replayed = row.replayed
    copied = PAGE * (replayed.pages["copied"] or replayed.pages["promoted"] + replayed.pages["demoted"])
    of_fast = player.replays.fast.step_ns / replayed.step_ns
    print(
        LINE.format(
            name, f"{replayed.step_ns / 1e6:.3f}", f"{of_fast:.3f}", f"{copied / 1e6:.1f}", replayed.remaps
        ),
        flush=True,
    )


class Player:
    """Plans and replays on a machine with a number of migration cores."""

    def __init__(self, trace: Trace, path: Path, memory: Preset, cores: int) -> None:
        self.replays = Replays(trace, path, memory, migration_cores=cores)
        self.figures, self._path = figures_of(memory, helpers=cores), path

    def run(self, parts: Parts, budget: int) -> Row:
        """Replay the plan of a planner with these parts."""
        profiled = self._profiled(exact=parts.costs)
        judge = self.replays.step_ns if parts.replays else None
        plan = static = profiled.plan(budget, self.figures, judge=judge)
        if parts.frames:
            plan = frames.make_plan(
                profiled.profile,
                budget,
                self.figures,
                fast_step_ns=profiled.fast_step_ns,
                relaxed=profiled.bound(budget, self.figures, FRAMES).relaxed if parts.program else None,
                others=[] if static.moves else [static],
                judge=judge,
                eager=parts.eager,
            )
        return self.replays.run_plan("", plan)

    def paper(self, budget: int) -> Row:
        """Replay the plan of the paper's rule."""
        plan = self._profiled(exact=False).plan(budget, self.figures, policy="sentinel")
        return self.replays.run_plan("", plan)

    def _profiled(self, *, exact: bool) -> Profiled:
        profile = self.replays.costs.profile
        if not exact:
            profile = replace(
                profile,
                ops=replace(profile.ops, fast_ns=None),
                uses=replace(profile.uses, saved_ns=None),
            )
        return Profiled(self._path, profile, self.replays.fast.step_ns)


if __name__ == "__main__":
    main()
