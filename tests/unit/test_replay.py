# SPDX-License-Identifier: Apache-2.0
"""Replays of traces that the tests make: placements, plans and bad files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from experiments import policies
from experiments.policies import GuestSetup, Needs, Policy
from experiments.replays import Replays
from sentinel.cli.replays import replay as replay_command
from sentinel.planner.formats import profile_json
from sentinel.planner.formats.plan import Group, Move, Plan, TensorPlacement
from sentinel.replay import engine, placement, trace
from sentinel.replay.planned import planned
from sentinel.replay.trace import LINES, PAGE, Trace
from testbed.common.errors import UsageError
from testbed.timing import preset
from tests.fakes.access_traces import EVENT, HEAP, PAGES, READ, Recording

OPTANE = preset.load("optane-6dimm")
FAST, SLOW = OPTANE.nodes
NS_FAST, NS_SLOW = (PAGES * PAGE / node.read_bandwidth for node in OPTANE.nodes)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recording = Recording()
    recording.step()
    return recording.write(tmp_path_factory.mktemp("trace"))


@pytest.fixture(scope="module")
def recorded(path: Path) -> Trace:
    return trace.read(path)


def plan(**changes: Any) -> Plan:
    """The plan that has `w` in slow memory and `t` in fast memory, in a group of its own."""
    size = PAGES * PAGE
    values: dict[str, Any] = {
        "graph": profile_json.digest(["a", "b"]),
        "ops": 2,
        "budget": size,
        "migratable_budget": size,
        "reserved": 0,
        "arena": size,
        "interval_layers": 1,
        "intervals": [0, 1],
        "tensors": [
            TensorPlacement("a", 0, 0, size, "long", 0, 0, None, 0),
            TensorPlacement(None, 0, 0, size, "long", None, 1, "w"),
        ],
        "groups": [Group(0, size, 0, False)],
        "moves": [],
        "waits": [],
        "predicted": {},
        "made": {},
    }
    return Plan(**{**values, **changes})


# ---------------------------------------------------------------- traces


def test_trace_is_read_as_it_was_recorded(recorded: Trace) -> None:
    assert recorded.name == "two-ops"
    assert recorded.events == 4
    assert recorded.pages.tolist()[0] == HEAP // PAGE
    assert len(recorded.pages) == 1 + 2 * PAGES
    assert recorded.nodes.tolist() == [0] + 2 * PAGES * [1]
    kind = recorded.kinds["kind"]
    assert [(op.name, op.event) for op in kind.ops] == [("a", 0), ("b", 2)]
    assert [(t.born, t.died, t.name) for t in kind.tensors] == [(1, 3, None), (None, None, "w")]


def test_trace_without_its_events_is_refused(tmp_path: Path) -> None:
    recording = Recording()
    recording.step()
    del recording.words[-1]
    with pytest.raises(UsageError, match="the trace has 3 events, and its profiles have 4"):
        recording.write(tmp_path)


@pytest.mark.parametrize("size", [0, 10, 1000, -100])
def test_truncated_recording_is_refused(tmp_path: Path, size: int) -> None:
    recording = Recording()
    recording.step()
    recording.write(tmp_path)
    raw = tmp_path / "raw.gz"
    raw.write_bytes(raw.read_bytes()[:size])
    with pytest.raises(UsageError, match=r"not a trace of the timing model, or truncated|0 events"):
        trace.from_recording(raw, {"kind": recording.profile()}, {})


@pytest.mark.parametrize("size", [0, 100, -1000])
def test_truncated_trace_is_refused(path: Path, tmp_path: Path, size: int) -> None:
    damaged = tmp_path / "damaged.npz"
    damaged.write_bytes(path.read_bytes()[:size])
    with pytest.raises(UsageError, match=r"damaged\.npz: (not a trace, or )?damaged"):
        trace.read(damaged)


def test_trace_of_another_version_is_refused(path: Path, tmp_path: Path) -> None:
    with np.load(path) as archive:
        arrays = dict(archive)
    header = json.loads(arrays["header"].tobytes()) | {"version": 1}
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    other = tmp_path / "other.npz"
    trace.write(other, arrays)
    with pytest.raises(UsageError, match="a trace of version 1, not 3"):
        trace.read(other)


def test_access_outside_the_pages_of_a_trace_is_refused(path: Path, tmp_path: Path) -> None:
    with np.load(path) as archive:
        arrays = dict(archive)
    arrays["pages"], arrays["nodes"] = arrays["pages"][:-1], arrays["nodes"][:-1]
    other = tmp_path / "other.npz"
    trace.write(other, arrays)
    with pytest.raises(UsageError, match="an access is outside its pages"):
        trace.read(other)


# ---------------------------------------------------------------- placements


def test_stream_takes_its_share_of_each_nodes_bandwidth(recorded: Trace) -> None:
    fast = engine.run(recorded, placement.fast_only(recorded), OPTANE)
    slow = engine.run(recorded, placement.slow_only(recorded), OPTANE)
    # three reads of a tensor, of which the cache keeps a part; the writes are behind the reads
    for replayed, ns in ((fast, NS_FAST), (slow, NS_SLOW)):
        reads = sum(replayed.counters[0]["bytes_read"]) / (PAGES * PAGE)
        assert 2.0 < reads <= 3.01
        assert replayed.step_ns >= reads * ns
    assert fast.counters[0]["misses"][1] == 0
    assert slow.counters[0]["misses"][0] <= 1  # the heap's line, if the cache has lost it
    assert slow.step_ns / fast.step_ns > 2


@pytest.mark.parametrize("chains", [1, 2, 4])
def test_dependent_misses_take_the_latency(tmp_path: Path, chains: int) -> None:
    """Each chain of misses waits for itself only."""
    recording = Recording()
    recording.step()
    events = [word for word in recording.words if word >> 62 == EVENT]
    recording.words = events[:3]
    count = PAGES * LINES  # twice the cache
    for i in range(count):
        line = i * 8191 % count
        recording.add(READ, recording.variable + 64 * line, node=1, source=chains if i >= chains else 0)
    recording.words += events[3:]
    chased = trace.read(recording.write(tmp_path))
    slow, fast = (
        engine.run(chased, place(chased), OPTANE) for place in (placement.slow_only, placement.fast_only)
    )
    assert slow.step_ns == pytest.approx(count * SLOW.read_latency / chains, rel=0.02)
    assert fast.step_ns == pytest.approx(count * FAST.read_latency / chains, rel=0.02)


def test_first_touch_fills_the_lowest_pages(recorded: Trace) -> None:
    half = placement.first_touch(recorded, PAGES * PAGE)
    assert half.page.tolist() == [0] + PAGES * [0] + PAGES * [1]
    assert placement.first_touch(recorded, 2 * PAGES * PAGE).page.tolist() == (1 + 2 * PAGES) * [0]
    assert placement.first_touch(recorded, 0).page.tolist() == [0] + 2 * PAGES * [1]


def test_interleave_alternates_until_the_budget_is_used_up(recorded: Trace) -> None:
    pages = placement.interleave(recorded, 100 * PAGE).page[1:]
    assert pages[:4].tolist() == [0, 1, 0, 1]
    assert int((pages == 0).sum()) == 100
    assert pages[200:].tolist() == (2 * PAGES - 200) * [1]


def test_events_have_the_time_of_their_access(recorded: Trace) -> None:
    replayed = engine.run(recorded, placement.slow_only(recorded), OPTANE)
    assert replayed.event_ns.tolist() == sorted(replayed.event_ns.tolist())
    assert replayed.event_ns[0] == pytest.approx(1000 * OPTANE.compute.instruction, abs=2)
    assert replayed.event_ns[-1] == replayed.step_ns


def test_replays_are_deterministic(recorded: Trace) -> None:
    first, second = (engine.run(recorded, placement.slow_only(recorded), OPTANE) for _ in range(2))
    assert first.step_ns == second.step_ns
    assert first.counters == second.counters


def test_cache_line_of_another_size_is_refused(recorded: Trace) -> None:
    changed = OPTANE.model_copy(update={"cache": OPTANE.cache.model_copy(update={"line": 128})})
    with pytest.raises(UsageError, match="lines of 64 bytes, and the preset's have 128"):
        engine.run(recorded, placement.slow_only(recorded), changed)


def test_memory_mode_is_refused(recorded: Trace) -> None:
    with pytest.raises(UsageError, match="memory_mode cannot be replayed"):
        engine.run(recorded, placement.slow_only(recorded), OPTANE.model_copy(update={"memory_mode": True}))


# ---------------------------------------------------------------- plans


def replay(recorded: Trace, plan: Plan, **options: Any) -> engine.Replayed:
    return engine.run(recorded, planned(recorded, recorded.kinds["kind"], plan), OPTANE, **options)


def test_planned_tensor_is_where_the_plan_has_it(recorded: Trace) -> None:
    replayed = replay(recorded, plan())
    misses = replayed.counters[0]["misses"]
    assert misses[1] == pytest.approx(PAGES * LINES, rel=0.01)  # the variable
    assert misses[0] > PAGES * LINES  # the tensor, twice, less what the cache keeps
    assert replayed.pages["new_pages"] == PAGES
    assert replayed.pages["promoted"] == replayed.pages["demoted"] == 0


def test_group_that_does_not_fit_is_born_in_slow_memory(recorded: Trace) -> None:
    replayed = replay(recorded, plan(migratable_budget=0))
    assert replayed.pages["crowded"] == PAGES
    assert replayed.counters[0]["misses"][0] <= 1


def moving_variable(**changes: Any) -> Plan:
    """The plan that promotes `w` from `a` on, for the step's end, and demotes it then."""
    size = PAGES * PAGE
    return plan(
        tensors=[
            TensorPlacement("a", 0, 0, size, "long", 0, 1, None, 0),
            TensorPlacement(None, 0, 0, size, "long", None, 1, "w"),
        ],
        groups=[Group(0, size, 1, False)],
        **{"moves": [Move(0, 0, 2, None, size, 1), Move(2, 1, 2, None, size, 1)], "waits": [2], **changes},
    )


def test_migrations_take_the_time_of_the_helper(recorded: Trace) -> None:
    """A page costs the fixed time, a read by one core and a write; the next step begins meanwhile."""
    waiting = replay(recorded, moving_variable())
    helper = waiting.counters[1]
    assert waiting.pages["promoted"] == waiting.pages["demoted"] == PAGES
    assert helper["charged"] == pytest.approx(2 * PAGES * OPTANE.page)
    assert sum(helper["bytes_read"]) == 2 * PAGES * PAGE
    copies = PAGES * LINES * (FAST.read_latency + SLOW.read_latency) / OPTANE.helper.parallelism
    assert helper["memory"] == pytest.approx(copies, rel=0.1)


def test_late_promotion_is_waited_for(recorded: Trace) -> None:
    """A demotion of the step before goes first: both take longer than the step computes."""
    waiting = replay(recorded, moving_variable())
    assert waiting.pages["late"] == PAGES
    assert waiting.exposed_ns > 0
    assert waiting.pages["cancelled"] == 0
    helper = waiting.counters[1]
    assert waiting.step_ns == pytest.approx(helper["charged"] + helper["memory"] + helper["idle"], rel=0.01)


def test_late_promotion_is_cancelled(recorded: Trace) -> None:
    cancelling = replay(recorded, moving_variable(), waiting=False)
    waiting = replay(recorded, moving_variable())
    assert cancelling.exposed_ns == 0
    assert cancelling.pages["late"] == PAGES
    assert cancelling.pages["cancelled"] > 0
    assert cancelling.step_ns < waiting.step_ns


def test_plan_of_another_graph_is_refused(recorded: Trace) -> None:
    with pytest.raises(UsageError, match="another graph"):
        planned(recorded, recorded.kinds["kind"], plan(graph="0" * 64))


# ---------------------------------------------------------------- policies


@pytest.fixture(scope="module")
def player(path: Path, recorded: Trace) -> Replays:
    return Replays(recorded, path, OPTANE)


def test_costs_of_operations_are_those_of_the_replay(player: Replays) -> None:
    """`a` writes and reads its tensor, `b` reads two."""
    costs = player.costs
    slots = costs.profile.ops.slot_ns
    assert int(slots.sum()) == pytest.approx(costs.slow.step_ns, abs=5)
    assert costs.profile.ops.fast_ns is not None
    for ns, node in ((slots, SLOW), (costs.profile.ops.fast_ns, FAST)):
        read, written = (PAGES * PAGE / b for b in (node.read_bandwidth, node.write_bandwidth))
        assert ns.tolist() == pytest.approx([written + read, 2 * read], rel=0.05)


def test_traffic_is_counted_by_operation_and_tensor(player: Replays) -> None:
    """The tensors are larger than the cache, so every pass misses. `t` is written back while it is read."""
    traffic = player.costs.slow.traffic
    rows = {(int(r["op"]), int(r["tensor"])): r for r in traffic}
    assert rows.keys() == {(0, 0), (1, 0), (1, 1)}  # (operation, tensor): t in a, t in b, w in b
    assert traffic["read"].tolist() == pytest.approx(3 * [PAGES * LINES], rel=0.01)
    assert [int(rows[key]["written"]) for key in sorted(rows)] == [PAGES * LINES, 0, 0]


def test_savings_of_all_uses_are_what_fast_memory_saves(player: Replays) -> None:
    costs = player.costs
    saved = costs.profile.uses.saved_ns
    assert saved is not None
    assert float(saved.sum()) == pytest.approx(costs.slow.step_ns - costs.fast.step_ns)
    written = PAGES * PAGE * (1 / SLOW.write_bandwidth - 1 / FAST.write_bandwidth)
    read = PAGES * PAGE * (1 / SLOW.read_bandwidth - 1 / FAST.read_bandwidth)
    assert sorted(saved.tolist()) == pytest.approx(sorted([written + read, read, read]), rel=0.05)


@pytest.mark.parametrize("name", ["sentinel", "sentinel-opt"])
def test_plan_made_from_a_trace_is_between_fast_and_slow(player: Replays, name: str) -> None:
    row = player.run(policies.get(name), PAGES * PAGE)
    assert row.plan is not None
    assert player.costs.fast.step_ns < row.replayed.step_ns <= player.costs.slow.step_ns * 1.01


def test_static_plan_takes_as_long_as_predicted(player: Replays) -> None:
    row = player.run(policies.get("sentinel-opt"), PAGES * PAGE)
    assert row.plan is not None and not row.plan.moves
    assert row.replayed.step_ns == pytest.approx(row.plan.predicted["step_ns"], rel=0.1)


def test_step_of_several_kinds_is_replayed_without_plans(tmp_path: Path) -> None:
    recording = Recording()
    recording.step()
    whole = recording.profile()
    kinds = {}
    for name, tensor, i in (("first", 0, 0), ("second", 1, 1)):
        kinds[name] = whole | {
            "graph": profile_json.digest([whole["ops"]["name"][i]]),
            "ops": {key: [values[i]] for key, values in whole["ops"].items()},
            "tensors": [],
            "trace": {
                "ops": {key: [values[i]] for key, values in whole["trace"]["ops"].items()},
                "tensors": [whole["trace"]["tensors"][tensor]],
                "resident": whole["trace"]["resident"],
            },
        }
    recording.write(tmp_path)
    path = tmp_path / "kinds.npz"
    trace.write(path, trace.from_recording(tmp_path / "raw.gz", kinds, {}))
    player = Replays(trace.read(path), path, OPTANE)
    fast, slow = (player.run(policies.get(name), None).replayed for name in ("fast-only", "slow-only"))
    assert fast.step_ns == player.fast.step_ns < slow.step_ns
    with pytest.raises(UsageError, match="several kinds, whose plans cannot be replayed"):
        player.run(policies.get("sentinel-opt"), PAGES * PAGE)


def test_policy_of_the_kernel_is_refused(player: Replays) -> None:
    kernel = Policy("balancing", "", "", Needs(budget="none"), GuestSetup("default"))
    with pytest.raises(UsageError, match="is carried out by the kernel"):
        player.run(kernel, None)


def test_replay_command_prints_every_policy(path: Path) -> None:
    arguments = [str(path), "--preset", "optane-6dimm", "--fast-memory", "25,50%"]
    result = CliRunner().invoke(replay_command, [*arguments, "--json"], catch_exceptions=False)
    shown = json.loads(result.stdout)
    assert shown["measured"] == "replayed"
    assert [(row["policy"], row["budget"] is not None) for row in shown["rows"]] == [
        *2 * [("autotm", True)],
        *2 * [("capuchin", True)],
        ("fast-only", False),
        *2 * [("first-touch", True)],
        *2 * [("hemem", True)],
        *2 * [("ial", True)],
        *2 * [("interleave", True)],
        *2 * [("memory-mode", True)],
        *2 * [("memtis", True)],
        *2 * [("numa-balancing", True)],
        *2 * [("sentinel", True)],
        *2 * [("sentinel-opt", True)],
        ("slow-only", False),
        *2 * [("tpp", True)],
        *2 * [("weighted-interleave", True)],
    ]
    assert shown["rows"][4]["fraction"] == 1
    table = CliRunner().invoke(replay_command, arguments, catch_exceptions=False).stdout
    assert f"replayed from {path} with optane-6dimm, not measured" in table
