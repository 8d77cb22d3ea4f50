# SPDX-License-Identifier: Apache-2.0
"""The guest's own code, as far as it can be tried outside: system calls, counters, and its old Python."""

from __future__ import annotations

import ast
import ctypes
import importlib.util
import io
import json
import shutil
import subprocess
import sys
import threading
import types
from pathlib import Path
from typing import Any, get_args

import pytest

from experiments.job import GUEST_CODE
from experiments.suite import MODELS, Placement

NUMA_MAPS = """\
00400000 default file=/usr/bin/python2.7 mapped=300 mapmax=2 N0=200 N1=100 kernelpagesize_kB=4
0090c000 default anon=10 dirty=10 N0=10 kernelpagesize_kB=4
01b2b000 bind:1 heap anon=700 dirty=700 N0=300 N1=400 kernelpagesize_kB=4
7f0000000000 interleave:0-1 anon=3 dirty=3 N0=1 N1=2 kernelpagesize_kB=2048
7f1000000000 default file=/NEW/N0=9/x mapped=1 N1=1 kernelpagesize_kB=4
7f2000000000 default stack:N7 anon=2 dirty=2 active=0 N1=2
7ffd00000000 default stack
7ffe00000000 default
"""
VMSTAT = """\
nr_free_pages 100
numa_hit 5
numa_pages_migrated 6
pgmigrate_success 7
pgfault 8
pgalloc_normal 9
thp_fault_alloc 10
workingset_refault 11
"""


def load(name: str) -> Any:
    """A module of the guest's package, as it is called there."""
    package = types.ModuleType("guest")
    package.__path__ = [str(GUEST_CODE)]
    sys.modules["guest"] = package
    spec = importlib.util.spec_from_file_location(f"guest.{name}", GUEST_CODE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[f"guest.{name}"] = module
    setattr(package, name, module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Any:
    return load("memory")


def serve(monkeypatch: pytest.MonkeyPatch, module: Any, content: dict[str, str]) -> None:
    """Let the module read these instead of the files of that name."""

    def fake_open(path: Any, *args: Any, **kwargs: Any) -> Any:
        return io.StringIO(content[path]) if path in content else Path(path).open(*args, **kwargs)

    monkeypatch.setattr(module, "open", fake_open, raising=False)


def test_residency_adds_up_pages_by_node_and_kind(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, memory, {"/proc/self/numa_maps": NUMA_MAPS})
    page, large = 4096, 2 << 20
    assert memory.residency() == {
        "anon": {"0": (10 + 300) * page + large, "1": (400 + 2) * page + 2 * large},
        "file": {"0": 200 * page, "1": 101 * page},
    }


def test_residency_of_a_process_with_nothing_is_nothing(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, memory, {"/proc/self/numa_maps": ""})
    assert memory.residency() == {"anon": {}, "file": {}}


def test_only_the_counters_that_tell_of_placement_are_read(
    memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(monkeypatch, memory, {"/proc/vmstat": VMSTAT})
    assert memory.vmstat() == {
        "numa_hit": 5,
        "numa_pages_migrated": 6,
        "pgmigrate_success": 7,
        "pgfault": 8,
        "pgalloc_normal": 9,
        "thp_fault_alloc": 10,
    }


def test_the_guest_knows_the_placements_and_models_of_a_suite(memory: Any) -> None:
    assert set(memory.PLACEMENTS) == set(get_args(Placement))
    tree = ast.parse((GUEST_CODE / "models.py").read_text())
    functions = {n.name: [a.arg for a in n.args.args] for n in tree.body if isinstance(n, ast.FunctionDef)}
    for name, parameters in MODELS.items():
        assert functions[name] == list(parameters)
    (builders,) = [
        n.value
        for n in tree.body
        if isinstance(n, ast.Assign) and isinstance(n.targets[0], ast.Name) and n.targets[0].id == "BUILDERS"
    ]
    assert isinstance(builders, ast.Dict)
    assert {ast.literal_eval(key) for key in builders.keys if key is not None} == set(MODELS)


class Calls:
    """Takes the place of the C library."""

    def __init__(self, result: int = 0) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self._result = result

    def syscall(self, *arguments: Any) -> int:
        self.calls.append(tuple(self._plain(a) for a in arguments))
        return self._result

    @staticmethod
    def _plain(argument: Any) -> Any:
        if argument is None:
            return None
        if hasattr(argument, "_obj"):  # what ctypes.byref makes
            return [argument._obj.value]
        if isinstance(argument, ctypes.Array):
            return list(argument)
        return argument.value


@pytest.mark.parametrize(
    ("placement", "calls"),
    [
        ("fast-only", [(238, 2, [0b01], 65), (256, 0, 65, [0b11111110], [0b01])]),
        ("slow-only", [(238, 2, [0b10], 65), (256, 0, 65, [0b11111101], [0b10])]),
        (
            "interleave",
            [
                (279, 0, 2, [0x1000, 0x2000], [1, 0], [0, 0], 2),
                (279, 0, 1, [0x7000], [1], [0], 2),
                (238, 3, [0b11], 65),
            ],
        ),
        ("first-touch", [(238, 0, None, 0)]),
    ],
)
def test_a_placement_is_these_system_calls(
    memory: Any, monkeypatch: pytest.MonkeyPatch, placement: str, calls: list[tuple[Any, ...]]
) -> None:
    libc = Calls()
    monkeypatch.setattr(memory, "_libc", libc)
    maps = "1000-3000 rw-p 0 0 0 [heap]\n3000-4000 ---p 0 0 0\n"
    maps += "5000-6000 r--p 0 0 0 [vvar]\n7000-8000 rw-p 0 0 0\n"
    serve(monkeypatch, memory, {"/proc/self/maps": maps})
    memory.place(placement)
    assert libc.calls == calls


def test_a_refused_call_is_an_oserror_with_its_errno(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_libc", Calls(result=-1))
    ctypes.set_errno(22)
    with pytest.raises(OSError, match="Invalid argument") as caught:
        memory.set_policy("bind", [1])
    assert caught.value.errno == 22


def test_the_real_kernel_takes_the_calls(memory: Any) -> None:
    """In a thread, since a policy is a thread's own; node 0 is there on every host."""
    outcome: list[BaseException | None] = []

    def work() -> None:
        try:
            memory.set_policy("bind", [0])
            memory.set_policy("default", [])
            outcome.append(None)
        except OSError as e:
            outcome.append(e)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if isinstance(outcome[0], OSError) and outcome[0].errno in (1, 38):
        pytest.skip("this host does not allow set_mempolicy")
    assert outcome == [None]


def test_a_process_waits_at_its_barrier_for_an_order(tmp_path: Path) -> None:
    load("memory")
    train = load("train")
    got: list[Any] = []
    thread = threading.Thread(target=lambda: got.append(train.wait_for_order(str(tmp_path), 1)), daemon=True)
    thread.start()
    for _ in range(500):
        if (tmp_path / "waiting").exists():
            break
        thread.join(0.01)
    assert thread.is_alive()
    assert json.loads((tmp_path / "waiting").read_text())["prepare_ns"] > 0
    assert (tmp_path / "barrier").is_fifo()
    (tmp_path / "barrier").write_text('{"placement": "fast-only"}')
    thread.join(5)
    assert got == [{"placement": "fast-only"}]


def test_its_clock_is_the_monotonic_one() -> None:
    import time

    load("memory")
    train = load("train")
    before = time.monotonic_ns()
    read = train.monotonic_ns()
    assert before <= read <= time.monotonic_ns()


@pytest.fixture(scope="module")
def python2() -> str:
    """A python2.7 that runs (a version manager's stub may only say that it cannot)."""
    found = shutil.which("python2.7")
    if found and subprocess.run([found, "-c", ""], check=False, capture_output=True).returncode == 0:
        return found
    pytest.skip("there is no python2.7: apt-get install python2.7 (Debian 11)")


@pytest.mark.parametrize("path", sorted(GUEST_CODE.glob("*.py")), ids=lambda path: path.name)
def test_the_guests_python_can_compile_it(python2: str, path: Path) -> None:
    check = "import sys; compile(open(sys.argv[1]).read(), sys.argv[1], 'exec')"
    subprocess.run([python2, "-B", "-c", check, path], check=True, timeout=20)


def test_the_guests_python_reads_residency_alike(python2: str, tmp_path: Path) -> None:
    (tmp_path / "maps").write_text(NUMA_MAPS)
    check = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); import memory\n"
        "memory.open = lambda _: open(sys.argv[2])\nprint(json.dumps(memory.residency()))"
    )
    command = [python2, "-B", "-c", check, str(GUEST_CODE), str(tmp_path / "maps")]
    said = subprocess.run(command, check=True, capture_output=True, timeout=20).stdout
    assert json.loads(said)["file"] == {"0": 200 * 4096, "1": 101 * 4096}


NEW_SYNTAX = (ast.JoinedStr, ast.NamedExpr, ast.AsyncFunctionDef, ast.AnnAssign, ast.Nonlocal)


@pytest.mark.parametrize("path", sorted(GUEST_CODE.glob("*.py")), ids=lambda path: path.name)
def test_it_uses_nothing_that_came_after_python2(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)
    assert [type(node).__name__ for node in ast.walk(tree) if isinstance(node, NEW_SYNTAX)] == []
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    assert not [f.name for f in functions if f.args.kwonlyargs or f.returns or f.args.posonlyargs]
    assert text.isascii() or "coding" in text.splitlines()[0]
    if functions:
        assert "from __future__ import absolute_import, division, print_function" in text


@pytest.mark.parametrize("name", ["memory", "train"])
def test_it_imports_only_what_the_guest_has(name: str) -> None:
    tree = ast.parse((GUEST_CODE / f"{name}.py").read_text())
    imported = {a.name.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    imported |= {str(n.module).split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    standard = {"__future__", "contextlib", "ctypes", "gc", "json", "os", "sys", "warnings"}
    assert imported <= standard | {"guest", "tensorflow", "numpy"}
