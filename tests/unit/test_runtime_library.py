# SPDX-License-Identifier: Apache-2.0
"""The runtime library's core, compiled with the sanitizers and run without TensorFlow."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from results.moves import read as read_moves
from results.records import Step
from sentinel.runtime import build
from testbed.common.errors import BuildError
from tests import hand_plan

RUNTIME = build.SOURCES
CORE = RUNTIME / "core"
TESTS = Path(__file__).parent / "runtime"
CASES = sorted(
    case for p in TESTS.glob("*.cc") for case in re.findall(r'^TEST_CASE\("([^"]+)"\)', p.read_text(), re.M)
)
# Cases with several threads, which run under the thread sanitizer too
CONCURRENT_FILES = (
    "test_concurrency.cc",
    "test_executor.cc",
    "test_frame_kinds.cc",
    "test_frame_memory.cc",
    "test_frame_order.cc",
    "test_frames.cc",
    "test_migration_threads.cc",
)
CONCURRENT_CASES = [
    *(
        case
        for case in CASES
        if any(f'("{case}")' in (TESTS / name).read_text() for name in CONCURRENT_FILES)
    ),
    "nested steps are executed but not counted",
    "tensors of overlapping operations belong to their own operation",
]
Program = Callable[..., str]
Json = dict[str, Any]


def compile_tests(folder: Path, sanitizer: str) -> Program:
    """Compile the test program with a sanitizer; return a function that runs it and returns its output."""
    for tool in ("g++", "meson", "ninja"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed: testbed/setup installs it")
    options = ["-Dtests=true", "-Dwerror=true", f"-Db_sanitize={sanitizer}"]
    subprocess.run(["meson", "setup", folder, RUNTIME, *options], check=True)
    subprocess.run(["ninja", "-C", folder, f"-j{os.cpu_count()}"], check=True)
    # malloc() returns NULL if memory is short, as the C library's does
    environment = {"ASAN_OPTIONS": "allocator_may_return_null=1", "TSAN_OPTIONS": "die_after_fork=0"}

    def run(*arguments: str, stdin: str = "") -> str:
        completed = subprocess.run(
            [folder / "runtime-tests", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=600,  # takes seconds on a quiet host
            check=False,
            env={**os.environ, **environment},
        )
        assert completed.returncode == 0, completed.stdout + completed.stderr
        return completed.stdout

    return run


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    return compile_tests(tmp_path_factory.mktemp("runtime"), "address,undefined")


@pytest.fixture(scope="module")
def threaded(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """The program under the thread sanitizer."""
    return compile_tests(tmp_path_factory.mktemp("threaded"), "thread")


@pytest.fixture(scope="module")
def profile(program: Program) -> Json:
    profile: Json = json.loads(program("steps"))
    return profile


@pytest.fixture(scope="module")
def plan(profile: Json) -> Json:
    return hand_plan.make(profile)


@pytest.fixture(scope="module")
def frames(plan: Json, profile: Json) -> Json:
    """The plan with frames."""
    return hand_plan.with_frames(plan, profile)


def execute(program: Program, folder: Path, plan: Json, steps: int, *change: str) -> Json:
    """Execute a plan for some steps; return the runtime's statistics. `change` is that of commands.h."""
    path = folder / "plan.json"
    path.write_text(json.dumps(plan))
    statistics: Json = json.loads(program("steps", str(path), str(steps), *change))
    return statistics


def test_core_includes_no_framework() -> None:
    shared = ("../../profiler/page_profile.h", "../../../testbed/timing/client/sentinel_markers.h")
    allowed = {p.name for p in CORE.glob("*.h")}.union(shared)
    includes = {
        name for p in CORE.iterdir() for name in re.findall(r'^#include "([^"]+)"', p.read_text(), re.M)
    }
    assert includes - allowed == set()


def test_meson_compiles_every_source() -> None:
    text = (RUNTIME / "meson.build").read_text()
    sources = {str(p.relative_to(RUNTIME)) for p in RUNTIME.rglob("*.cc")} | {
        p.name for p in TESTS.glob("*.cc")
    }
    assert {source for source in sources if f"'{source}'" not in text} == set()


@pytest.mark.parametrize("case", CASES)
def test_case_passes(program: Program, case: str) -> None:
    assert re.search(r"test cases: +1 \| +1 passed", program(f"--test-case={case}"))


@pytest.mark.parametrize("case", CONCURRENT_CASES)
def test_case_has_no_data_race(threaded: Program, case: str) -> None:
    assert re.search(r"test cases: +1 \| +1 passed", threaded(f"--test-case={case}"))


def test_profile_lists_all_operations(profile: Json) -> None:
    names = profile["ops"]["name"]
    forward = ["w", "_arg_x", "one/MatMul", "two/Mul", "two/Mul"]
    assert names == [*forward, "gradients/two/Mul_grad/Mul", "gradients/one/MatMul_grad/MatMul"]
    assert profile["ops"]["occurrence"] == [0, 0, 0, 0, 1, 0, 0]
    assert profile["ops"]["layer"] == [0, 0, 0, 1, 1, 2, 3]
    assert profile["graph"] == hashlib.sha256("".join(f"{n}\n" for n in sorted(names)).encode()).hexdigest()
    assert profile["counts"] == "ops"
    assert profile["threads"] == {"inter_op": 1, "intra_op": 1}
    assert any("no page-access counts" in w for w in profile["warnings"])
    assert any(w.startswith("1 uses of 8 bytes") for w in profile["warnings"])
    begin, end = profile["ops"]["begin_ns"], profile["ops"]["end_ns"]
    assert all(b <= e for b, e in zip(begin, end, strict=True))
    assert begin == sorted(begin)
    assert end[-1] == profile["step_ns"]


def test_profile_has_birth_uses_and_death_of_tensors(profile: Json) -> None:
    large, small, pages = 5 * 4096 + 12, 400, 6
    by_key = {t.get("name") or (t["op"], t["k"], t["thread"]): t for t in profile["tensors"]}
    lives = {
        key: (t["size"], t["birth"], t["death"], t["kind"], t["reads"], t["writes"], t["uses"])
        for key, t in by_key.items()
    }
    assert lives == {
        "w": (large, -1, 7, "variable", 2 * pages, 0, [[2, 1, 0], [6, 1, 0]]),
        "_arg_x": (small, -1, 7, "tensor", 1, 0, [[2, 1, 0]]),
        (2, 0, 0): (large, 2, 3, "scratch", 0, pages, [[2, 0, 1]]),
        (2, 1000000, 1): (small, 2, 3, "scratch", 0, 1, [[2, 0, 1]]),  # by another thread
        (2, 1, 0): (large, 2, 7, "tensor", 3 * pages, pages, [[2, 0, 1], [3, 1, 0], [4, 1, 0], [6, 1, 0]]),
        (3, 0, 0): (small, 3, 4, "scratch", 1, 1, [[3, 1, 1]]),
        (4, 0, 0): (small, 4, 6, "tensor", 2, 1, [[4, 1, 1], [5, 1, 0]]),
        (5, 0, 0): (small, 5, 7, "tensor", 1, 1, [[5, 0, 1], [6, 1, 0]]),
    }


def test_profiles_of_equal_steps_have_equal_keys(program: Program, profile: Json) -> None:
    times = {"begin_ns", "end_ns"}
    again = json.loads(program("steps"))
    for tensor in (*again["tensors"], *(profile := copy.deepcopy(profile))["tensors"]):
        del tensor["address"]
    assert again["tensors"] == profile["tensors"]
    assert {k: v for k, v in again["ops"].items() if k not in times} == {
        k: v for k, v in profile["ops"].items() if k not in times
    }


def test_plan_is_executed(program: Program, plan: Json, tmp_path: Path) -> None:
    stats = execute(program, tmp_path, plan, 5)
    assert stats["planned_steps"] == 5
    assert stats["planned"] is True
    assert stats["reprofile"] is False
    assert (stats["total"]["unplanned"], stats["total"]["busy"]) == (0, 0)
    # The operation's other thread; TensorFlow's side job is not part of the step
    assert stats["total"]["keyless"] == 5
    in_plan = [t["pool"] for t in plan["tensors"] if "op" in t]
    assert stats["pools"]["arena"]["allocations"] == 5 * in_plan.count("long") > 0
    assert stats["pools"]["reserved"]["allocations"] == 5 * in_plan.count("short") > 0
    assert stats["pools"]["arena"]["live"] == stats["pools"]["reserved"]["live"] == 0
    moves = stats["total"]
    requested = sum(move.get("size", 6 * 4096) for move in plan["moves"])
    assert (
        0 < sum(moves[k] for k in ("promoted", "demoted", "failed", "absent", "cancelled")) <= 5 * requested
    )


def test_plan_with_frames_is_executed(program: Program, frames: Json, tmp_path: Path) -> None:
    stats = execute(program, tmp_path, frames, 5, "frames")
    assert (stats["planned_steps"], stats["planned"], stats["frames"]) == (5, True, frames["frames"])
    counts = [stats["total"][name] for name in ("unplanned", "busy", "crowded", "failed")]
    assert counts == [0, 0, 0, 0]
    assert stats["pools"]["arena"]["live"] == 0
    # The homes and the pool; this machine has one node
    assert sum(stats["pools"]["arena"]["resident"]) == frames["arena"] + frames["frames"]
    moves = [i for i, move in enumerate(frames["moves"]) if "offset" in move]
    by_frames = [move for move in stats["moves"] if move["move"] in moves]
    assert [move["move"] for move in by_frames] == moves
    for move in by_frames:
        assert move["outcome"] in ("moved", "resident", "cancelled")
        assert (move["remap_ns"] is not None) == (move["outcome"] == "moved")
        assert move["outcome"] != "moved" or move["begin_ns"] <= move["end_ns"] <= move["remap_ns"]
        assert move["begin_ns"] is None or stats["step"]["begin_ns"] <= move["ready_ns"] <= move["begin_ns"]
        assert (move["reason"] is not None) == (move["outcome"] == "cancelled")
    step = Step(step=0, warmup=False, guest_ns=1, runtime=stats)
    recorded = read_moves(step, moves=len(frames["moves"]), ops=frames["ops"])
    assert len(recorded.moves) == len(stats["moves"]) == len(frames["moves"])
    moved = [frames["moves"][move["move"]]["size"] for move in by_frames if move["outcome"] == "moved"]
    assert stats["step"]["copied"] >= sum(moved)
    assert stats["step"]["remaps"] >= len(moved)


def test_plan_with_frames_uses_move_pages_where_the_system_refuses(
    program: Program, frames: Json, tmp_path: Path
) -> None:
    stats = execute(program, tmp_path, frames, 5, "refused")
    assert (stats["planned_steps"], stats["frames"]) == (5, 0)
    assert sorted(move["move"] for move in stats["moves"]) == list(range(len(frames["moves"])))
    assert all(move["remap_ns"] is None for move in stats["moves"])
    # Room for moving variables does not count groups, which have the bytes of `frames` now
    assert stats["room"]["limit"] == frames["room"] + frames["frames"]
    assert (stats["total"]["unplanned"], stats["total"]["crowded"], stats["total"]["remaps"]) == (0, 0, 0)


@pytest.mark.parametrize("keep", [True, False])
def test_groups_with_keep_stay_resident(program: Program, plan: Json, tmp_path: Path, keep: bool) -> None:
    groups = [{**group, "keep": keep} for group in plan["groups"]]
    stats = execute(program, tmp_path, {**plan, "groups": groups, "moves": []}, 2)
    assert sum(stats["pools"]["arena"]["resident"]) == (plan["arena"] if keep else 0)


def test_groups_beyond_the_budget_are_born_in_slow_memory(
    program: Program, plan: Json, tmp_path: Path
) -> None:
    stats = execute(program, tmp_path, {**plan, "room": 0, "moves": [], "waits": []}, 3)
    sizes = [group["size"] for group in plan["groups"] if group["node"] == 0]
    assert stats["step"]["crowded"] == sum(sizes)
    assert stats["room"] == {"peak": 0, "limit": 0}
    assert execute(program, tmp_path, {**plan, "moves": [], "waits": []}, 3)["total"]["crowded"] == 0


def test_moves_follow_operations_not_their_count(program: Program, plan: Json, tmp_path: Path) -> None:
    """Two variables begin first here, as if they had begun last in the profiled step."""
    tensors = [{**t, "position": t["position"] - 2} if "op" in t else t for t in plan["tensors"]]
    first = next(t for t in tensors if t.get("op") == "one/MatMul" and t["pool"] == "long")
    groups = [{**group, "node": int(group["offset"] == first["offset"])} for group in plan["groups"]]
    tensors = [{**t, "node": 1} if t is first else t for t in tensors]
    size = next(group["size"] for group in groups if group["node"] == 1)
    move = {"at": 1, "to": 0, "offset": first["offset"], "size": size, "before": 2}
    stats = execute(
        program, tmp_path, {**plan, "tensors": tensors, "groups": groups, "moves": [move], "waits": [2]}, 3
    )
    assert stats["total"]["absent"] == 0
    assert stats["total"]["promoted"] >= 2 * size  # the first steps wait


@pytest.mark.parametrize("change", ["loops", "extra"])
def test_changed_step_asks_for_another_profile(
    program: Program, plan: Json, tmp_path: Path, change: str
) -> None:
    assert execute(program, tmp_path, plan, 2, change)["reprofile"] is False
    stats = execute(program, tmp_path, plan, 3, change)
    assert stats["reprofile"] is True
    counts = [stats["step"][name] for name in ("substituted", "unplanned", "fallback_bytes")]
    assert counts == ([7, 0, 0] if change == "loops" else [0, 1, 5 * 4096 + 12])


def test_plan_of_another_graph_asks_for_another_profile(program: Program, plan: Json, tmp_path: Path) -> None:
    stats = execute(program, tmp_path, {**plan, "graph": "0" * 64}, 3)
    assert (stats["planned_steps"], stats["other_steps"], stats["steps"]) == (0, 3, 4)
    assert stats["reprofile"] is True


def test_single_different_step_keeps_the_plan(program: Program, plan: Json, tmp_path: Path) -> None:
    first = execute(program, tmp_path, plan, 1, "first")
    assert (first["planned_steps"], first["other_steps"], first["step"]["unplanned"]) == (0, 1, 1)
    assert first["pools"]["unplanned"]["allocations"] > 0
    stats = execute(program, tmp_path, plan, 5, "first")
    assert (stats["planned_steps"], stats["other_steps"], stats["step"]["unplanned"]) == (4, 1, 0)
    assert (stats["planned"], stats["reprofile"]) == (True, False)


def test_tensors_whose_place_is_taken_are_counted(program: Program, plan: Json, tmp_path: Path) -> None:
    long = [t for t in plan["tensors"] if t["pool"] == "long" and "op" in t]
    changed = json.loads(json.dumps(plan))
    for t in changed["tensors"]:
        if t["pool"] == "long" and "op" in t:
            t["offset"] = 0
            t["node"] = 0
    changed["groups"] = [{"offset": 0, "size": plan["arena"], "node": 0, "keep": False}]
    stats = execute(program, tmp_path, changed, 1)
    assert (stats["total"]["busy"], stats["total"]["substituted"]) == (1, 1)
    assert len(long) == 3


def test_layers_end_at_markers(program: Program) -> None:
    ops = ["a/x=Add", "mark=SentinelLayer", "b/x=Add", "c/x=Mul", "gradients/mark=SentinelLayer", "g=Add"]
    assert program("layers", *ops).split() == ["0", "0", "1", "1", "1", "2"]


def test_layers_without_markers_are_scopes(program: Program) -> None:
    scopes = ["a", "b", "c", "d", "gradients/d", "gradients/c", "gradients/b", "gradients/a"]
    ops = [f"{scope}/MatMul=MatMul" for scope in scopes]
    assert program("layers", *ops).split() == [str(n) for n in range(8)]
    # Operations that only forward buffers begin no layer, nor does a scope that recurs.
    ops = ["d/kernel=VariableV2", "d/read=Identity", *ops[:5], "a/late=Add", *ops[5:]]
    assert program("layers", *ops).split() == ["0", "0", "0", "1", "2", "3", "4", "4", "5", "6", "7"]


def test_single_outer_scope_is_split_by_inner_scopes(program: Program) -> None:
    ops = [f"rnn/cell_{n}/MatMul=MatMul" for n in range(5)] + ["gradients/rnn/cell_4/MatMul_grad/x=MatMul"]
    assert program("layers", *ops).split() == ["0", "1", "2", "3", "4", "5"]


def test_repeated_products_begin_layers(program: Program) -> None:
    scopes = [f"{name}/x=Add" for name in "abcdef"]
    unrolled = [
        "r/concat=ConcatV2",
        "r/MatMul=MatMul",
        "r/Mul=Mul",
        "r/concat_1=ConcatV2",
        "r/MatMul_1=MatMul",
    ]
    gradients = [f"gradients/r/MatMul_1{n}_grad/{m}=MatMul" for n in (2, 1) for m in ("MatMul", "MatMul_1")]
    loop = ["w/MatMul=MatMul", "w/Tanh=Tanh", "w/MatMul=MatMul"]
    assert program("layers", *scopes, *unrolled).split()[6:] == ["6", "6", "6", "6", "7"]
    assert program("layers", *scopes, *gradients).split()[6:] == ["6", "6", "7", "7"]
    assert program("layers", *scopes, *loop).split()[6:] == ["6", "6", "7"]


def test_valid_plan_is_parsed(program: Program, plan: Json) -> None:
    counts = f"tensors {len(plan['tensors'])}, moves {len(plan['moves'])}, waits {len(plan['waits'])}\n"
    assert program("plan", stdin=json.dumps(plan)) == counts
    assert program("plan", stdin=json.dumps(plan, indent=2, ensure_ascii=False)) == counts


def edited(plan: Json, path: str, value: object) -> str:
    """Return the plan as JSON with one value set (`...` removes it); `path` as in "moves.3.at"."""
    changed = json.loads(json.dumps(plan))
    *parents, last = path.split(".")
    node = changed
    for name in parents:
        node = node[int(name) if isinstance(node, list) else name]
    key: Any = int(last) if isinstance(node, list) else last
    if value is ...:
        del node[key]
    else:
        node[key] = value
    return json.dumps(changed)


def test_invalid_plans_are_refused_in_one_line(program: Program, plan: Json) -> None:
    short = next(i for i, t in enumerate(plan["tensors"]) if t["pool"] == "short")
    variable = next(i for i, t in enumerate(plan["tensors"]) if "name" in t)
    long = next(i for i, t in enumerate(plan["tensors"]) if t["pool"] == "long" and "op" in t)
    move = next(i for i, m in enumerate(plan["moves"]) if "offset" in m)
    by_name = next(i for i, m in enumerate(plan["moves"]) if "tensor" in m)
    cases: list[tuple[str, object, str]] = [
        ("format", "sentinel-profile", "not a plan"),
        ("format", ..., "not a plan"),
        ("version", 3, "version: unsupported; this runtime supports versions 1 and 2"),
        ("frames", 4096, "unknown key 'frames'"),
        ("uses", [], "unknown key 'uses'"),
        ("groups.0.frame", 0, "groups[0]: unknown key 'frame'"),
        (f"moves.{move}.map", 3, f"moves[{move}]: unknown key 'map'"),
        ("graph", ..., "lacks 'graph'"),
        ("graph", 7, "graph: must be a string"),
        ("ops", 0, "ops: must be an integer from 1"),
        ("ops", 1.5, "ops: must be an integer"),
        ("arena", -1, "arena: must be an integer from 0"),
        ("arena", plan["arena"] + 64, "arena: must be a multiple of the page size, 4096"),
        ("arena", 1 << 45, "arena: exceeds 4 times this machine's memory"),
        ("reserved", 1 << 45, "reserved: exceeds 4 times this machine's memory"),
        ("surprise", 1, "unknown key 'surprise'"),
        ("tensors", {}, "tensors: must be a list"),
        (f"tensors.{long}.pool", "middle", f'tensors[{long}].pool: must be "short" or "long"'),
        (f"tensors.{long}.offset", plan["arena"], f"tensors[{long}]: extends beyond the arena"),
        (f"tensors.{short}.offset", 4, f"tensors[{short}].offset: must be a multiple of 64"),
        (f"tensors.{long}.offset", 100, f"tensors[{long}].offset: must be a multiple of 64"),
        (f"tensors.{long}.offset", (1 << 63) - 1, f"tensors[{long}].offset: must be an integer from 0"),
        (f"tensors.{long}.node", 1, f"tensors[{long}].node: differs from its group's node"),
        (f"tensors.{long}.node", 2, f"tensors[{long}].node: must be an integer from 0 to 1"),
        (f"tensors.{long}.op", ..., f"tensors[{long}]: lacks 'op'"),
        (f"tensors.{long}.colour", "red", f"tensors[{long}]: unknown key 'colour'"),
        (f"tensors.{short}.offset", plan["reserved"], "extends beyond the reserved pool"),
        (f"tensors.{short}.node", 1, f"tensors[{short}].node: must be 0 for a short-lived tensor"),
        (f"tensors.{variable}.offset", 0, f"tensors[{variable}].offset: must be null"),
        (f"tensors.{variable}.pool", "short", f"tensors[{variable}].pool: must be"),
        ("tensors", [plan["tensors"][short]] * 2, "tensors[1]: duplicate key"),
        ("tensors", [plan["tensors"][variable]] * 2, "tensors[1]: duplicate variable"),
        ("groups.0.size", 4095, "groups[0]: offset and size must be multiples"),
        ("groups", [], f"tensors[{long}]: is in no group"),
        ("groups.0.size", 4096, "extends beyond its groups"),
        ("groups.0.keep", 1, "groups[0].keep: must be true or false"),
        ("groups.0.keep", ..., "groups[0]: lacks 'keep'"),
        ("groups.0.keep", True, "is in a group with 'keep', which must not move"),
        ("groups", [plan["groups"][0]] * 2, "groups[1]: overlaps another group"),
        (f"moves.{move}.offset", 5, f"moves[{move}]: offset and size must be multiples"),
        (f"moves.{move}.size", 1 << 40, f"moves[{move}]: extends beyond the arena"),
        (f"moves.{move}.to", 2, f"moves[{move}].to: must be an integer from 0 to 1"),
        (f"moves.{move}.before", ..., f"moves[{move}]: lacks 'before'"),
        (f"moves.{by_name}.tensor", 99, f"moves[{by_name}].tensor: must be an integer from 0"),
        (f"moves.{by_name}.tensor", long, f"moves[{by_name}].tensor: must be a variable"),
        (f"moves.{len(plan['moves']) - 1}.at", -1, "is before that of the previous move"),
        ("waits.1", 0, "waits[1]: is not after the previous wait"),
    ]
    for path, value, message in cases:
        text = edited(plan, path, value)
        if path == "tensors" and value != {}:
            text = edited(json.loads(text), "moves", [])
        output = program("plan", stdin=text)
        assert output.startswith("error: "), (path, value)
        assert message in output, (path, value)
        assert output.count("\n") == 1


def test_plan_with_frames_is_parsed(program: Program, frames: Json) -> None:
    counts = f"tensors {len(frames['tensors'])}, moves {len(frames['moves'])}, waits {len(frames['waits'])}\n"
    assert program("plan", stdin=json.dumps(frames)) == counts


def test_invalid_frames_are_refused_in_one_line(program: Program, frames: Json) -> None:
    demotion = next(i for i, m in enumerate(frames["moves"]) if m["to"] == 1 and "offset" in m)
    promotion = next(i for i, m in enumerate(frames["moves"]) if m["to"] == 0 and "offset" in m)
    born = next(i for i, t in enumerate(frames["tensors"]) if t["pool"] == "long" and "op" in t)
    variable = next(i for i, m in enumerate(frames["moves"]) if "tensor" in m)
    uses, end = frames["uses"], frames["frames"]
    without = [use for use in uses if use[0] != frames["tensors"][born]["op"]]
    cases: list[tuple[str, object, str]] = [
        ("frames", ..., "lacks 'frames'"),
        ("frames", 100, "frames: must be a multiple of the page size, 4096"),
        ("frames", frames["budget"] // 4096 * 4096 + 4096, "frames: exceeds the budget"),
        ("cores", 0, "cores: must be an integer from 1"),
        ("cores", "4", "cores: must be an integer"),
        ("frames", 0, "groups[0].frame: extends beyond the fast frame pool"),
        ("groups.0.frame", ..., "groups[0]: lacks 'frame'"),
        ("groups.0.frame", None, "groups[0].frame: must be an integer"),
        ("groups.0.frame", 64, "groups[0].frame: must be a multiple of the page size, 4096"),
        ("groups.0.frame", end, "groups[0].frame: extends beyond the fast frame pool"),
        ("groups.0.frame", (1 << 63) - 4096, "groups[0].frame: extends beyond the fast frame pool"),
        ("groups.0.node", 1, "groups[0].frame: must be null for a group with 'keep' or on node 1"),
        ("groups.0.keep", True, "groups[0].frame: must be null for a group with 'keep' or on node 1"),
        (f"moves.{promotion}.frame", None, f"moves[{promotion}].frame: must be an integer"),
        (f"moves.{promotion}.frame", end, f"moves[{promotion}].frame: extends beyond the fast frame pool"),
        (f"moves.{promotion}.copy", False, f"moves[{promotion}].copy: must be true for a promotion"),
        (f"moves.{demotion}.frame", 0, f"moves[{demotion}].frame: must be null for a demotion"),
        (f"moves.{demotion}.copy", 1, f"moves[{demotion}].copy: must be true or false"),
        (f"moves.{demotion}.map", ..., f"moves[{demotion}]: lacks 'map'"),
        (f"moves.{demotion}.map", frames["ops"], f"moves[{demotion}].map: must be an integer from"),
        (f"moves.{demotion}.map", -1, f"moves[{demotion}].map: must be an integer from"),
        (f"moves.{demotion}.before", -1, f"moves[{demotion}].before: is before 'at'"),
        (f"moves.{demotion}.size", 4096, f"moves[{demotion}]: must move exactly one group"),
        (f"moves.{demotion}.at", frames["moves"][0]["at"], "is not after the last birth in its group"),
        (f"moves.{variable}.map", 0, f"moves[{variable}]: unknown key 'map'"),
        ("uses", ..., "lacks 'uses'"),
        ("uses", without, f"tensors[{born}]: is in a migratable group, but 'uses' lacks its operation"),
        ("uses", [*uses, uses[-1]], f"uses[{len(uses)}]: repeats a run of"),
        ("uses", uses[::-1], "uses[1]: has a position before that of an earlier use"),
        ("uses.0", ["x", 0], "uses[0]: must be [operation, occurrence, position or null]"),
        ("uses.0.0", 5, "uses[0][0]: must be a string"),
        ("uses.0.1", None, "uses[0][1]: must be an integer"),
        ("uses.0.2", frames["ops"], "uses[0][2]: must be an integer from 0"),
        ("uses.0.2", None, f"tensors[{born}].position: differs from that of 'uses'"),
    ]
    for path, value, message in cases:
        changed = json.loads(edited(frames, path, value))
        if message.startswith("is not after"):
            changed["moves"].insert(0, changed["moves"].pop(demotion))
        output = program("plan", stdin=json.dumps(changed))
        assert output.startswith("error: "), (path, value)
        assert message in output, (path, value, output)
        assert output.count("\n") == 1


HOSTILE: tuple[Any, ...] = (
    *(None, True, "", "x", [], {}, [[]], -1, 0, 1, 2, 63, 64, 65, 400, 4095, 4096, 4097, 1.5, 1e308),
    *(1 << 31, (1 << 32) - 64, 1 << 40, 1 << 46, (1 << 46) - 64, (1 << 63) - 1, 1 << 63, -(1 << 63)),
)


def hostile(plan: Json, random: Random) -> Json:
    """Return the plan with one to three values, anywhere in it, changed, removed or repeated."""
    changed: Json = json.loads(json.dumps(plan))
    for _ in range(random.randint(1, 3)):
        node: Any = changed
        while True:
            key: Any = random.choice(list(node) if isinstance(node, dict) else range(len(node)))
            if not isinstance(node[key], (dict, list)) or not node[key] or random.random() < 0.1:
                break
            node = node[key]
        action = random.random()
        if action < 0.1:
            del node[key]
        elif action < 0.2 and isinstance(node, list):
            node.insert(key, json.loads(json.dumps(node[key])))
        elif action < 0.5 and type(node[key]) is int:
            node[key] += random.choice((-4096, -64, -1, 1, 4, 64, 4096, 1 << 20))
        else:
            node[key] = random.choice(HOSTILE)
    return changed


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("seed", range(5))
def test_hostile_plans_are_refused_or_executed_safely(
    program: Program, plan: Json, frames: Json, seed: int, version: int
) -> None:
    """Each is refused in one line, or executed without an error of the sanitizers."""
    random = Random(seed)  # noqa: S311 (not a secret)
    plans = "".join(json.dumps(hostile((plan, frames)[version - 1], random)) + "\n" for _ in range(200))
    lines = program("plans", stdin=plans).splitlines()
    assert len(lines) == 200
    assert all(line == "steps" or re.match("error: .", line) for line in lines)
    assert min(lines.count("steps"), len(lines) - lines.count("steps")) >= 10


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1, column 1: syntax error while parsing value - unexpected end of input"),
        ("{", "line 1, column 2: syntax error while parsing object key"),
        ('{"a": 1,\n "a": 2}', "line 2, column 4: duplicate key 'a'"),
        ('{"a": tru}', "line 1, column 10: syntax error while parsing value - invalid literal"),
        ("[1, 2", "line 1, column 6: syntax error while parsing array - unexpected end of input"),
        ("[] []", "unexpected '['; expected end of input"),
        ('"\n"', "control character"),
        ('"\\x"', "forbidden character after backslash"),
        ('"\\u12"', "must be followed by 4 hex digits"),
        ("[" * 100, "line 1, column 66: nested more than 64 levels deep"),
        ("[1e999]", "number overflow"),
        ("99999999999999999999", "the document: not a plan"),
        ("[1]", "the document: not a plan"),
        ("\x1f\x8b\x00", "invalid literal"),
    ],
)
def test_invalid_json_is_refused(program: Program, text: str, message: str) -> None:
    output = program("plan", stdin=text)
    assert output.startswith("error: ")
    assert message in output
    assert output.count("\n") == 1


def test_hash_tables_have_the_layout_of_gcc_4_8(tmp_path: Path) -> None:
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("g++ is not installed")
    header = tmp_path / "old" / "bits" / "hashtable.h"
    header.parent.mkdir(parents=True)
    header.write_text(build.old_hashtable(build.host_header(compiler).read_text()))
    (tmp_path / "test.cc").write_text("""
        #include <cassert>
        #include <string>
        #include <unordered_map>
        using Map = std::unordered_map<std::string, int>;
        static_assert(sizeof(Map) == 48, "gcc 4.8's");
        int main()
        {
            Map map, empty, moved;
            for (int i = 0; i < 1000; i++)
                map[std::to_string(i)] = i;
            for (int i = 0; i < 1000; i += 2)
                map.erase(std::to_string(i));
            Map copy = map;
            moved = std::move(map);
            assert(moved == copy && copy.size() == 500 && copy.at("999") == 999);
            map = empty;
            std::swap(moved, map);
            moved["a"] = 1;
            Map third(std::move(moved));
            moved.clear();
            moved["b"] = 2;
            assert(map.size() == 500 && third.at("a") == 1 && moved.size() == 1);
            copy.clear();
            copy.rehash(0);
            copy["c"] = 3;
            assert(copy.count("c") && !copy.count("999"));
        }
    """)
    flags = ["-std=c++14", "-fsanitize=address,undefined", "-isystem", str(tmp_path / "old")]
    subprocess.run([compiler, *flags, tmp_path / "test.cc", "-o", tmp_path / "test"], check=True)
    subprocess.run([tmp_path / "test"], check=True)


def test_unknown_hash_table_header_is_refused() -> None:
    with pytest.raises(BuildError, match=r"unsupported <bits/hashtable\.h>"):
        build.old_hashtable("class _Hashtable {};")
