# SPDX-License-Identifier: Apache-2.0
"""Replays of windows: small steps whose times follow from the prices and the copies."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.replays import Replays
from sentinel.planner.formats.plan import Move as PlannedMove
from sentinel.replay import engine, trace
from sentinel.replay.engine import BEGIN, BORN, DIED, HOME, REACH, WINDOW, Group, Move, Replayed, Scenario
from sentinel.replay.planned import planned
from sentinel.replay.trace import LINES, Trace
from testbed.timing import preset
from tests.fakes.access_traces import EVENT, PAGES, READ, TIME, WRITE, Recording
from tests.fakes.frames import with_frames
from tests.unit.test_replay import moving_variable, plan

# Hardly fewer cores while some migrate, a cache that keeps nothing, and round prices
OPTANE = preset.load("optane-6dimm").model_copy(
    update={"cores": 1024, "cache": preset.Cache(size="1 KiB"), "remap": 3000.0, "remap_page": 20.0}
)
DEMOTED, PROMOTED = 64 * 100 / 10, 64 * 305 / 10  # ns to copy a page: a core has 10 reads in flight
CHUNK = 16  # pages
END = 2**62
US = 1000.0


def remap(pages: int) -> float:
    return 3000.0 + 20 * pages


class Step:
    """A step over windows of `pages` pages each, group g at page g * pages; frames follow the windows."""

    def __init__(self, *groups: int | None, pages: int = CHUNK, frames: int = 4, cores: int = 1) -> None:
        """Each group is born in this range of frames, by number, or at home (None)."""
        self.pages, self.cores = pages, cores
        self._n, self._frames = len(groups), frames * pages
        self.groups = [
            Group(g * pages, pages, int(frame is None), 0, True, self.frame(frame))
            for g, frame in enumerate(groups)
        ]
        self.moves: list[Move] = []
        self._words: list[int] = []
        self._actions: list[tuple[int, int, int, int, int]] = []
        self._events = 0

    def frame(self, number: int | None) -> int:
        return HOME if number is None else (self._n + number) * self.pages

    def move(
        self,
        group: int,
        to: int | None,
        at: int,
        before: int,
        *,
        map_at: int | None = None,
        copy: bool = True,
    ) -> None:
        """`to` is a range of frames, or None for home."""
        map_at = at if map_at is None else map_at
        self.moves.append(Move(at, before, int(to is None), group, map_at, self.frame(to), copy))

    def op(self, position: int, watermark: int, *, uses: bool = True) -> None:
        """Begin an operation. By `watermark`, earlier ones have ended."""
        self._event((BEGIN, watermark, int(uses), 0), (REACH, position, 0, 0))

    def born(self, group: int) -> None:
        self._event((BORN, group, 1, 0))

    def died(self, group: int) -> None:
        self._event((DIED, group, 1, 0))

    def compute(self, ns: float) -> None:
        for _ in range(round(ns / 100)):
            self._words.append(TIME << 62 | 50_000)

    def access(self, kind: int, page: int) -> None:
        self._words += [kind << 62 | page * LINES + line for line in range(LINES)]

    def _event(self, *actions: tuple[int, int, int, int]) -> None:
        self._words.append(EVENT << 62)
        self._actions += [(self._events, *action) for action in actions]
        self._events += 1

    def run(self, *, waiting: bool = True, **changes: Any) -> Replayed:
        count = self._n * self.pages
        traced = Trace(
            words=np.array(self._words, dtype=np.uint64),
            pages=np.arange(count, dtype=np.uint64),
            nodes=np.ones(count, dtype=np.uint8),
            kinds={},
            resident=[],
            events=self._events,
        )
        scenario = Scenario(
            page=np.array(count * [WINDOW] + self._frames * [0], dtype=np.uint8),
            line=np.arange(count * LINES, dtype=np.uint32),
            actions=self._actions,
            groups=self.groups,
            moves=sorted(self.moves, key=lambda move: move.at),
            frames=count,
        )
        memory = OPTANE.model_copy(update=changes)
        return engine.run(traced, scenario, memory, cores=self.cores, waiting=waiting)


def near(ns: float) -> Any:
    """Copies, which start when the compute vCPU has executed a word, and whose misses queue now and then."""
    return pytest.approx(ns, rel=0.02, abs=110)


def demotion(*, pages: int = CHUNK, cores: int = 1, **move: Any) -> Step:
    """A group born in fast memory, which op 0 fills and op 3 does not use any more."""
    step = Step(0, pages=pages, cores=cores)
    step.move(0, None, 1, 4, **move)
    step.op(0, 0)
    step.born(0)
    step.compute(1 * US)
    step.op(1, 1)
    step.compute(20 * US)
    step.op(2, 2)
    step.compute(30 * US)
    step.op(3, END)
    step.compute(60 * US)
    step.died(0)
    step.compute(20 * US)  # the window returns to its frames
    return step


def test_window_is_copied_and_then_remapped() -> None:
    replayed = demotion().run()
    (moved,) = replayed.moved
    assert moved.outcome == "moved"
    assert moved.begin_ns == near(1 * US)
    assert moved.copied_ns is not None and moved.begin_ns is not None
    assert moved.copied_ns - moved.begin_ns == near(CHUNK * DEMOTED)
    assert moved.ended_ns == pytest.approx(moved.copied_ns + remap(CHUNK))
    assert replayed.pages["demoted"] == replayed.pages["copied"] == CHUNK
    assert replayed.remaps == 2  # and the one back


def test_clean_window_is_only_remapped() -> None:
    (moved,) = demotion(copy=False).run().moved
    assert moved.begin_ns is not None and moved.copied_ns is None
    assert moved.ended_ns == pytest.approx(moved.begin_ns + remap(CHUNK))


def test_copy_does_not_wait_for_the_last_read() -> None:
    """From position 1 on nothing writes the group, and from 3 on nothing reads it."""
    (moved,) = demotion(map_at=3).run().moved
    assert moved.copied_ns == near(1 * US + CHUNK * DEMOTED)
    assert moved.ended_ns == near(51 * US + remap(CHUNK))


@pytest.mark.parametrize("cores", [1, 2, 4])
def test_cores_share_the_chunks_of_a_window(cores: int) -> None:
    (moved,) = demotion(pages=4 * CHUNK, cores=cores).run().moved
    assert moved.copied_ns is not None and moved.begin_ns is not None
    written = 4 * CHUNK * 4096 / 13.9  # the bandwidth of slow memory
    assert moved.copied_ns - moved.begin_ns == near(max(4 / cores * CHUNK * DEMOTED, written))


def test_cores_together_have_the_bandwidth_of_the_node() -> None:
    """63 cores could write 38 times what slow memory takes. Their caches hold none of it at the end."""
    step = Step(None, pages=4096, cores=63)
    step.move(0, 0, 1, 2)
    step.op(0, 0)
    step.born(0)
    step.op(1, END)
    step.compute(600 * US)
    step.died(0)
    (moved,) = step.run().moved
    assert moved.copied_ns is not None and moved.begin_ns is not None
    assert moved.copied_ns - moved.begin_ns == pytest.approx(4096 * 4096 / 39.4, rel=0.05)


def test_remap_interrupts_the_compute_vcpu() -> None:
    replayed = demotion().run()
    assert replayed.counters[0]["charged"] == 2 * 700
    assert replayed.counters[1]["charged"] == pytest.approx(2 * remap(CHUNK))


def test_move_waits_until_all_earlier_operations_have_ended() -> None:
    """Operation 0 runs after 1: the watermark stays at 0, and the demotion is due before it can begin."""
    step = Step(0)
    step.move(0, None, 1, 3)
    step.op(1, 0)
    step.born(0)
    step.compute(20 * US)
    step.op(2, 0)
    step.compute(20 * US)
    step.op(3, 0)
    step.compute(20 * US)
    step.op(0, 0)
    step.died(0)
    replayed = step.run()
    assert [(m.outcome, m.begin_ns) for m in replayed.moved] == [("cancelled", None)]
    assert replayed.pages["cancelled"] == CHUNK


def promotion(time: float, *, cores: int = 1, group_frame: int | None = None) -> Step:
    step = Step(group_frame, cores=cores)
    step.move(0, 1, 1, 2)
    step.op(0, 0)
    step.born(0)
    step.compute(10 * US)
    step.op(1, 1)
    step.compute(time)
    step.op(2, END)
    step.access(READ, 0)
    step.died(0)
    step.compute(20 * US)  # the window returns to its home
    return step


def test_promoted_window_is_read_from_fast_memory() -> None:
    replayed = promotion(40 * US).run()
    assert replayed.pages["late"] == 0
    assert replayed.counters[0]["misses"] == [LINES, 0]
    assert replayed.exposed_ns == 0


def test_late_promotion_is_waited_for() -> None:
    replayed = promotion(10 * US).run()
    assert replayed.pages["late"] == replayed.pages["promoted"] == CHUNK
    (moved,) = replayed.moved
    assert moved.begin_ns is not None and moved.ended_ns is not None
    assert moved.ended_ns - moved.begin_ns == near(CHUNK * PROMOTED + remap(CHUNK))
    assert replayed.exposed_ns == near(moved.ended_ns - 20 * US)
    assert replayed.counters[0]["misses"] == [LINES, 0]


def test_late_promotion_is_cancelled_and_the_window_shows_its_home() -> None:
    replayed = promotion(10 * US).run(waiting=False)
    assert replayed.moved[0].outcome == "cancelled"
    assert replayed.pages["cancelled"] == CHUNK
    assert replayed.exposed_ns == 0
    assert replayed.counters[0]["misses"] == [0, LINES]
    assert replayed.remaps == 0


def test_copied_promotion_is_remapped_by_the_compute_vcpu() -> None:
    """It could not be remapped before, since operation 1 reads the group until 2 begins."""
    step = Step(None)
    step.move(0, 1, 1, 2, map_at=2)
    step.op(0, 0)
    step.born(0)
    step.op(1, 1)
    step.compute(80 * US)
    step.op(2, 2)
    step.compute(10 * US)
    step.op(3, END)
    step.died(0)
    step.compute(10 * US)
    replayed = step.run(waiting=False)
    assert replayed.moved[0].outcome == "moved"
    assert replayed.counters[0]["charged"] == pytest.approx(remap(CHUNK) + 700)  # and the way back


def test_late_demotion_is_waited_for() -> None:
    step = Step(0, pages=4 * CHUNK)
    step.move(0, None, 1, 2)
    step.op(0, 0)
    step.born(0)
    step.op(1, 1)
    step.compute(10 * US)
    step.op(2, END)
    step.access(READ, 0)
    step.died(0)
    for waiting in (True, False):
        replayed = step.run(waiting=waiting)
        (moved,) = replayed.moved
        assert moved.outcome == "moved"
        assert replayed.exposed_ns > 0
        assert replayed.counters[0]["misses"] == [0, LINES]


def test_promotion_waits_for_the_frames_of_a_demotion() -> None:
    step = Step(0, None, cores=2)
    step.move(0, None, 1, 3)
    step.move(1, 0, 1, 3)
    step.op(0, 0)
    step.born(0)
    step.born(1)
    step.compute(1 * US)
    step.op(1, 1)
    step.compute(100 * US)
    step.op(2, END)
    step.died(0)
    step.died(1)
    step.compute(50 * US)
    demoted, promoted = step.run().moved
    assert demoted.outcome == promoted.outcome == "moved"
    assert promoted.begin_ns == demoted.ended_ns


def test_group_without_its_frames_is_born_at_home_and_needs_no_demotion() -> None:
    step = Step(0, 0)
    step.move(1, None, 1, 2)
    step.op(0, 0)
    step.born(0)
    step.born(1)
    step.access(WRITE, CHUNK)
    step.op(1, 1)
    step.compute(20 * US)
    step.op(2, END)
    step.died(1)
    step.died(0)
    step.compute(20 * US)
    replayed = step.run()
    assert replayed.pages["crowded"] == CHUNK
    assert replayed.moved[0].outcome == "there"
    assert replayed.counters[0]["misses"] == [0, LINES]
    assert replayed.remaps == 2  # to its home by the compute vCPU, and back to the frames
    assert replayed.counters[0]["charged"] == pytest.approx(remap(CHUNK) + 700)


def test_birth_waits_for_a_window_that_returns() -> None:
    """The step ends when the group dies; the next one begins with its birth."""
    step = Step(0)
    step.move(0, None, 1, 3)
    step.op(0, 0)
    step.born(0)
    step.compute(1 * US)
    step.op(1, 1)
    step.compute(30 * US)
    step.op(2, END)
    step.died(0)
    replayed = step.run()
    assert replayed.moved[0].outcome == "moved"
    assert replayed.exposed_ns == near(remap(CHUNK))
    assert replayed.counters[0]["charged"] == 2 * 700


def test_moves_run_in_plan_order() -> None:
    """One core: the second begins when the first is remapped."""
    step = Step(0, 1)
    for group in (0, 1):
        step.move(group, None, 1, 3)
    step.op(0, 0)
    step.born(0)
    step.born(1)
    step.op(1, 1)
    step.compute(60 * US)
    step.op(2, END)
    step.died(0)
    step.died(1)
    step.compute(60 * US)
    first, second = step.run().moved
    assert second.begin_ns == first.ended_ns


def test_unknown_user_ends_the_moves_of_the_step() -> None:
    step = Step(0, None)
    step.move(0, None, 1, 4)
    step.move(1, 1, 3, 4)
    step.op(0, 0)
    step.born(0)
    step.born(1)
    step.op(1, 1)
    step.compute(5 * US)
    step.op(2, 2, uses=False)
    step.access(READ, 0)
    step.op(3, END)
    step.compute(60 * US)
    step.died(0)
    step.died(1)
    replayed = step.run()
    assert replayed.unknown == 1
    assert [m.outcome for m in replayed.moved] == ["cancelled", "cancelled"]
    assert replayed.counters[0]["misses"] == [LINES, 0]


def test_unfinished_moves_end_with_the_step() -> None:
    step = Step(0, pages=4 * CHUNK)
    step.move(0, None, 1, 9)
    step.op(0, 0)
    step.born(0)
    step.op(1, END)
    step.compute(10 * US)
    replayed = step.run()
    assert replayed.moved[0].outcome == "cancelled"
    assert replayed.pages["demoted"] == 0


def test_instructions_take_longer_while_a_core_migrates() -> None:
    """With two cores in all, one computes while the other copies and remaps."""
    step = demotion()
    alone, shared = step.run(), step.run(cores=2)
    busy = 2 * (remap(CHUNK) - 700) + CHUNK * DEMOTED  # of which half is lost; 700 ns are all lost
    assert shared.step_ns - alone.step_ns == pytest.approx(busy / 2, rel=0.03)


def test_window_of_a_plan_is_copied_and_not_remapped(tmp_path: Path) -> None:
    """It is copied while `b` reads it, but remapped only when `b` has ended. By then it is dead."""
    recording = Recording()
    recording.step()
    path = recording.write(tmp_path)
    recorded = trace.read(path)
    kind = recorded.kinds["kind"]
    size = PAGES * trace.PAGE
    converted = with_frames(plan(moves=[PlannedMove(1, 1, 2, 0, size, None)]), kind.profile)
    converted = dataclasses.replace(converted, moves=[converted.moves[0]._replace(map=2)])
    assert [tuple(use) for use in converted.uses] == [("a", 0, 0), ("b", 0, 1)]
    player = Replays(recorded, path, preset.load("optane-6dimm"), migration_cores=4)
    replayed = player.run_plan("", converted).replayed
    assert len(replayed.counters) == 5
    assert replayed.unknown == replayed.pages["new_pages"] == 0
    assert replayed.moved[0].outcome == "cancelled"
    assert replayed.moved[0].copied_ns is not None
    assert replayed.pages["copied"] >= PAGES
    assert replayed.counters[0]["misses"][0] > PAGES * LINES


@pytest.mark.parametrize("cores", [1, 2, 4])
def test_variables_migrate_by_pages_beside_windows(tmp_path: Path, cores: int) -> None:
    recording = Recording()
    recording.step()
    recorded = trace.read(recording.write(tmp_path))
    kind = recorded.kinds["kind"]
    mixed = with_frames(moving_variable(), kind.profile)
    replayed = engine.run(recorded, planned(recorded, kind, mixed), OPTANE, cores=cores)
    by_pages = engine.run(recorded, planned(recorded, kind, moving_variable()), OPTANE, cores=min(2, cores))
    assert replayed.pages["promoted"] == replayed.pages["demoted"] == PAGES
    charged = sum(counters["charged"] for counters in replayed.counters[1:])
    assert charged == pytest.approx(2 * PAGES * OPTANE.page)
    assert replayed.step_ns == pytest.approx(by_pages.step_ns, rel=0.02)
    assert replayed.remaps == 0
