# SPDX-License-Identifier: Apache-2.0
"""The timing model compared with closed forms for streams, dependent accesses and copies."""

from __future__ import annotations

import ctypes
import random
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from testbed.timing import plugin

SOURCES = [str(plugin.SOURCES / name) for name in ("model.c", "memory.c", "bandwidth.c", "llc.c")]
GIB = 1 << 30
LINE = 64
STREAM = 200_000  # lines
# optane-6dimm: 100 -> 305 ns, 105/85 -> 39.4/13.9 GB/s
LATENCY = (100.0, 305.0)
WRITE_LATENCY = (86.0, 90.0)
READ = (105.0, 39.4)
WRITE = (85.0, 13.9)


class Node(ctypes.Structure):
    _fields_ = [(n, ctypes.c_double) for n in ("read_latency", "write_latency", "read_bw", "write_bw")]


class Config(ctypes.Structure):
    _fields_ = [
        ("node", Node * 2),
        ("split", ctypes.c_uint64),
        ("end", ctypes.c_uint64),
        ("hole", ctypes.c_uint64 * 2),
        ("cache_size", ctypes.c_uint64),
        ("cache_ways", ctypes.c_uint32),
        ("cache_line", ctypes.c_uint32),
        ("cache_shared", ctypes.c_uint32),
        ("memory_mode", ctypes.c_uint32),
        ("near_size", ctypes.c_uint64),
        ("write_buffer", ctypes.c_double),
        ("instruction", ctypes.c_double * 64),
        ("parallelism", ctypes.c_double * 64),
        *((name, ctypes.c_double) for name in ("remap", "remap_page", "shootdown", "cores")),
    ]


class Counters(ctypes.Structure):
    _fields_ = [
        ("instructions", ctypes.c_uint64),
        ("accesses", ctypes.c_uint64),
        ("misses", ctypes.c_uint64 * 2),
        ("bytes_read", ctypes.c_uint64 * 2),
        ("bytes_written", ctypes.c_uint64 * 2),
        ("hits_near", ctypes.c_uint64),
        ("compute", ctypes.c_double),
        ("memory", ctypes.c_double),
        ("queue", ctypes.c_double),
        ("charged", ctypes.c_double),
        ("idle", ctypes.c_double),
    ]


class Model:
    """An instance of the C model."""

    def __init__(self, library: ctypes.CDLL, **changes: Any) -> None:
        self._library = library
        config = Config()
        for n in range(2):
            config.node[n] = Node(LATENCY[n], WRITE_LATENCY[n], READ[n], WRITE[n])
        config.split, config.end = GIB, 2 * GIB
        config.cache_size, config.cache_ways, config.cache_line = 1 << 20, 16, LINE
        config.write_buffer = 500
        config.remap, config.remap_page, config.shootdown, config.cores = 3000, 20, 700, 24
        for cpu in range(64):
            config.instruction[cpu], config.parallelism[cpu] = 0.25, 240
        for name, value in changes.items():
            setattr(config, name, value)
        self._model = library.model_new(ctypes.byref(config))
        if not self._model:
            raise OSError(ctypes.get_errno(), "model_new")

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._library, f"model_{name}")
        return lambda *arguments: function(self._model, *arguments)

    def touch(self, cpu: int, line: int, *, store: bool = False) -> None:
        self.access(cpu, ctypes.c_uint64(line * LINE), 8, store)

    def load(self, cpu: int, line: int, *, after: float = 0) -> float:
        """Read a line whose address is known at `after`. Return when its data arrive."""
        self.issue_after(cpu, after)
        self.touch(cpu, line)
        self.issue_after(cpu, 0)
        return float(self.arrival(cpu))


def at(node: int, line: int) -> int:
    """Return the number of a node's line."""
    return node * GIB // LINE + line


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    if shutil.which("gcc") is None:
        pytest.skip("no gcc")
    target = tmp_path_factory.mktemp("model") / "model.so"
    flags = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run(["gcc", *flags, "-o", str(target), *SOURCES], check=True)
    loaded = ctypes.CDLL(str(target), use_errno=True)
    loaded.model_new.restype = ctypes.c_void_p
    loaded.model_clock.restype = ctypes.c_double
    loaded.model_counters.restype = Counters
    loaded.model_again.restype = ctypes.c_bool
    loaded.model_awaits.restype = ctypes.c_bool
    for name in ("arrival", "arrival_of", "waited"):
        getattr(loaded, f"model_{name}").restype = ctypes.c_double
    arguments: dict[str, list[Any]] = {
        "free": [],
        "execute": [ctypes.c_uint, ctypes.c_uint64],
        "access": [ctypes.c_uint, ctypes.c_uint64, ctypes.c_uint, ctypes.c_bool],
        "serial": [ctypes.c_uint, ctypes.c_bool],
        "issue_after": [ctypes.c_uint, ctypes.c_double],
        "arrival": [ctypes.c_uint],
        "arrival_of": [ctypes.c_uint, ctypes.c_uint64],
        "awaits": [ctypes.c_uint, ctypes.c_double],
        "drain": [ctypes.c_uint],
        "waited": [ctypes.c_uint],
        "remember": [ctypes.c_uint, ctypes.c_uint64, ctypes.c_uint64],
        "again": [ctypes.c_uint, ctypes.c_uint64, ctypes.c_bool],
        "forget": [ctypes.c_uint],
        "charge": [ctypes.c_uint, ctypes.c_double],
        "wake": [ctypes.c_uint, ctypes.c_double],
        "clock": [ctypes.c_uint],
        "counters": [ctypes.c_uint],
        "remap": [ctypes.c_uint, ctypes.c_uint64],
        "migrating": [ctypes.c_int],
    }
    for name, types in arguments.items():
        getattr(loaded, f"model_{name}").argtypes = [ctypes.c_void_p, *types]
    return loaded


@pytest.fixture
def model(library: ctypes.CDLL) -> Iterator[Model]:
    instance = Model(library)
    yield instance
    instance.free()


@pytest.mark.parametrize("node", [0, 1])
def test_a_stream_of_reads_reaches_the_nodes_bandwidth(model: Model, node: int) -> None:
    for line in range(STREAM):
        model.touch(0, at(node, line))
    assert STREAM * LINE / model.clock(0) == pytest.approx(READ[node], rel=0.01)


@pytest.mark.parametrize("node", [0, 1])
def test_a_stream_of_writes_reaches_the_nodes_bandwidth(model: Model, node: int) -> None:
    for line in range(STREAM):
        model.touch(0, at(node, line), store=True)
    cached = (1 << 20) // LINE
    assert model.counters(0).bytes_written[node] == (STREAM - cached) * LINE
    assert (STREAM - cached) * LINE / model.clock(0) == pytest.approx(WRITE[node], rel=0.01)


@pytest.mark.parametrize("node", [0, 1])
def test_a_dependent_read_takes_the_nodes_latency(model: Model, node: int) -> None:
    model.serial(0, True)
    order = list(range(50_000))
    random.Random(7).shuffle(order)  # noqa: S311
    for line in order:
        model.touch(0, at(node, line))
    assert model.clock(0) / len(order) == pytest.approx(LATENCY[node], rel=0.001)


def chase(model: Model, node: int, lines: int, *, chains: int = 1) -> float:
    """Follow interleaved chains through `lines` lines in all. Return the ns for each line."""
    began, arrivals = model.clock(0), [0.0] * chains
    for line in range(lines):
        arrivals[line % chains] = model.load(0, at(node, line), after=arrivals[line % chains])
    return float(model.clock(0) - began) / lines


@pytest.mark.parametrize("parallelism", [1, 10, 240])
@pytest.mark.parametrize("node", [0, 1])
def test_a_read_that_waits_for_the_last_one_takes_the_nodes_latency(
    library: ctypes.CDLL, node: int, parallelism: int
) -> None:
    """The clock includes the misses in flight from the first one on, however many overlap."""
    model = Model(library, parallelism=(ctypes.c_double * 64)(*[parallelism] * 64))
    assert chase(model, node, 10_000) == pytest.approx(LATENCY[node], rel=0.001)
    model.drain(0)
    assert model.clock(0) == model.counters(0).memory
    alone = max(LATENCY[node] / parallelism, LINE / READ[node])
    assert model.waited(0) == pytest.approx(10_000 * (LATENCY[node] - alone), rel=0.001)
    model.free()


@pytest.mark.parametrize("chains", [2, 4, 10, 20, 100])
@pytest.mark.parametrize("node", [0, 1])
def test_chains_overlap_up_to_the_parallelism_of_the_cpu(
    library: ctypes.CDLL, node: int, chains: int
) -> None:
    model = Model(library, parallelism=(ctypes.c_double * 64)(*[10] * 64))
    lines = 20_000
    assert chase(model, node, lines, chains=chains) == pytest.approx(
        LATENCY[node] / min(chains, 10), rel=0.01
    )
    model.free()


def test_a_known_address_costs_nothing(library: ctypes.CDLL) -> None:
    """The address of each access is the data of one that is there already."""
    plain, waiting = Model(library), Model(library)
    old = 0.0
    for line in range(STREAM // 10):
        plain.touch(0, at(1, line))
        arrival = waiting.load(0, at(1, line), after=old)
        if line % 1000 == 0:
            waiting.execute(0, 4000), plain.execute(0, 4000)
            assert not waiting.awaits(0, arrival)
            old = arrival
    assert waiting.clock(0) == plain.clock(0)
    assert waiting.waited(0) == 0
    plain.free()
    waiting.free()


def test_a_chain_does_not_stop_independent_misses(model: Model) -> None:
    """A short chain among many other misses is hidden by them."""
    arrival = 0.0
    for line in range(STREAM // 10):
        if line % 1000 < 3:
            arrival = model.load(0, at(0, 1_000_000 + line), after=arrival)
        model.touch(0, at(1, line))
    assert STREAM // 10 * LINE / model.clock(0) == pytest.approx(READ[1], rel=0.01)


def test_data_arrive_once_for_each_fetch(model: Model) -> None:
    arrival = model.load(0, at(1, 0))
    assert arrival == pytest.approx(LATENCY[1], rel=1e-5)
    assert model.awaits(0, arrival)
    model.access(0, at(1, 0) * LINE + 56, 4, False)  # the same line
    assert model.arrival(0) == arrival
    model.remember(0, at(1, 0) * LINE, 7)
    assert model.arrival_of(0, 7) == arrival
    assert model.load(1, at(1, 0)) == pytest.approx(arrival, rel=0.01)  # has its own cache
    model.touch(0, at(1, 9), store=True)  # is not fetched
    assert model.arrival(0) == 0
    model.access(0, at(1, 1) * LINE - 4, 8, False)  # ends in a line that is not there
    assert model.arrival(0) > arrival


def test_an_access_that_hits_the_cache_does_not_wait(model: Model) -> None:
    model.touch(0, 0)
    before = model.clock(0)
    assert model.load(0, 0, after=before + 1000) <= before + LATENCY[0]
    model.issue_after(0, before + 1000)
    model.touch(0, 1, store=True)
    assert model.clock(0) == before


def test_waiting_adds_to_a_serial_section_only_what_is_left(model: Model) -> None:
    model.serial(0, True)
    assert chase(model, 0, 1000) == pytest.approx(LATENCY[0], rel=0.001)
    assert model.waited(0) == 0


def test_an_idle_cpu_waits_for_its_misses(model: Model) -> None:
    arrival = model.load(0, at(1, 0))
    model.load(0, at(1, 1), after=arrival)
    model.wake(0, 1000)
    assert model.clock(0) == 1000
    assert model.counters(0).idle == pytest.approx(1000 - 2 * LATENCY[1], rel=1e-5)


def test_misses_overlap_up_to_the_parallelism_of_the_cpu(library: ctypes.CDLL) -> None:
    model = Model(library, parallelism=(ctypes.c_double * 64)(*[10] * 64))
    for line in range(10_000):
        model.touch(0, at(1, line))
    assert model.clock(0) / 10_000 == pytest.approx(LATENCY[1] / 10, rel=0.001)
    model.free()


def test_a_working_set_that_fits_the_cache_is_fetched_once(model: Model) -> None:
    lines = (1 << 20) // LINE // 2
    for _ in range(10):
        for line in range(lines):
            model.touch(0, line)
    # Sets are selected by a hash, so a few have more lines than ways
    assert lines <= model.counters(0).misses[0] < 1.05 * lines
    assert model.counters(0).accesses == 10 * lines


def test_an_access_across_lines_misses_both(model: Model) -> None:
    model.access(0, 60, 8, False)
    assert model.counters(0).misses[0] == 2
    assert model.counters(0).accesses == 1


def test_the_shortcut_does_not_change_results(library: ctypes.CDLL) -> None:
    """Accesses by key update counters, cache order and dirty state like accesses by address."""
    choose = random.Random(7)  # noqa: S311
    lines = [
        choose.randrange(40_000) if choose.random() < 0.3 else choose.randrange(50) for _ in range(60_000)
    ]
    stores = [choose.random() < 0.3 for _ in lines]
    plain, short = Model(library), Model(library)
    taken = 0
    for line, store in zip(lines, stores, strict=True):
        plain.touch(0, line, store=store)
        if short.again(0, line, store):
            taken += 1
        else:
            short.touch(0, line, store=store)
            short.remember(0, line * LINE, line)
    assert taken > 10_000
    assert short.clock(0) == plain.clock(0)
    for name in ("accesses", "compute", "memory", "queue"):
        assert getattr(short.counters(0), name) == getattr(plain.counters(0), name)
    for name in ("misses", "bytes_read", "bytes_written"):
        assert list(getattr(short.counters(0), name)) == list(getattr(plain.counters(0), name))
    short.forget(0)
    assert not short.again(0, lines[-1], False)
    plain.free()
    short.free()


@pytest.mark.parametrize("shared", [False, True])
def test_a_shared_cache_serves_all_vcpus(library: ctypes.CDLL, shared: bool) -> None:
    model = Model(library, cache_shared=shared)
    for cpu in (0, 1):
        for line in range(100):
            model.touch(cpu, line)
    assert model.counters(1).misses[0] == (0 if shared else 100)
    model.free()


@pytest.mark.parametrize("chunk", [1, 100, 1000])
def test_two_cpus_share_a_nodes_bandwidth_in_any_order(model: Model, chunk: int) -> None:
    """The CPUs run alternately, for `chunk` lines each, like threads on a busy host."""
    for first in range(0, STREAM // 2, chunk):
        for cpu in (0, 1):
            for line in range(first, first + chunk):
                model.touch(cpu, at(1, line + cpu * 1_000_000))
    for cpu in (0, 1):
        assert STREAM // 2 * LINE / model.clock(cpu) == pytest.approx(READ[1] / 2, rel=0.03)


def test_nodes_are_independent(model: Model) -> None:
    for line in range(STREAM // 2):
        for cpu in (0, 1):
            model.touch(cpu, at(cpu, line))
    for cpu in (0, 1):
        assert STREAM // 2 * LINE / model.clock(cpu) == pytest.approx(READ[cpu], rel=0.01)


@pytest.mark.parametrize(("source", "target"), [(0, 1), (1, 0)])
def test_a_copy_between_nodes_is_bound_by_the_slower_node(model: Model, source: int, target: int) -> None:
    for line in range(STREAM):
        model.touch(0, at(source, line))
        model.touch(0, at(target, line), store=True)
    expected = min(READ[source], WRITE[target])
    assert STREAM * LINE / model.clock(0) == pytest.approx(expected, rel=0.06)


def test_a_migrating_cpu_reduces_the_others_bandwidth_by_its_own(model: Model) -> None:
    """The migrating CPU reads node 1 at a quarter of its bandwidth."""
    share, line = 0.25, 0
    while line < STREAM:
        model.touch(0, at(1, line))
        line += 1
        while model.clock(1) < model.clock(0):
            model.touch(1, at(1, 2_000_000 + line))
            model.charge(1, LINE / READ[1] * (1 / share - 1))
            line += 1
    done = model.counters(0).bytes_read[1] / model.clock(0)
    taken = model.counters(1).bytes_read[1] / model.clock(1)
    assert done + taken == pytest.approx(READ[1], rel=0.02)
    assert taken == pytest.approx(READ[1] * share, rel=0.03)


@pytest.mark.parametrize("ahead", [0.0, 5_000.0, 20_000.0])
def test_a_small_request_is_served_fully_however_far_ahead_the_stream_is(model: Model, ahead: float) -> None:
    """A stream runs up to `ahead` ns ahead of a CPU that uses a tenth of the node."""
    share, line = 0.1, 0
    while model.clock(1) < 1_000_000:
        while model.clock(0) <= model.clock(1) + ahead:
            model.touch(0, at(1, line))
            line += 1
        model.touch(1, at(1, 4_000_000 + line))
        model.charge(1, LINE / READ[1] * (1 / share - 1))
    bandwidth = [model.counters(cpu).bytes_read[1] / model.clock(cpu) for cpu in (0, 1)]
    assert bandwidth[1] == pytest.approx(READ[1] * share, rel=0.03)
    assert bandwidth[0] == pytest.approx(READ[1] * (1 - share), rel=0.03)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8, 0.95])
def test_latency_rises_with_the_use_of_the_node(model: Model, share: float) -> None:
    """The mean wait is rho / (2 (1 - rho)) service times (M/D/1)."""
    model.serial(1, True)
    line = 0
    for chased in range(3_000):
        model.touch(1, at(1, 4_000_000 + chased))
        while model.clock(0) < model.clock(1):
            model.touch(0, at(1, line))
            model.charge(0, LINE / READ[1] * (1 / share - 1))
            line += 1
    latency = model.clock(1) / 3_000
    waits = LINE / READ[1] * share / (2 * (1 - share))
    assert latency - LATENCY[1] == pytest.approx(waits, rel=0.1)


@pytest.mark.parametrize("node", [0, 1])
def test_a_dependent_write_takes_the_nodes_latency(model: Model, node: int) -> None:
    model.serial(0, True)
    for line in range(50_000):
        model.touch(0, at(node, 3 * line), store=True)
    assert model.clock(0) / 50_000 == pytest.approx(WRITE_LATENCY[node], rel=0.001)


def test_the_clock_adds_instructions_charges_and_idle_time(model: Model) -> None:
    model.execute(3, 1000)
    assert model.clock(3) == 250
    assert model.counters(3).instructions == 1000
    model.charge(3, 1500)
    model.wake(3, 1000)
    assert model.clock(3) == 1750
    model.wake(3, 5000)
    assert (model.clock(3), model.counters(3).idle) == (5000, 3250)


def test_addresses_outside_memory_cost_nothing(library: ctypes.CDLL) -> None:
    model = Model(library, hole=(ctypes.c_uint64 * 2)(GIB // 2, GIB))
    model.access(0, GIB // 2 + 64, 8, False)
    model.access(0, 4 * GIB, 8, False)
    assert model.counters(0).accesses == 0
    assert model.clock(0) == 0
    model.free()


def test_memory_mode_with_a_size_caches_node_1_only(library: ctypes.CDLL) -> None:
    lines = 100_000  # exceeds the cache
    fitting, larger = (Model(library, memory_mode=1, near_size=64 * size) for size in (lines, lines // 2))
    for model in (fitting, larger):
        for _ in range(2):
            for node in (0, 1):
                for line in range(lines):
                    model.touch(0, at(node, line))
    assert fitting.counters(0).hits_near == lines
    assert larger.counters(0).hits_near == 0
    for model in (fitting, larger):
        assert model.counters(0).bytes_read[0] == 64 * (2 * lines + model.counters(0).hits_near)


def test_in_memory_mode_node_0_caches_node_1(library: ctypes.CDLL) -> None:
    model = Model(library, memory_mode=1)
    fitting = 100_000  # lines; exceeds the cache, fits node 0
    for _ in range(2):
        for line in range(fitting):
            model.touch(0, at(1, line))
    counters = model.counters(0)
    assert counters.hits_near == fitting
    assert list(counters.bytes_read) == [fitting * LINE, fitting * LINE]
    model.free()


def test_a_remap_costs_its_vcpu_and_interrupts_the_compute_vcpu(model: Model) -> None:
    model.remap(1, 256)
    assert model.clock(1) == model.counters(1).charged == 3000 + 256 * 20
    assert model.clock(0) == 0
    model.remap(2, 4)
    model.execute(0, 400)
    assert model.counters(0).charged == 2 * 700
    assert model.clock(0) == 2 * 700 + 100
    model.remap(0, 1)  # knows about it
    model.execute(0, 400)
    assert model.counters(0).charged == 2 * 700 + 3020


def test_helpers_copy_a_window_from_memory_after_every_remap(model: Model) -> None:
    """Dirty lines are still written once, when their place is needed."""
    for _ in range(3):
        for line in range(1024):
            model.touch(1, at(0, line))
            model.touch(1, at(1, line), store=True)
        model.remap(2, 16)
    for line in range((1 << 20) // LINE):
        model.touch(1, at(0, line))
    counters = model.counters(1)
    assert list(counters.misses) == [3 * 1024 + (1 << 20) // LINE, 3 * 1024]
    assert counters.bytes_written[1] == pytest.approx(3 * 1024 * LINE, rel=0.1)
    assert counters.bytes_written[1] <= 3 * 1024 * LINE
    model.touch(0, 0)
    model.remap(2, 16)
    assert model.access(0, 0, 8, False) == 0  # the compute vCPU keeps its lines


@pytest.mark.parametrize(("migrating", "slowdown"), [(0, 1), (1, 24 / 23), (6, 4 / 3), (23, 24), (40, 24)])
def test_instructions_take_longer_while_cores_migrate(model: Model, migrating: int, slowdown: float) -> None:
    model.migrating(migrating)
    for cpu in (0, 1):
        model.execute(cpu, 4000)
    assert model.clock(0) == pytest.approx(1000 * slowdown)
    assert model.clock(1) == 1000
    model.migrating(-migrating)
    model.execute(0, 4000)
    assert model.clock(0) == pytest.approx(1000 * slowdown + 1000)


@pytest.mark.parametrize(
    ("address", "size", "misses"),
    [
        (GIB - 4, 8, (1, 0)),
        (GIB - 64, 64, (1, 0)),
        (GIB - 65, 66, (2, 0)),
        (GIB, 8, (0, 1)),
        (2 * GIB - 4, 8, (0, 1)),
    ],
)
def test_an_access_stops_at_the_end_of_its_page(
    model: Model, address: int, size: int, misses: tuple[int, int]
) -> None:
    """The model does not know the physical address of the next virtual page."""
    assert model.access(0, address, size, False) == sum(misses)
    assert tuple(model.counters(0).misses) == misses


@pytest.mark.parametrize(
    "changes",
    [
        {"cache_line": 48},
        {"cache_ways": 0},
        {"cache_size": 64},
        {"cache_line": 8192, "cache_size": 1 << 24},
        {"split": 3 * GIB},
        {"split": GIB + 64},
        {"end": 2 * GIB + 1},
        {"split": 0, "memory_mode": 1},
        {"near_size": 63, "memory_mode": 1},
        {"hole": (ctypes.c_uint64 * 2)(GIB, GIB // 2)},
        {"write_buffer": -1},
        {"write_buffer": float("nan")},
        {"parallelism": (ctypes.c_double * 64)(*[0.5] * 64)},
        {"instruction": (ctypes.c_double * 64)(*[-1] * 64)},
        {"remap": -1},
        {"shootdown": float("nan")},
        {"cores": 0},
        {"node": (Node * 2)(Node(100, 100, 0, 10), Node(300, 300, 10, 10))},
        {"node": (Node * 2)(Node(100, 0, 10, 10), Node(300, 300, 10, 10))},
    ],
)
def test_an_invalid_configuration_is_rejected(library: ctypes.CDLL, changes: dict[str, Any]) -> None:
    with pytest.raises(OSError, match="model_new"):
        Model(library, **changes)
