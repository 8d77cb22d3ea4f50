# SPDX-License-Identifier: Apache-2.0
"""Pacing and page counts: the parts of the plugin that need no QEMU."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.timing import plugin

MS = 1e6
BINS = 300


class Pace(ctypes.Structure):
    _fields_ = [(name, ctypes.c_double) for name in ("dilation", "real", "model", "slipped")]


class Demand(ctypes.Structure):
    _fields_ = [("real", ctypes.c_double * BINS), ("model", ctypes.c_double * BINS)]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    if shutil.which("gcc") is None:
        pytest.skip("no gcc")
    target = tmp_path_factory.mktemp("pace") / "pace.so"
    sources = [str(plugin.SOURCES / name) for name in ("pace.c", "oracle.c")]
    flags = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run(["gcc", *flags, "-o", str(target), *sources, "-lm", "-lpthread"], check=True)
    loaded = ctypes.CDLL(str(target), use_errno=True)
    loaded.oracle_new.restype = ctypes.c_void_p
    loaded.oracle_write.restype = ctypes.c_bool
    for name in ("pace_ahead", "pace_late", "pace_model", "pace_needed"):
        getattr(loaded, name).restype = ctypes.c_double
    return loaded


def doubles(*values: float) -> list[ctypes.c_double]:
    return [ctypes.c_double(value) for value in values]


def test_model_time_advances_by_the_dilation(library: ctypes.CDLL) -> None:
    pace = Pace()
    library.pace_begin(ctypes.byref(pace), *doubles(50, 1000, 70))
    assert library.pace_ahead(ctypes.byref(pace), *doubles(1000, 70)) == 0
    assert library.pace_ahead(ctypes.byref(pace), *doubles(1000, 80)) == 500
    assert library.pace_ahead(ctypes.byref(pace), *doubles(2000, 80)) == -500
    assert library.pace_model(ctypes.byref(pace), *doubles(6000)) == 170


def test_small_delay_is_caught_up_and_large_delay_stops_the_clock(
    library: ctypes.CDLL,
) -> None:
    pace = Pace()
    library.pace_begin(ctypes.byref(pace), *doubles(100, 0, 0))
    library.pace_behind(ctypes.byref(pace), *doubles(3 * MS, 0))
    assert pace.slipped == 0
    library.pace_behind(ctypes.byref(pace), *doubles(5 * MS, 0))
    assert pace.slipped == 5 * MS
    assert library.pace_ahead(ctypes.byref(pace), *doubles(5 * MS, 0)) == 0
    assert library.pace_model(ctypes.byref(pace), *doubles(6 * MS)) == MS / 100


def test_late_time_includes_pending_and_abandoned_delay(library: ctypes.CDLL) -> None:
    pace = Pace()
    library.pace_begin(ctypes.byref(pace), *doubles(100, 0, 0))
    assert library.pace_late(ctypes.byref(pace), *doubles(3000, 20)) == 1000
    library.pace_behind(ctypes.byref(pace), *doubles(5 * MS, 0))
    assert library.pace_late(ctypes.byref(pace), *doubles(5 * MS, 0)) == 5 * MS
    assert library.pace_late(ctypes.byref(pace), *doubles(5 * MS + 700, 7)) == 5 * MS


@pytest.mark.parametrize("ratio", [3.0, 480.0, 9000.0])
def test_sustained_dilation_is_the_hosts_ratio(library: ctypes.CDLL, ratio: float) -> None:
    demand = Demand()
    for _ in range(1000):
        library.pace_observe(ctypes.byref(demand), *doubles(ratio * 1000, 1000))
    needed = library.pace_needed(ctypes.byref(demand), ctypes.c_double(0.004))
    assert 0.99 * ratio <= needed <= ratio * 2 ** (2 / 12)


def test_rare_stall_does_not_change_the_dilation(library: ctypes.CDLL) -> None:
    demand = Demand()
    for piece in range(1000):
        library.pace_observe(ctypes.byref(demand), *doubles(MS * (3 if piece == 500 else 1), MS / 100))
    needed = library.pace_needed(ctypes.byref(demand), ctypes.c_double(0.004))
    assert needed < 100 * 2 ** (2 / 12)
    assert library.pace_needed(ctypes.byref(demand), ctypes.c_double(0.0)) >= 300


def test_fast_host_needs_no_dilation(library: ctypes.CDLL) -> None:
    demand = Demand()
    library.pace_observe(ctypes.byref(demand), *doubles(1000, 100_000))
    assert library.pace_needed(ctypes.byref(demand), ctypes.c_double(0.004)) == 1


class Oracle:
    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        self._oracle = ctypes.c_void_p(library.oracle_new())

    def count(self, address: int, *, store: bool = False, misses: int = 0, node: int = 0) -> None:
        self._library.oracle_count(self._oracle, ctypes.c_uint64(address), store, misses, node)

    def clear(self) -> None:
        self._library.oracle_clear(self._oracle)

    def free(self) -> None:
        self._library.oracle_free(self._oracle)

    def written(self, path: Path) -> list[list[int]]:
        libc = ctypes.CDLL(None)
        libc.fopen.restype = ctypes.c_void_p
        file = ctypes.c_void_p(libc.fopen(str(path).encode(), b"w"))
        assert self._library.oracle_write(self._oracle, file)
        libc.fclose(file)
        header, *lines = path.read_text().splitlines()
        assert header == "page,reads,writes,misses0,misses1"
        return [[int(word) for word in line.split(",")] for line in lines]


@given(
    accesses=st.lists(
        st.tuples(st.integers(0, 1 << 47), st.booleans(), st.integers(0, 2), st.integers(0, 1)), max_size=300
    ),
    spread=st.sampled_from([1, 4096, 1 << 30]),
)
def test_pages_are_counted_exactly(
    library: ctypes.CDLL,
    tmp_path_factory: pytest.TempPathFactory,
    accesses: list[tuple[int, bool, int, int]],
    spread: int,
) -> None:
    oracle = Oracle(library)
    expected: dict[int, Counter[int]] = {}
    for where, store, misses, node in accesses:
        address = where // spread * spread
        oracle.count(address, store=store, misses=misses, node=node)
        page = expected.setdefault(address // 4096 * 4096, Counter())
        page[store] += 1
        page[2 + node] += misses
    lines = oracle.written(tmp_path_factory.mktemp("oracle") / "pages.csv")
    assert lines == [[page, *(expected[page][i] for i in range(4))] for page in sorted(expected)]
    oracle.free()


def test_oracle_counts_many_pages_and_clears(library: ctypes.CDLL, tmp_path: Path) -> None:
    oracle = Oracle(library)
    for page in range(20_000):
        oracle.count(page * 4096)
    assert len(oracle.written(tmp_path / "many")) == 20_000
    oracle.clear()
    oracle.count(4096)
    assert oracle.written(tmp_path / "one") == [[4096, 1, 0, 0, 0]]
    oracle.free()
