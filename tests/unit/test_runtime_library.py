# SPDX-License-Identifier: Apache-2.0
"""The runtime library's parts that need no TensorFlow, compiled here and run under the sanitizers."""

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

from sentinel.runtime import build
from testbed.common.errors import BuildError
from tests import hand_plan

RUNTIME = build.SOURCES
TESTS = Path(__file__).parent / "runtime"
CORE = RUNTIME / "core"
WITHOUT_TENSORFLOW = ("op_effects.cc", "layers.cc")  # know its graphs, not its headers
Program = Callable[..., str]
Json = dict[str, Any]


def compiled(target: Path, sanitizer: str, sources: list[Path]) -> Path:
    if shutil.which("g++") is None:
        pytest.skip("there is no g++ here: apt-get install g++")
    client = target.with_suffix(".o")
    profiler = RUNTIME.parent / "profiler"
    warnings = ["-Wall", "-Wextra", "-Werror"]
    flags = ["-g", *warnings, f"-fsanitize={sanitizer}", f"-I{RUNTIME}", f"-I{profiler / 'include'}"]
    subprocess.run(["gcc", *flags, "-c", profiler / "page_profile.c", "-o", client], check=True)
    subprocess.run(["g++", "-std=c++14", *flags, *sources, client, "-o", target, "-lpthread"], check=True)
    return target


def runner(program: Path) -> Program:
    # As the C library does: no more memory is an answer, and no end
    options = {"ASAN_OPTIONS": "allocator_may_return_null=1", "TSAN_OPTIONS": "die_after_fork=0"}

    def run(*arguments: str, stdin: str = "") -> str:
        done = subprocess.run(
            [program, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=600,  # none takes more than seconds, but on a host with much else to do
            check=False,
            env={**os.environ, **options},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def whole_runtime(folder: Path, sanitizer: str) -> Program:
    sources = [*sorted(CORE.glob("*.cc")), *(RUNTIME / "tensorflow" / name for name in WITHOUT_TENSORFLOW)]
    return runner(compiled(folder / "runtime", sanitizer, [*sources, *sorted(TESTS.glob("*.cc"))]))


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    return whole_runtime(tmp_path_factory.mktemp("runtime"), "address,undefined")


@pytest.fixture(scope="module")
def threaded(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """The same under the thread sanitizer."""
    return whole_runtime(tmp_path_factory.mktemp("threaded"), "thread")


@pytest.fixture(scope="module")
def profile(program: Program) -> Json:
    made: Json = json.loads(program("steps"))
    return made


@pytest.fixture(scope="module")
def plan(profile: Json) -> Json:
    return hand_plan.make(profile)


def test_core_includes_no_framework() -> None:
    allowed = {p.name for p in CORE.glob("*.h")} | {
        f"../../{p}" for p in ("profiler/page_profile.h", "markers/sentinel_markers.h")
    }
    includes = {
        name for p in CORE.iterdir() for name in re.findall(r'^#include "([^"]+)"', p.read_text(), re.M)
    }
    assert includes - allowed == set()


def test_pools_hand_out_what_nobody_else_has(program: Program) -> None:
    program("pools")


def test_moves_are_made_waited_for_and_called_off(program: Program) -> None:
    program("moves")


def test_moves_race_with_nothing(threaded: Program) -> None:
    threaded("moves")


@pytest.mark.parametrize(
    "case",
    [
        "others_begin_first",
        "runs_that_fail",
        "steps_that_nobody_ends",
        "steps_within_steps",
        "operations_that_end_late",
        "operations_at_once",
        "profiles_that_end_in_a_step",
        "plans_that_end_in_a_step",
        "no_addresses_for_pools",
        "no_addresses_for_a_plan",
        "everything_at_once",
        "children",
    ],
)
def test_only_what_the_step_ran_is_the_steps(program: Program, case: str) -> None:
    program("identity", case)


@pytest.mark.parametrize(
    "case", ["everything_at_once", "operations_at_once", "steps_within_steps", "children"]
)
def test_threads_with_steps_of_their_own_race_with_nothing(threaded: Program, case: str) -> None:
    threaded("identity", case)


def test_all_cases_are_run(program: Program) -> None:
    marks = test_only_what_the_step_ran_is_the_steps.pytestmark  # type: ignore[attr-defined]
    assert sorted(marks[0].args[1]) == program("identity").split()


def test_a_step_is_profiled_completely(profile: Json) -> None:
    names = profile["ops"]["name"]
    forward = ["w", "_arg_x", "one/MatMul", "two/Mul", "two/Mul"]
    assert names == [*forward, "gradients/two/Mul_grad/Mul", "gradients/one/MatMul_grad/MatMul"]
    assert profile["ops"]["occurrence"] == [0, 0, 0, 0, 1, 0, 0]
    assert profile["ops"]["layer"] == [0, 0, 0, 1, 1, 2, 3]
    assert profile["graph"] == hashlib.sha256("".join(f"{n}\n" for n in sorted(names)).encode()).hexdigest()
    assert profile["counts"] == "ops"
    assert profile["threads"] == {"inter_op": 1, "intra_op": 1}
    assert any("no such" in w or "no page-access" in w for w in profile["warnings"])
    assert any(w.startswith("1 uses of 8 bytes") for w in profile["warnings"])
    begin, end = profile["ops"]["begin_ns"], profile["ops"]["end_ns"]
    assert all(b <= e for b, e in zip(begin, end, strict=True))
    assert begin == sorted(begin)
    assert end[-1] == profile["step_ns"]


def test_tensors_have_births_uses_and_deaths(profile: Json) -> None:
    large, small, pages = 5 * 4096 + 12, 400, 6
    by_key = {t.get("name") or (t["op"], t["k"], t["thread"]): t for t in profile["tensors"]}
    seen = {
        key: (t["size"], t["birth"], t["death"], t["kind"], t["reads"], t["writes"], t["uses"])
        for key, t in by_key.items()
    }
    assert seen == {
        "w": (large, -1, 7, "variable", 2 * pages, 0, [[2, 1, 0], [6, 1, 0]]),
        "_arg_x": (small, -1, 7, "tensor", 1, 0, [[2, 1, 0]]),
        (2, 0, 0): (large, 2, 3, "scratch", 0, pages, [[2, 0, 1]]),
        (2, 1000000, 1): (small, 2, 3, "scratch", 0, 1, [[2, 0, 1]]),  # by another thread
        (2, 1, 0): (large, 2, 7, "tensor", 3 * pages, pages, [[2, 0, 1], [3, 1, 0], [4, 1, 0], [6, 1, 0]]),
        (3, 0, 0): (small, 3, 4, "scratch", 1, 1, [[3, 1, 1]]),
        (4, 0, 0): (small, 4, 6, "tensor", 2, 1, [[4, 1, 1], [5, 1, 0]]),
        (5, 0, 0): (small, 5, 7, "tensor", 1, 1, [[5, 0, 1], [6, 1, 0]]),
    }


def test_two_profiles_have_the_same_keys(program: Program, profile: Json) -> None:
    times = {"begin_ns", "end_ns"}
    again = json.loads(program("steps"))
    for tensor in (*again["tensors"], *(profile := copy.deepcopy(profile))["tensors"]):
        del tensor["address"]
    assert again["tensors"] == profile["tensors"]
    assert {k: v for k, v in again["ops"].items() if k not in times} == {
        k: v for k, v in profile["ops"].items() if k not in times
    }


def test_a_plan_is_carried_out(program: Program, plan: Json, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(plan))
    stats = json.loads(program("steps", str(path), "5"))
    assert stats["planned_steps"] == 5
    assert stats["planned"] is True
    assert stats["reprofile"] is False
    assert (stats["total"]["unplanned"], stats["total"]["busy"]) == (0, 0)
    # The operation's other thread; the execution of TensorFlow's own is no part of the step
    assert stats["total"]["keyless"] == 5
    in_plan = [t["pool"] for t in plan["tensors"] if "op" in t]
    assert stats["pools"]["arena"]["allocations"] == 5 * in_plan.count("long") > 0
    assert stats["pools"]["reserved"]["allocations"] == 5 * in_plan.count("short") > 0
    assert stats["pools"]["arena"]["live"] == stats["pools"]["reserved"]["live"] == 0
    moves = stats["total"]
    asked = sum(move.get("size", 6 * 4096) for move in plan["moves"])
    assert 0 < sum(moves[k] for k in ("promoted", "demoted", "failed", "absent", "cancelled")) <= 5 * asked


@pytest.mark.parametrize("keep", [True, False])
def test_groups_that_are_to_keep_their_pages_do(
    program: Program, plan: Json, tmp_path: Path, keep: bool
) -> None:
    groups = [{**group, "keep": keep} for group in plan["groups"]]
    path = tmp_path / "plan.json"
    path.write_text(json.dumps({**plan, "groups": groups, "moves": []}))
    stats = json.loads(program("steps", str(path), "2"))
    assert sum(stats["pools"]["arena"]["resident"]) == (plan["arena"] if keep else 0)


def test_without_room_what_comes_and_goes_is_born_in_slow_memory(
    program: Program, plan: Json, tmp_path: Path
) -> None:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps({**plan, "room": 0, "moves": [], "waits": []}))
    stats = json.loads(program("steps", str(path), "3"))
    sizes = [group["size"] for group in plan["groups"] if group["node"] == 0]
    assert stats["step"]["crowded"] == sum(sizes)
    assert stats["room"] == {"peak": 0, "limit": 0}
    path.write_text(json.dumps({**plan, "moves": [], "waits": []}))
    assert json.loads(program("steps", str(path), "3"))["total"]["crowded"] == 0


def test_moves_go_by_operations_however_many_began_before(
    program: Program, plan: Json, tmp_path: Path
) -> None:
    """Variables begin first here, as if they had begun last when the step was profiled."""
    tensors = [{**t, "position": t["position"] - 2} if "op" in t else t for t in plan["tensors"]]
    first = next(t for t in tensors if t.get("op") == "one/MatMul" and t["pool"] == "long")
    groups = [{**group, "node": int(group["offset"] == first["offset"])} for group in plan["groups"]]
    tensors = [{**t, "node": 1} if t is first else t for t in tensors]
    size = next(group["size"] for group in groups if group["node"] == 1)
    move = {"at": 1, "to": 0, "offset": first["offset"], "size": size, "before": 2}
    path = tmp_path / "plan.json"
    path.write_text(json.dumps({**plan, "tensors": tensors, "groups": groups, "moves": [move], "waits": [2]}))
    stats = json.loads(program("steps", str(path), "3"))
    assert stats["total"]["absent"] == 0
    assert stats["total"]["promoted"] >= 2 * size  # in the first steps, which wait


@pytest.mark.parametrize("change", ["loops", "extra"])
def test_a_step_that_changes_asks_for_another_profile(
    program: Program, plan: Json, tmp_path: Path, change: str
) -> None:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(plan))
    assert json.loads(program("steps", str(path), "2", change))["reprofile"] is False
    stats = json.loads(program("steps", str(path), "3", change))
    assert stats["reprofile"] is True
    assert stats["step"]["unplanned"] == (7 if change == "loops" else 1)
    assert stats["step"]["fallback_bytes"] == (7 * 400 if change == "loops" else 5 * 4096 + 12)


def test_a_plan_of_another_graph_asks_for_another_profile(
    program: Program, plan: Json, tmp_path: Path
) -> None:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps({**plan, "graph": "0" * 64}))
    stats = json.loads(program("steps", str(path), "3"))
    assert (stats["planned_steps"], stats["other_steps"], stats["steps"]) == (0, 3, 4)
    assert stats["reprofile"] is True


def test_one_differing_step_leaves_the_plan_in_force(program: Program, plan: Json, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(plan))
    first = json.loads(program("steps", str(path), "1", "first"))
    assert (first["planned_steps"], first["other_steps"], first["step"]["unplanned"]) == (0, 1, 1)
    assert first["pools"]["unplanned"]["allocations"] > 0
    stats = json.loads(program("steps", str(path), "5", "first"))
    assert (stats["planned_steps"], stats["other_steps"], stats["step"]["unplanned"]) == (4, 1, 0)
    assert (stats["planned"], stats["reprofile"]) == (True, False)


def test_places_that_are_taken_are_counted(program: Program, plan: Json, tmp_path: Path) -> None:
    long = [t for t in plan["tensors"] if t["pool"] == "long" and "op" in t]
    changed = json.loads(json.dumps(plan))
    for t in changed["tensors"]:
        if t["pool"] == "long" and "op" in t:
            t["offset"] = 0
            t["node"] = 0
    changed["groups"] = [{"offset": 0, "size": plan["arena"], "node": 0, "keep": False}]
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(changed))
    stats = json.loads(program("steps", str(path), "1"))
    assert stats["total"]["busy"] == len(long) - 1 > 0


def test_layers_begin_where_markers_are(program: Program) -> None:
    ops = ["a/x=Add", "mark=SentinelLayer", "b/x=Add", "c/x=Mul", "gradients/mark=SentinelLayer", "g=Add"]
    assert program("layers", *ops).split() == ["0", "0", "1", "1", "1", "2"]


def test_layers_are_scopes_where_there_are_no_markers(program: Program) -> None:
    scopes = ["a", "b", "c", "d", "gradients/d", "gradients/c", "gradients/b", "gradients/a"]
    ops = [f"{scope}/MatMul=MatMul" for scope in scopes]
    assert program("layers", *ops).split() == [str(n) for n in range(8)]
    # What only hands buffers on begins no layer, nor does a scope that comes again.
    ops = ["d/kernel=VariableV2", "d/read=Identity", *ops[:5], "a/late=Add", *ops[5:]]
    assert program("layers", *ops).split() == ["0", "0", "0", "1", "2", "3", "4", "4", "5", "6", "7"]


def test_one_scope_for_everything_is_looked_into(program: Program) -> None:
    ops = [f"rnn/cell_{n}/MatMul=MatMul" for n in range(5)] + ["gradients/rnn/cell_4/MatMul_grad/x=MatMul"]
    assert program("layers", *ops).split() == ["0", "1", "2", "3", "4", "5"]


def test_products_that_come_again_begin_layers(program: Program) -> None:
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


def test_a_good_plan_is_read(program: Program, plan: Json) -> None:
    counts = f"tensors {len(plan['tensors'])}, moves {len(plan['moves'])}, waits {len(plan['waits'])}\n"
    assert program("plan", stdin=json.dumps(plan)) == counts
    assert program("plan", stdin=json.dumps(plan, indent=2, ensure_ascii=False)) == counts


def edited(plan: Json, path: str, value: object) -> str:
    """The plan with one value set (`...` removes it); `path` as in "moves.3.at"."""
    changed = json.loads(json.dumps(plan))
    *way, last = path.split(".")
    at = changed
    for word in way:
        at = at[int(word) if isinstance(at, list) else word]
    key: Any = int(last) if isinstance(at, list) else last
    if value is ...:
        del at[key]
    else:
        at[key] = value
    return json.dumps(changed)


def place(plan: Json, **wanted: object) -> int:
    """The first tensor of a plan with these values."""
    return next(i for i, t in enumerate(plan["tensors"]) if wanted.items() <= t.items())


def test_bad_plans_are_refused_in_one_line(program: Program, plan: Json) -> None:
    short = place(plan, pool="short")
    named = next(i for i, t in enumerate(plan["tensors"]) if "name" in t)
    long = next(i for i, t in enumerate(plan["tensors"]) if t["pool"] == "long" and "op" in t)
    move = next(i for i, m in enumerate(plan["moves"]) if "offset" in m)
    by_name = next(i for i, m in enumerate(plan["moves"]) if "tensor" in m)
    cases: list[tuple[str, object, str]] = [
        ("format", "sentinel-profile", "is no plan"),
        ("format", ..., "is no plan"),
        ("version", 2, "version: is one that this runtime does not know"),
        ("graph", ..., "has no 'graph'"),
        ("graph", 7, "graph: must be a string"),
        ("ops", 0, "ops: must be an integer from 1"),
        ("ops", 1.5, "ops: must be an integer"),
        ("arena", -1, "arena: must be an integer from 0"),
        ("arena", plan["arena"] + 64, "arena: must be whole pages"),
        ("arena", 1 << 45, "arena: is more than 4 times this machine's memory"),
        ("reserved", 1 << 45, "reserved: is more than 4 times this machine's memory"),
        ("surprise", 1, "has 'surprise', which this version does not know"),
        ("tensors", {}, "tensors: must be a list"),
        (f"tensors.{long}.pool", "middle", f'tensors[{long}].pool: must be "short" or "long"'),
        (f"tensors.{long}.offset", plan["arena"], f"tensors[{long}]: goes beyond the end of the arena"),
        (f"tensors.{short}.offset", 4, f"tensors[{short}].offset: must be a multiple of 64"),
        (f"tensors.{long}.offset", 100, f"tensors[{long}].offset: must be a multiple of 64"),
        (f"tensors.{long}.offset", (1 << 63) - 1, f"tensors[{long}].offset: must be an integer from 0"),
        (f"tensors.{long}.node", 1, f"tensors[{long}].node: is not that of its group"),
        (f"tensors.{long}.node", 2, f"tensors[{long}].node: must be an integer from 0 to 1"),
        (f"tensors.{long}.op", ..., f"tensors[{long}]: has no 'op'"),
        (f"tensors.{long}.colour", "red", f"tensors[{long}]: has 'colour'"),
        (f"tensors.{short}.offset", plan["reserved"], "goes beyond the end of the reserved pool"),
        (f"tensors.{short}.node", 1, f"tensors[{short}].node: must be 0 for what is short-lived"),
        (f"tensors.{named}.offset", 0, f"tensors[{named}].offset: must be null"),
        (f"tensors.{named}.pool", "short", f"tensors[{named}].pool: must be"),
        ("tensors", [plan["tensors"][short]] * 2, "tensors[1]: is there twice"),
        ("tensors", [plan["tensors"][named]] * 2, "tensors[1]: is there twice"),
        ("groups.0.size", 4095, "groups[0]: must be whole pages"),
        ("groups", [], f"tensors[{long}]: is in no group"),
        ("groups.0.size", 4096, "goes beyond its groups"),
        ("groups.0.keep", 1, "groups[0].keep: must be true or false"),
        ("groups.0.keep", ..., "groups[0]: has no 'keep'"),
        ("groups.0.keep", True, "is in a group that is to keep its pages"),
        ("groups", [plan["groups"][0]] * 2, "groups[1]: overlaps another group"),
        (f"moves.{move}.offset", 5, f"moves[{move}]: must be whole pages"),
        (f"moves.{move}.size", 1 << 40, f"moves[{move}]: goes beyond the end of the arena"),
        (f"moves.{move}.to", 2, f"moves[{move}].to: must be an integer from 0 to 1"),
        (f"moves.{move}.before", ..., f"moves[{move}]: has no 'before'"),
        (f"moves.{by_name}.tensor", 99, f"moves[{by_name}].tensor: must be an integer from 0"),
        (f"moves.{by_name}.tensor", long, f"moves[{by_name}].tensor: must be one that has a name"),
        (f"moves.{len(plan['moves']) - 1}.at", -1, "is before that of the move above"),
        ("waits.1", 0, "waits[1]: is not after the one above"),
    ]
    for path, value, message in cases:
        text = edited(plan, path, value)
        if path == "tensors" and value != {}:
            text = edited(json.loads(text), "moves", [])
        said = program("plan", stdin=text)
        assert said.startswith("error: "), (path, value)
        assert message in said, (path, value)
        assert said.count("\n") == 1


HOSTILE: tuple[Any, ...] = (
    *(None, True, "", "x", [], {}, [[]], -1, 0, 1, 2, 63, 64, 65, 400, 4095, 4096, 4097, 1.5, 1e308),
    *(1 << 31, (1 << 32) - 64, 1 << 40, 1 << 46, (1 << 46) - 64, (1 << 63) - 1, 1 << 63, -(1 << 63)),
)


def hostile(plan: Json, random: Random) -> Json:
    """The plan with one to three values, somewhere in it, that are others, removed, or there twice."""
    changed: Json = json.loads(json.dumps(plan))
    for _ in range(random.randint(1, 3)):
        at: Any = changed
        while True:
            key: Any = random.choice(list(at) if isinstance(at, dict) else range(len(at)))
            if not isinstance(at[key], (dict, list)) or not at[key] or random.random() < 0.1:
                break
            at = at[key]
        what = random.random()
        if what < 0.1:
            del at[key]
        elif what < 0.2 and isinstance(at, list):
            at.insert(key, json.loads(json.dumps(at[key])))
        elif what < 0.5 and type(at[key]) is int:
            at[key] += random.choice((-4096, -64, -1, 1, 4, 64, 4096, 1 << 20))
        else:
            at[key] = random.choice(HOSTILE)
    return changed


@pytest.mark.parametrize("seed", range(5))
def test_no_plan_harms_the_process(program: Program, plan: Json, seed: int) -> None:
    """Each is refused in a line, or carried out with tensors where they may be (the sanitizers look on)."""
    random = Random(seed)  # noqa: S311 (no secret)
    said = program("plans", stdin="".join(json.dumps(hostile(plan, random)) + "\n" for _ in range(200)))
    lines = said.splitlines()
    assert len(lines) == 200
    assert all(line == "steps" or re.match("error: .", line) for line in lines)
    assert min(lines.count("steps"), len(lines) - lines.count("steps")) >= 10


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1, column 1: expected a value"),
        ("{", "line 1, column 2: expected '\"'"),
        ('{"a": 1,\n "a": 2}', "line 2, column 6: 'a' is there twice"),
        ('{"a": tru}', "expected a value"),
        ("[1, 2", "expected ']'"),
        ("[] []", "something after the end"),
        ('"\n"', "a string without an end"),
        ('"\\x"', "unknown escape"),
        ('"\\u12"', "four hexadecimal digits"),
        ("[" * 100, "nested too deeply"),
        ("99999999999999999999", "expected a value"),
        ("[1]", "must be an object"),
        ("\x1f\x8b\x00", "expected a value"),
    ],
)
def test_what_is_no_json_is_refused(program: Program, text: str, message: str) -> None:
    said = program("plan", stdin=text)
    assert said.startswith("error: ")
    if message != "must be an object":
        assert message in said


def test_hash_tables_have_the_old_layout(tmp_path: Path) -> None:
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("there is no g++ here: apt-get install g++")
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


def test_another_hash_table_is_refused() -> None:
    with pytest.raises(BuildError, match="is another one"):
        build.old_hashtable("class _Hashtable {};")
