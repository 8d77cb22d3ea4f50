# SPDX-License-Identifier: Apache-2.0
"""The guest's memory policy, residency and kernel counters."""

from __future__ import annotations

import ctypes
import io
import json
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from experiments import policies
from tests.fakes import guest
from tests.unit import test_guest_code

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
MAPS = """\
1000-3000 rw-p 0 0 0 [heap]
3000-4000 ---p 0 0 0
5000-6000 r--p 0 0 0 [vvar]
7000-8000 rw-p 0 0 0
"""
python2 = test_guest_code.python2


@pytest.fixture
def memory() -> Any:
    return guest.load("guest.bindings.memory")


def serve(monkeypatch: pytest.MonkeyPatch, module: Any, content: dict[str, str]) -> None:
    """Replace the content of these files for the module."""

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


def test_residency_of_an_empty_process_is_empty(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, memory, {"/proc/self/numa_maps": ""})
    assert memory.residency() == {"anon": {}, "file": {}}


def test_residency_is_the_same_on_python2(python2: str, tmp_path: Path) -> None:
    (tmp_path / "maps").write_text(NUMA_MAPS)
    check = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); from guest.bindings import memory\n"
        "memory.open = lambda _: open(sys.argv[2])\nprint(json.dumps(memory.residency()))"
    )
    command = [python2, "-B", "-c", check, str(guest.GUEST.parent), str(tmp_path / "maps")]
    output = subprocess.run(command, check=True, capture_output=True, timeout=20).stdout
    assert json.loads(output)["file"] == {"0": 200 * 4096, "1": 101 * 4096}


def test_vmstat_has_counters_of_placement_and_migration(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, memory, {"/proc/vmstat": VMSTAT})
    assert memory.vmstat() == {
        "numa_hit": 5,
        "numa_pages_migrated": 6,
        "pgmigrate_success": 7,
        "pgfault": 8,
        "pgalloc_normal": 9,
        "thp_fault_alloc": 10,
    }


class Libc:
    """A C library that records system calls."""

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
        if hasattr(argument, "_obj"):  # a ctypes.byref
            return [argument._obj.value]
        if isinstance(argument, ctypes.Array):
            return list(argument)
        return argument.value


@pytest.mark.parametrize(
    ("policy", "calls"),
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
        ("sentinel", [(238, 0, None, 0)]),
    ],
)
def test_the_order_of_a_policy_makes_these_system_calls(
    memory: Any, monkeypatch: pytest.MonkeyPatch, policy: str, calls: list[tuple[Any, ...]]
) -> None:
    libc = Libc()
    monkeypatch.setattr(memory, "_libc", libc)
    serve(monkeypatch, memory, {"/proc/self/maps": MAPS})
    memory.place(**policies.get(policy).order()["memory"])
    assert libc.calls == calls


def test_a_failed_call_raises_oserror_with_its_errno(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_libc", Libc(result=-1))
    ctypes.set_errno(22)
    with pytest.raises(OSError, match="Invalid argument") as caught:
        memory.set_policy("bind", [1])
    assert caught.value.errno == 22


def test_the_host_kernel_accepts_the_calls(memory: Any) -> None:
    """In a thread, since a policy belongs to a thread. Every host has node 0."""
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


def test_sysctls_are_written_below_proc_sys(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    written: dict[str, io.StringIO] = {}

    class File(io.StringIO):
        def close(self) -> None:
            pass

    def fake_open(path: str, mode: str) -> io.StringIO:
        assert mode == "w"
        return written.setdefault(path, File())

    monkeypatch.setattr(memory, "open", fake_open, raising=False)
    memory.set_sysctls({"kernel.numa_balancing": "1", "vm.zone_reclaim_mode": "0"})
    assert {path: file.getvalue() for path, file in written.items()} == {
        "/proc/sys/kernel/numa_balancing": "1",
        "/proc/sys/vm/zone_reclaim_mode": "0",
    }
