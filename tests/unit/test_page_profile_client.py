# SPDX-License-Identifier: Apache-2.0
"""The profiler's Python client on a fake device: its calls and its errors."""

from __future__ import annotations

import ast
import ctypes
import errno
import itertools
import json
import mmap
import os
import re
import shutil
import struct
import subprocess
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kernel import series
from tests.fakes import guest
from tests.unit import test_guest_code

CLIENT = guest.GUEST / "bindings" / "page_profile.py"
SELFTEST = series.FOLDER.parent / "selftests" / "client.py"
INCLUDE = guest.GUEST.parent / "profiler" / "include"
HEADER = INCLUDE / "linux" / "page_profile.h"
STRUCTURES = {"config": "_Config", "range": "_Range", "count": "_Count", "stats": "_Stats"}
PAGE = mmap.PAGESIZE

python2 = test_guest_code.python2


class Kernel:
    """A fake of the C library and of the device, a file that holds the counters."""

    def __init__(self, client: Any, file: Path) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.refuse: dict[str, int] = {}
        self._file = file
        self._names = {number: name for name, number in client.IOCTLS.items()}
        self._offsets = itertools.count(PAGE, PAGE)
        file.write_bytes(bytes(16 * PAGE))

    def open(self, path: str, flags: int) -> int:
        if self._refused(path, flags):
            raise OSError(self.refuse[path], os.strerror(self.refuse[path]))
        return os.open(self._file, flags)

    def ioctl(self, _fd: int, command: Any, pointer: Any) -> int:
        name = self._names[command.value]
        argument: Any = pointer._obj if pointer else None  # the argument of ctypes.byref
        refused = self._refused(name, *self._plain(argument) if name != "PAGE_PROFILE_STATS" else ())
        if name == "PAGE_PROFILE_ADD":
            argument.offset = next(self._offsets)
        if name == "PAGE_PROFILE_STATS":
            for number, (field, _) in enumerate(argument._fields_):
                setattr(argument, field, 2**40 + number)
        return refused

    @staticmethod
    def _plain(argument: Any) -> list[int]:
        if isinstance(argument, ctypes.Structure):
            return [getattr(argument, field[0]) for field in argument._fields_ if field[0] != "offset"]
        return [] if argument is None else [argument.value]

    def _refused(self, *call: Any) -> int:
        self.calls.append(call)
        ctypes.set_errno(self.refuse.get(call[0], 0))
        return -1 if call[0] in self.refuse else 0

    def count(self, offset: int, *numbers: int) -> None:
        """Write counters to the file."""
        with self._file.open("r+b") as f:
            f.seek(offset)
            f.write(struct.pack(f"{len(numbers)}I", *numbers))

    def descriptors(self) -> int:
        """The number of this process's descriptors of the device."""
        return sum(os.path.realpath(fd) == str(self._file) for fd in Path("/proc/self/fd").iterdir())


@pytest.fixture
def client() -> Any:
    return guest.load("guest.bindings.page_profile")


@pytest.fixture
def kernel(client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """A client of the fake device."""
    fake = Kernel(client, tmp_path / "counters")
    monkeypatch.setattr(client, "_libc", fake)
    monkeypatch.setattr(client, "os", types.SimpleNamespace(**{**vars(os), "open": fake.open}))
    return fake


def test_the_header_equals_the_one_in_the_kernel_patch() -> None:
    (patch,) = series.FOLDER.glob("0002-*.patch")
    (added,) = re.findall(
        r"^\+\+\+ b/include/uapi/linux/page_profile\.h\n@@ .*\n((?:\+.*\n)+)", patch.read_text(), re.M
    )
    assert "".join(line[1:] for line in added.splitlines(keepends=True)) == HEADER.read_text()


def test_numbers_and_layouts_equal_those_of_the_header(client: Any, tmp_path: Path) -> None:
    if not shutil.which("gcc"):
        pytest.skip("there is no gcc")
    expected = {"O_CLOEXEC": client._CLOEXEC, **client.IOCTLS}
    expected |= {f"PAGE_PROFILE_{mode.upper()}": number for mode, number in client.MODES.items()}
    for name, structure in STRUCTURES.items():
        layout = getattr(client, structure)
        expected[f"sizeof(struct page_profile_{name})"] = ctypes.sizeof(layout)
        for field, _ in layout._fields_:
            expected[f"offsetof(struct page_profile_{name}, {field})"] = getattr(layout, field).offset
    numbers = "\n".join(f'printf("%llu ", (unsigned long long)({expression}));' for expression in expected)
    program = "#include <fcntl.h>\n#include <stddef.h>\n#include <stdio.h>\n#include <linux/page_profile.h>\n"
    (tmp_path / "numbers.c").write_text(f"{program}int main(void) {{\n{numbers}\nreturn 0;\n}}\n")
    command = ["gcc", "-Wall", "-Werror", "-I", str(INCLUDE), "-o", "numbers", "numbers.c"]
    subprocess.run(command, check=True, cwd=tmp_path, timeout=60)
    said = subprocess.run([tmp_path / "numbers"], check=True, capture_output=True, timeout=20).stdout
    assert dict(zip(expected, map(int, said.split()), strict=True)) == expected


def test_the_client_covers_the_whole_header(client: Any) -> None:
    text = re.sub(r"/\*.*?\*/", "", HEADER.read_text(), flags=re.S)
    assert re.findall(r'#define PAGE_PROFILE_DEVICE "(.*)"', text) == [client.DEVICE]
    assert set(re.findall(r"#define (\w+)\s+_IO", text)) == set(client.IOCTLS)
    assert set(re.findall(r"PAGE_PROFILE_(\w+) = \d", text)) == {mode.upper() for mode in client.MODES}
    structures = dict(re.findall(r"struct page_profile_(\w+) \{(.*?)\}", text, re.S))
    assert set(structures) == set(STRUCTURES)
    for name, body in structures.items():
        types_and_names = [
            (f"__u{8 * ctypes.sizeof(t)}", n) for n, t in getattr(client, STRUCTURES[name])._fields_
        ]
        assert re.findall(r"(\w+) (\w+);", body) == types_and_names


def test_a_profile_makes_these_calls(client: Any, kernel: Kernel) -> None:
    with client.Profile(mode="window", window=8, pid=7) as profile:
        assert profile.fileno() >= 0
        counted = profile.add(3 * PAGE, 2 * PAGE)
        profile.start()
        profile.rearm()
        profile.stop()
        profile.reset()
        profile.remove(counted)
        profile.clear()
    counted.close()
    assert (counted.address, counted.length, counted.pages) == (3 * PAGE, 2 * PAGE, 2)
    assert kernel.calls == [
        ("/dev/page_profile", os.O_RDWR | os.O_CLOEXEC),
        ("PAGE_PROFILE_TARGET", 7),
        ("PAGE_PROFILE_CONFIGURE", 1, 8),
        ("PAGE_PROFILE_ADD", 3 * PAGE, 2 * PAGE),
        ("PAGE_PROFILE_START",),
        ("PAGE_PROFILE_REARM",),
        ("PAGE_PROFILE_STOP",),
        ("PAGE_PROFILE_RESET",),
        ("PAGE_PROFILE_REMOVE", 3 * PAGE, 2 * PAGE),
        ("PAGE_PROFILE_CLEAR",),
        ("PAGE_PROFILE_CLEAR",),
    ]
    assert kernel.descriptors() == 0


@pytest.mark.parametrize(
    ("call", "code", "hint"),
    [
        ("/dev/page_profile", errno.ENOENT, "boot a kernel built with the page-access profiler"),
        ("/dev/page_profile", errno.ENODEV, "at most 51 physical address bits"),
        ("/dev/page_profile", errno.EPERM, "vm.page_profile_restrict is 1"),
        ("/dev/page_profile", errno.EACCES, "no permission to open /dev/page_profile"),
        ("PAGE_PROFILE_TARGET", errno.EPERM, "no permission to profile that process"),
    ],
)
def test_an_unavailable_profiler_is_reported_in_one_line(
    client: Any, kernel: Kernel, call: str, code: int, hint: str
) -> None:
    kernel.refuse[call] = code
    with pytest.raises(client.Unavailable, match=hint) as caught:
        client.Profile(pid=1)
    assert isinstance(caught.value, OSError)
    assert caught.value.errno == code
    assert "\n" not in str(caught.value)
    assert kernel.descriptors() == 0


@pytest.mark.parametrize(
    ("call", "code"), [("/dev/page_profile", errno.EMFILE), ("PAGE_PROFILE_TARGET", errno.ESRCH)]
)
def test_other_errors_name_the_call(client: Any, kernel: Kernel, call: str, code: int) -> None:
    kernel.refuse[call] = code
    with pytest.raises(OSError, match=f"{call}: {os.strerror(code)}") as caught:
        client.Profile(pid=1)
    assert not isinstance(caught.value, client.Unavailable)
    assert caught.value.errno == code
    assert kernel.descriptors() == 0


def test_a_refused_range_leaves_no_descriptor(client: Any, kernel: Kernel) -> None:
    kernel.refuse["PAGE_PROFILE_ADD"] = errno.EBUSY
    with client.Profile() as profile:
        with pytest.raises(OSError, match="PAGE_PROFILE_ADD: Device or resource busy"):
            profile.add(PAGE, PAGE)
        assert kernel.descriptors() == 1


def test_a_range_whose_counters_cannot_be_mapped_is_removed_again(
    client: Any, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOMEM, "no memory")

    content = {**vars(mmap), "mmap": no_memory}
    monkeypatch.setattr(client, "mmap", types.SimpleNamespace(**content))
    with client.Profile() as profile:
        with pytest.raises(OSError, match="mmap: Cannot allocate memory") as caught:
            profile.add(PAGE, 2 * PAGE)
        assert caught.value.errno == errno.ENOMEM
        assert kernel.calls[-1] == ("PAGE_PROFILE_REMOVE", PAGE, 2 * PAGE)


def test_an_unknown_mode_is_refused_with_the_known_ones(client: Any, kernel: Kernel) -> None:
    with pytest.raises(ValueError, match="unknown mode 'windows'; the modes are epoch, window"):
        client.Profile("windows")
    assert kernel.calls == []


def test_a_snapshot_holds_its_range_s_counters(client: Any, kernel: Kernel) -> None:
    with client.Profile() as profile:
        first = profile.add(8 * PAGE, 3 * PAGE)
        second = profile.add(64 * PAGE, PAGE)
        kernel.count(PAGE, 1, 2, 3, 4, 2**32 - 1, 6)
        kernel.count(2 * PAGE, 7, 8)
        assert first.raw() == struct.pack("6I", 1, 2, 3, 4, 2**32 - 1, 6)
        assert first.counts() == [(1, 2), (3, 4), (2**32 - 1, 6)]
        assert list(first.reads()) == [1, 3, 2**32 - 1]
        assert list(first.writes()) == [2, 4, 6]
        assert second.counts() == [(7, 8)]
        before = second.counts()
        kernel.count(2 * PAGE, 9, 8)
        assert (before, second.counts()) == ([(7, 8)], [(9, 8)])
    first.close()
    second.close()


def test_numpy_reads_a_snapshot(client: Any, kernel: Kernel) -> None:
    with client.Profile() as profile:
        counted = profile.add(8 * PAGE, 2 * PAGE)
    kernel.count(PAGE, 1, 2, 3, 4)
    assert np.frombuffer(counted.raw(), "u4").reshape(-1, 2).tolist() == [[1, 2], [3, 4]]
    counted.close()


def test_counters_outlive_the_range_and_the_profile(client: Any, kernel: Kernel) -> None:
    profile = client.Profile()
    counted = profile.add(8 * PAGE, PAGE)
    kernel.count(PAGE, 1, 2)
    profile.remove(counted)
    assert counted.counts() == [(1, 2)]
    profile.close()
    assert counted.counts() == [(1, 2)]
    assert kernel.descriptors() == 1
    counted.close()
    with pytest.raises(ValueError, match="closed"):
        counted.counts()
    counted.close()
    assert kernel.descriptors() == 0


def test_statistics_have_the_kernel_s_order(client: Any, kernel: Kernel) -> None:
    with client.Profile() as profile:
        stats = profile.stats()
    assert tuple(stats) == tuple(2**40 + i for i in range(9))
    assert (stats.user_faults, stats.lost) == (2**40, 2**40 + 8)


def test_a_profile_is_closed_once_even_if_it_cannot_be_cleared(client: Any, kernel: Kernel) -> None:
    profile = client.Profile()
    kernel.refuse["PAGE_PROFILE_CLEAR"] = errno.EINTR
    with pytest.raises(OSError, match="PAGE_PROFILE_CLEAR: Interrupted system call"):
        profile.close()
    assert profile.fileno() == -1
    profile.close()
    assert kernel.calls.count(("PAGE_PROFILE_CLEAR",)) == 1
    assert kernel.descriptors() == 0


def test_a_forked_child_does_not_end_its_parents_profile(
    client: Any, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = client.Profile()
    monkeypatch.setattr(client.os, "getpid", lambda: -1)
    profile.close()
    assert kernel.calls[-1] == ("PAGE_PROFILE_CONFIGURE", 0, 0)
    assert kernel.descriptors() == 0


@pytest.mark.parametrize("path", [CLIENT, SELFTEST], ids=lambda path: path.parent.name)
def test_python2_compiles_client_and_selftest(python2: str, path: Path) -> None:
    test_guest_code.compile_with(python2, path)


def test_python2_has_the_same_numbers_and_counters(client: Any, python2: str, tmp_path: Path) -> None:
    (tmp_path / "counters").write_bytes(struct.pack("4I", 1, 2, 2**32 - 1, 4))
    check = (
        "import json, mmap, sys; sys.path.insert(0, sys.argv[1]); import page_profile\n"
        "counters = open(sys.argv[2], 'rb')\n"
        "mapped = mmap.mmap(counters.fileno(), 16, mmap.MAP_SHARED, mmap.PROT_READ)\n"
        "counted = page_profile.Range(4096, 8192, mapped)\n"
        "print(json.dumps([page_profile.IOCTLS, counted.pages, counted.counts(), list(counted.writes())]))\n"
    )
    command = [python2, "-B", "-c", check, str(CLIENT.parent), str(tmp_path / "counters")]
    said = subprocess.run(command, check=True, capture_output=True, timeout=20).stdout
    assert json.loads(said) == [client.IOCTLS, 2, [[1, 2], [2**32 - 1, 4]], [2, 4]]


@pytest.mark.parametrize("path", [CLIENT, SELFTEST], ids=lambda path: path.parent.name)
def test_the_code_is_ascii_and_valid_on_python2(path: Path) -> None:
    text = path.read_text()
    assert [line for line in text.splitlines() if len(line) > 110 or line != line.rstrip()] == []
    new = [
        type(node).__name__
        for node in ast.walk(ast.parse(text))
        if isinstance(node, test_guest_code.NEW_SYNTAX)
    ]
    assert (new, text.isascii()) == ([], True)
