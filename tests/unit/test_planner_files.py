# SPDX-License-Identifier: Apache-2.0
"""Files of profiles, plans and figures: round trips, and messages for invalid ones."""

from __future__ import annotations

import ast
import copy
import gzip
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sentinel.planner
from sentinel.planner.errors import FormatError
from sentinel.planner.formats import figures as figures_format
from sentinel.planner.formats import files
from sentinel.planner.formats import plan as plan_format
from sentinel.planner.formats import profile_json as profile_format
from sentinel.planner.formats.figures import Figures, Memory
from sentinel.planner.memory import classify
from sentinel.planner.search import make_plan
from tests.fakes import networks, profiles

FIGURES = Figures(nodes=(Memory(100, 105, 85), Memory(305, 39.4, 13.9)))
FOLDER = Path(sentinel.planner.__file__).parent

GOOD = profiles.value(
    [0, 0, 1, 2],
    [1000] * 4,
    [
        {"size": 5000, "birth": 0, "death": 3, "uses": [[0, 0, 1], [2, 1, 0]]},
        {"size": 100, "birth": 1, "death": 2, "uses": [[1, 1, 1]], "kind": "scratch"},
        {"size": 8192, "birth": -1, "death": 4, "uses": [[0, 1, 0]]},
    ],
)
PLAN = plan_format.encode(make_plan(profile_format.parse(GOOD), 1 << 20, FIGURES))
FRAMES_PLAN = {
    **PLAN,
    "version": 2,
    "frames": 8192,
    "cores": 4,
    "groups": [
        {"offset": 0, "size": 8192, "node": 0, "keep": False, "frame": 0},
        {"offset": 8192, "size": 4096, "node": 1, "keep": False, "frame": None},
        {"offset": 12288, "size": 4096, "node": 0, "keep": True, "frame": None},
    ],
    "moves": [
        {"at": 1, "to": 1, "before": 3, "offset": 0, "size": 8192, "map": 2, "frame": None, "copy": True},
        {"at": 3, "to": 0, "before": 4, "offset": 0, "size": 8192, "map": 3, "frame": 4096, "copy": False},
        {"at": 3, "to": 0, "before": 4, "tensor": 2},
    ],
    "uses": [["op0", 0, None], ["op2", 0, 2]],
}


def check_refusal(read: Callable[[Path], object], file: Path, value: Any, message: str) -> None:
    """Check that a file with `value` is refused with one line, which begins with the file and `message`."""
    file.write_text(json.dumps(value))
    with pytest.raises(FormatError) as e:
        read(file)
    assert str(e.value).startswith(f"{file}: {message}")
    assert "\n" not in str(e.value)


def changed(value: dict[str, Any], *path: Any, to: Any) -> dict[str, Any]:
    """Return a copy with the field at `path` set to `to`; `...` removes it."""
    result = copy.deepcopy(value)
    parent: Any = result
    for name in path[:-1]:
        parent = parent[name]
    if to is ...:
        del parent[path[-1]]
    else:
        parent[path[-1]] = to
    return result


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6))
def test_profile_survives_encoding(seed: int) -> None:
    value = profiles.random_value(seed)
    profile = profile_format.parse(value)
    again = profile_format.encode(profile)
    assert again == {**value, "tensors": again["tensors"]}
    assert all(
        {**old, **new} == new for old, new in zip(value["tensors"], again["tensors"], strict=True)
    )  # `name` is only written if it is the key


def test_exact_savings_survive_encoding() -> None:
    count = sum(len(tensor["uses"]) for tensor in GOOD["tensors"])
    value = {**GOOD, "saved_ns": [0.5 * i - 1 for i in range(count)]}
    profile = profile_format.parse(value)
    assert profile.uses.saved_ns is not None
    assert profile_format.encode(profile)["saved_ns"] == value["saved_ns"]
    assert "saved_ns" not in profile_format.encode(profile_format.parse(GOOD))


@pytest.mark.parametrize("name", ["p.json", "p.json.gz"])
def test_equal_profiles_and_plans_give_equal_files(tmp_path: Path, name: str) -> None:
    profile = networks.resnet()
    path = tmp_path / name
    files.write_profile(path, profile)
    data = path.read_bytes()
    files.write_profile(path, files.read_profile(path))
    assert path.read_bytes() == data
    assert (data[:2] == b"\x1f\x8b") == name.endswith(".gz")
    plan = make_plan(profile, 4 << 20, FIGURES)
    files.write_plan(path, plan)
    assert files.read_plan(path) == plan
    assert files.read_profile_or_plan(path) == plan
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_figures_survive_a_file(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    path.write_text(json.dumps(figures_format.encode(FIGURES)))
    assert files.read_figures(path) == FIGURES


@pytest.mark.parametrize(
    ("path", "to", "message"),
    [
        (("format",), "sentinel-plan", "format: must be sentinel-profile, not 'sentinel-plan'"),
        (("format",), ..., "format: is missing"),
        (("version",), 2, "version: this planner reads version 1, not 2"),
        (("version",), True, "version: this planner reads version 1, not True"),
        (("graph",), "0" * 64, "graph: is not the digest of ops.name; was the file edited?"),
        (("graph",), 7, "graph: must be text, not 7"),
        (("page",), 5000, "page: must be a power of two, not 5000"),
        (("page",), 0, "page: must be a whole number from 64 to 1073741824, not 0"),
        (("page",), 1 << 62, "page: must be a whole number from 64 to 1073741824, not"),
        (("step_ns",), 0, "step_ns: must be a whole number of at least 1, not 0"),
        (("ops", "layer", 3), 1 << 63, "ops.layer[3]: must be from 0 to 2^62"),
        (("counts",), "guess", "counts: must be one of kernel, ops, not 'guess'"),
        (("clock",), None, "clock: must be one of model, guest, cpu, not None"),
        (("threads",), [], "threads: must be an object, not a list"),
        (("threads", "intra_op"), -1, "threads.intra_op: must be a whole number of at least 0, not -1"),
        (("step_ns",), 1.5, "step_ns: must be a whole number of at least 1, not 1.5"),
        (("ops",), ..., "ops: is missing"),
        (("ops", "name"), [], "ops.name: must name at least one operation"),
        (("ops", "name", 2), 5, "ops.name[2]: must be text, not 5"),
        (("ops", "layer"), [0, 0], "ops.layer: has 2 entries, but ops.name has 4"),
        (("ops", "layer", 2), -1, "ops.layer[2]: must be from 0 to 2^62, not -1"),
        (("ops", "layer", 3), 0, "ops.layer[3]: is less than the previous entry"),
        (("ops", "begin_ns", 1), 99999, "ops.begin_ns[2]: is less than the previous entry"),
        (("ops", "end_ns", 1), 999, "ops.end_ns[1]: is before the operation's begin_ns"),
        (("ops", "begin_ns", 0), 1 << 63, "ops.begin_ns[0]: must be from 0 to 2^62"),
        (("tensors",), {}, "tensors: must be a list, not an object"),
        (("tensors", 1), [], "tensors[1]: must be an object, not a list"),
        (("tensors", 1, "size"), ..., "tensors[1].size: is missing"),
        (("tensors", 1, "size"), -1, "tensors[1].size: must be from 0 to 2^62, not -1"),
        (("tensors", 1, "size"), True, "tensors[1].size: must be a whole number, not True"),
        (("tensors", 1, "size"), 1 << 48, "tensors[1].size: 281474976710656 bytes exceed the address space"),
        (("tensors", 1, "writes"), 1 << 61, "tensors: the sum of `writes` must be at most 2^60"),
        (("tensors", 1, "birth"), 0, "tensors[1].birth: 0 is before the operation that allocates it begins"),
        (("tensors", 1, "touched"), -1, "tensors[1].touched: must be from 0 to 2^62, not -1"),
        (("tensors", 0, "op"), 4, "tensors[0].op: 4 is not a position before 4"),
        (("tensors", 0, "birth"), 4, "tensors[0].birth: 4 is not a position before 4"),
        (("tensors", 0, "birth"), -1, "tensors[0].birth: -1 contradicts `op`"),
        (("tensors", 0, "death"), 5, "tensors[0].death: 5 is after the step, which ends at 4"),
        (("tensors", 0, "death"), 0, "tensors[0].death: 0 is not after its birth"),
        (("tensors", 0, "kind"), "thing", "tensors[0].kind: must be one of tensor, variable, scratch"),
        (("tensors", 0, "kind"), [], "tensors[0].kind: must be one of tensor, variable, scratch, not a list"),
        (("tensors", 0, "kind"), "variable", "tensors[0].birth: 0 is within the step"),
        (("tensors", 0, "kind"), "scratch", "tensors[0].death: 3 is not the end of the operation"),
        (("tensors", 2, "death"), 3, "tensors[2].death: 3 is within the step, but a variable outlives it"),
        (("tensors", 2, "name"), ..., "tensors[2].name: is missing"),
        (("tensors", 2, "name"), 3, "tensors[2].name: must be text, not 3"),
        (("tensors", 0, "uses"), 3, "tensors[0].uses: must be a list, not 3"),
        (("tensors", 0, "uses", 1), [2, 1], "tensors[0].uses[1]: must be [position, reads, writes]"),
        (("tensors", 0, "uses", 1), [2, "1", 0], "tensors[0].uses[1]: must be a whole number, not '1'"),
        (
            ("tensors", 0, "uses", 1),
            [0, 1, 0],
            "tensors[0].uses[1]: position 0 is not after the previous one",
        ),
        (
            ("tensors", 0, "uses", 1),
            [3, 1, 0],
            "tensors[0].uses[1]: position 3 is outside the tensor's lifetime",
        ),
        (
            ("tensors", 1, "uses", 0),
            [0, 1, 0],
            "tensors[1].uses[0]: position 0 is outside the tensor's lifetime",
        ),
        (("warnings",), ["a", 1], "warnings[1]: must be text, not 1"),
        (("saved_ns",), [1], "saved_ns: has 1 entries, but the tensors have"),
        (("saved_ns",), [True], "saved_ns[0]: must be a number from -2^62 to 2^62, not True"),
        (("saved_ns",), [math.nan], "saved_ns[0]: must be a number from -2^62 to 2^62, not nan"),
        (("saved_ns",), [0, 1e19], "saved_ns[1]: must be a number from -2^62 to 2^62, not 1e+19"),
    ],
)
def test_invalid_profile_is_refused_with_the_field(
    tmp_path: Path, path: tuple[Any, ...], to: Any, message: str
) -> None:
    check_refusal(files.read_profile, tmp_path / "p.json", changed(GOOD, *path, to=to), message)


def test_uses_of_scratch_follow_its_accesses() -> None:
    scratch = {"size": 5000, "birth": 1, "death": 2, "uses": [], "kind": "scratch", "reads": 0, "writes": 2}
    step = profiles.small([0, 0], [1, 1], [scratch])
    uses = step.uses
    assert [u.tolist() for u in (uses.tensor, uses.position, uses.reads, uses.writes)] == [[0], [1], [0], [1]]


def test_untouched_pages_occupy_no_memory() -> None:
    tensor = {"size": 50_000, "birth": 0, "death": 1, "uses": []}
    for touched, resident_bytes in ((None, 50_000), (0, 0), (8192, 8192), (53_248, 50_000), (10**9, 50_000)):
        step = profiles.small([0], [1], [{**tensor, **({} if touched is None else {"touched": touched})}])
        assert step.tensors.resident_bytes.tolist() == [resident_bytes]
        assert classify.peak(step) == resident_bytes


def test_duplicate_keys_are_refused() -> None:
    twins = [{"size": 8, "birth": 0, "death": 1, "uses": [], "k": 0}] * 2
    with pytest.raises(FormatError, match=r"tensors\[1\]: has the same key as tensors\[0\]"):
        profiles.small([0], [1], twins)


@pytest.mark.parametrize(
    ("path", "to", "message"),
    [
        (("format",), "sentinel-profile", "format: must be sentinel-plan, not 'sentinel-profile'"),
        (("version",), 0, "version: this planner reads version 1 and 2, not 0"),
        (("budget",), "1", "budget: must be a whole number of at least 0, not '1'"),
        (("interval_layers",), 0, "interval_layers: must be a whole number of at least 1, not 0"),
        (("intervals",), [0, "x"], "intervals[1]: must be a whole number, not 'x'"),
        (("tensors", 0, "pool"), "mid", "tensors[0].pool: must be one of short, long, not 'mid'"),
        (("tensors", 0, "offset"), None, "tensors[0].offset: must be a whole number of at least 0, not None"),
        (("tensors", 0, "node"), 2, "tensors[0].node: must be a whole number from 0 to 1, not 2"),
        (("tensors", 2, "name"), ..., "tensors[2].name: is missing"),
        (("groups", 0, "size"), 0, "groups[0].size: must be a whole number of at least 1, not 0"),
        (("moves",), [{"at": 0, "to": 2, "before": 1}], "moves[0].to: must be a whole number from 0 to 1"),
        (("moves",), [{"at": 0, "to": 1, "before": 1}], "moves[0].offset: is missing"),
        (("moves",), [{"at": 0, "to": 1, "before": 1, "tensor": 0}], "moves[0].tensor: 0 is not a variable"),
        (("moves",), [{"at": 0, "to": 1, "before": 1, "tensor": 9}], "moves[0].tensor: 9 is not a variable"),
        (
            ("moves",),
            [{"at": 0, "to": 1, "before": 1, "tensor": 2, "offset": 0, "size": 4096}],
            "moves[0].offset: a move has either an offset or a tensor",
        ),
        (("predicted", "step_ns"), ..., "predicted.step_ns: is missing"),
        (("predicted",), [], "predicted: must be an object, not a list"),
        (("made",), ..., "made: is missing"),
    ],
)
def test_invalid_plan_is_refused_with_the_field(
    tmp_path: Path, path: tuple[Any, ...], to: Any, message: str
) -> None:
    check_refusal(files.read_plan, tmp_path / "plan.json", changed(PLAN, *path, to=to), message)


def test_plan_with_frames_survives_encoding() -> None:
    plan = plan_format.parse(FRAMES_PLAN)
    assert plan.has_frames
    assert plan.uses[0].position is None
    assert plan_format.encode(plan) == FRAMES_PLAN
    without = {name: value for name, value in FRAMES_PLAN.items() if name != "cores"}
    assert plan_format.encode(plan_format.parse(without)) == without


@pytest.mark.parametrize(
    ("path", "to", "message"),
    [
        (("frames",), ..., "frames: is missing"),
        (("cores",), 0, "cores: must be a whole number of at least 1, not 0"),
        (("groups", 0, "frame"), None, "groups[0].frame: must be a whole number of at least 0, not None"),
        (("moves", 0, "map"), 4, "moves[0].map: must be a whole number from 1 to 3, not 4"),
        (("moves", 0, "copy"), 1, "moves[0].copy: must be true or false, not 1"),
        (("moves", 1, "frame"), -1, "moves[1].frame: must be a whole number of at least 0, not -1"),
        (("uses", 0), ["op0", 0], "uses[0]: must be [operation, occurrence, position or null]"),
        (("uses", 1, 2), -1, "uses[1]: must be [operation, occurrence, position or null]"),
        (("uses", 1, 1), None, "uses[1]: must be [operation, occurrence, position or null]"),
    ],
)
def test_invalid_plan_with_frames_is_refused_with_the_field(
    tmp_path: Path, path: tuple[Any, ...], to: Any, message: str
) -> None:
    check_refusal(files.read_plan, tmp_path / "plan.json", changed(FRAMES_PLAN, *path, to=to), message)


@pytest.mark.parametrize(
    ("path", "to", "message"),
    [
        (("nodes",), [], "nodes: must have two items, fast and slow, not 0"),
        (("nodes", 1, "read_latency"), 0, "nodes[1].read_latency: must be a number above 0, not 0"),
        (("nodes", 1, "read_latency"), float("nan"), "nodes[1].read_latency: must be a number above 0"),
        (("helpers",), 0, "helpers: must be a whole number of at least 1, not 0"),
        (("page",), "1500 ns", "page: must be a number above 0, not '1500 ns'"),
    ],
)
def test_invalid_figures_are_refused_with_the_field(
    tmp_path: Path, path: tuple[Any, ...], to: Any, message: str
) -> None:
    check_refusal(
        files.read_figures,
        tmp_path / "figures.json",
        changed(figures_format.encode(FIGURES), *path, to=to),
        message,
    )


TEXT = json.dumps(GOOD).encode()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is not JSON, or is incomplete"),
        (TEXT[:-20], "is not JSON, or is incomplete"),
        (gzip.compress(TEXT, mtime=0)[:-30], "is damaged or incomplete"),
        (gzip.compress(TEXT, mtime=0)[:11], "is damaged or incomplete"),
        (b"\x1f\x8bnonsense", "is damaged or incomplete"),
        (gzip.compress(TEXT, mtime=0)[:-8] + bytes(8), "is damaged or incomplete"),
        (b"\xff\xfe\x00", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[1, 2]", "the document: must be an object, not a list"),
        (b"null", "the document: must be an object, not None"),
        (b'{"cells": []}', "format: is missing"),
    ],
)
@pytest.mark.parametrize("read", [files.read_profile, files.read_plan, files.read_figures])
def test_invalid_file_is_refused(
    tmp_path: Path, read: Callable[[Path], object], data: bytes, message: str
) -> None:
    file = tmp_path / "p.json.gz"
    file.write_bytes(data)
    with pytest.raises(FormatError) as e:
        read(file)
    assert str(e.value).startswith(f"{file}: {message}")
    assert "\n" not in str(e.value)


def test_unknown_format_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "p.json"
    file.write_text('{"format": "other"}')
    with pytest.raises(FormatError, match=r"format: must be sentinel-profile or sentinel-plan, not 'other'"):
        files.read_profile_or_plan(file)


def test_unreadable_and_unwritable_files_are_reported(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"none\.json: cannot be read: No such file"):
        files.read_profile(tmp_path / "none.json")
    with pytest.raises(FormatError, match=r"cannot be read: Is a directory"):
        files.digest(tmp_path)
    with pytest.raises(FormatError, match=r"none/p\.json: cannot be written: No such file"):
        files.write_profile(tmp_path / "none" / "p.json", profile_format.parse(GOOD))


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.py")), ids=lambda path: str(path.relative_to(FOLDER)))
def test_package_needs_only_python_3_9_and_numpy(path: Path) -> None:
    tree = ast.parse(path.read_text(), feature_version=(3, 9))
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            imported.add((node.module or "").partition(".")[0])
    assert imported - sys.stdlib_module_names <= {"numpy"}
