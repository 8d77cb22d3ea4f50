# SPDX-License-Identifier: Apache-2.0
"""The dependences that the timing model finds in a block, compared with executing it step by step."""

from __future__ import annotations

import ctypes
import random
import shutil
import subprocess
from dataclasses import dataclass, field

import pytest

from testbed.timing import plugin

REGISTERS = 49  # 16 general ones, the flags, 32 vector registers
SOURCES = 9  # most sources of a word
STORE = 1 << 60


class Instruction(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_uint64) for name in ("address", "reads", "writes", "keeps")),
        *((name, ctypes.c_bool) for name in ("loads", "stores", "fence")),
    ]


class Flow(ctypes.Structure):
    _fields_ = [
        ("words", ctypes.c_uint64 * 512),
        ("changes", ctypes.c_uint64 * 16),
        ("n_changes", ctypes.c_uint),
    ]


class Stored(ctypes.Structure):
    _fields_ = [("address", ctypes.c_uint64), ("ready", ctypes.c_double)]


class Dependence(ctypes.Structure):
    _fields_ = [
        ("waiting", ctypes.c_bool),
        ("latest", ctypes.c_double),
        ("ready", ctypes.c_double * 64),
        ("block", ctypes.c_void_p),
        ("stored", Stored * 256),
    ]


def mask(*registers: int) -> int:
    return sum(1 << register for register in set(registers))


def load(target: int, *address: int) -> Instruction:
    return Instruction(address=mask(*address), writes=mask(target), loads=True)


def store(source: int, *address: int) -> Instruction:
    return Instruction(address=mask(*address), reads=mask(source), stores=True)


def compute(target: int, *sources: int) -> Instruction:
    return Instruction(reads=mask(*sources), writes=mask(target))


class Scoreboard:
    """A vCPU's scoreboard: executes blocks as the plugin does."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        self.state = Dependence()

    def run(self, code: list[Instruction], arrivals: list[float], addresses: list[int]) -> list[float]:
        """Execute a block; return when the address (or the stored data) of each access is there."""
        flow = Flow()
        self._library.flow_analyse(ctypes.byref(flow), (Instruction * len(code))(*code), len(code))
        self._library.dependence_change(ctypes.byref(self.state))
        self.state.block = self._library.dependence_block(len(code), False, ctypes.byref(flow))
        ready = []
        for i, instruction in enumerate(code):
            word = flow.words[i]
            sources = [word >> 6 * n & 63 for n in range(SOURCES)]
            ready.append(max((self.state.ready[s] for s in sources if s), default=0.0))
            if instruction.loads:
                self._library.dependence_read(
                    ctypes.byref(self.state), word, addresses[i], ctypes.c_double(arrivals[i])
                )
            if instruction.stores:
                self._library.dependence_write(ctypes.byref(self.state), word, addresses[i])
        return ready


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    if shutil.which("gcc") is None:
        pytest.skip("no gcc")
    target = tmp_path_factory.mktemp("dataflow") / "dataflow.so"
    flags = ["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    sources = [str(plugin.SOURCES / name) for name in ("dataflow.c", "dependence.c")]
    subprocess.run(["gcc", *flags, "-o", str(target), *sources, "-lpthread"], check=True)
    loaded = ctypes.CDLL(str(target))
    loaded.dependence_block.restype = ctypes.c_void_p
    loaded.dependence_block.argtypes = [ctypes.c_uint32, ctypes.c_bool, ctypes.c_void_p]
    loaded.dependence_read.argtypes = [*(ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_double)]
    loaded.dependence_write.argtypes = [ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint64]
    return loaded


@pytest.fixture
def scoreboard(library: ctypes.CDLL) -> Scoreboard:
    return Scoreboard(library)


A, B, C = 0, 1, 2
FLAGS, VECTOR = 16, 17


def test_a_load_waits_for_the_load_of_its_address(scoreboard: Scoreboard) -> None:
    code = [load(A, A), load(A, A), load(B, C)]
    assert scoreboard.run(code, [100, 200, 150], [0, 0, 0]) == [0, 100, 0]
    assert scoreboard.run(code, [300, 400, 350], [0, 0, 0]) == [200, 300, 0]


def test_values_pass_through_registers_of_all_kinds(scoreboard: Scoreboard) -> None:
    code = [
        load(A, B),
        compute(VECTOR, A),
        compute(FLAGS, VECTOR, C),
        compute(B, FLAGS),
        load(C, A, B),
        compute(A),  # a constant
        load(A, A),
    ]
    ready = scoreboard.run(code, [100, 0, 0, 0, 0, 0, 120], [0] * 7)
    assert (ready[0], ready[4], ready[6]) == (0, 100, 0)
    assert scoreboard.run([load(A, A), load(B, B), load(C, C)], [0, 0, 0], [0] * 3) == [120, 100, 100]


def test_flags_and_vectors_end_with_the_block(scoreboard: Scoreboard) -> None:
    scoreboard.run([load(FLAGS, A), load(VECTOR, A)], [100, 100], [0, 0])
    assert scoreboard.run([compute(A, FLAGS, VECTOR), load(B, A)], [0, 0], [0, 0])[1] == 0


def test_a_partial_result_keeps_the_rest(scoreboard: Scoreboard) -> None:
    merge = Instruction(address=0, writes=mask(A), keeps=mask(A), loads=True)
    assert scoreboard.run([load(A, B), merge, load(B, A)], [100, 50, 0], [0] * 3)[2] == 100


def test_registers_change_at_once_after_a_block(scoreboard: Scoreboard) -> None:
    scoreboard.run([load(A, C), load(B, C)], [100, 200], [0, 0])
    scoreboard.run([compute(C, A), compute(A, B), compute(B, C)], [0] * 3, [0] * 3)  # swaps A and B
    assert scoreboard.run([load(C, A), load(C, B)], [0, 0], [0, 0]) == [200, 100]


def test_a_stored_value_keeps_its_time(scoreboard: Scoreboard) -> None:
    code = [load(A, B), store(A, C), compute(A), load(A, C), load(B, A)]
    assert scoreboard.run(code, [100, 0, 0, 0, 0], [8, 4096, 0, 4096, 0]) == [0, 100, 0, 0, 100]
    # Another value replaces it
    code = [compute(A), store(A, C), load(B, C), load(B, B)]
    assert scoreboard.run(code, [0] * 4, [0, 4096, 4096, 0])[3] == 0


def test_a_later_value_keeps_its_place_among_stored_ones(scoreboard: Scoreboard) -> None:
    """Both addresses have one place; the value that is there already needs none."""
    code = [load(A, C), store(A, C), load(B, C), store(B, C), load(A, C), load(A, A)]
    ready = scoreboard.run(code, [100, 0, 10, 0, 0, 0], [0, 64, 0, 64 + 8 * 256, 64, 0])
    assert ready[5] == 100


def test_equal_blocks_are_one(library: ctypes.CDLL) -> None:
    first, second = Flow(), Flow()
    for flow, register in ((first, A), (second, B)):
        library.flow_analyse(ctypes.byref(flow), (Instruction * 1)(load(register, C)), 1)
    block = library.dependence_block(1, False, ctypes.byref(first))
    assert block == library.dependence_block(1, False, ctypes.byref(first))
    others = [
        library.dependence_block(2, False, ctypes.byref(first)),
        library.dependence_block(1, True, ctypes.byref(first)),
        library.dependence_block(1, False, ctypes.byref(second)),
    ]
    assert len({block, *others}) == 4


def test_many_loads_in_a_block(scoreboard: Scoreboard) -> None:
    """More than there are numbers: those that no register holds any more are used again."""
    code = [load(A, A) for _ in range(512)]
    arrivals = [100.0 * (i + 1) for i in range(512)]
    assert scoreboard.run(code, arrivals, [0] * 512) == [0, *arrivals[:-1]]


@dataclass
class Naive:
    """Executes instruction by instruction: which loads, and registers of old, each register depends on."""

    sets: list[frozenset[str]] = field(default_factory=lambda: [frozenset()] * REGISTERS)
    arrivals: dict[str, float] = field(default_factory=dict)

    def run(self, name: str, code: list[Instruction], arrivals: list[float]) -> list[float]:
        self.sets = [s if r < 16 else frozenset() for r, s in enumerate(self.sets)]
        ready = []
        for i, instruction in enumerate(code):
            address = self._union(instruction.address)
            result = self._union(instruction.reads)
            used = address if instruction.loads else result if instruction.stores else frozenset()
            ready.append(max((self.arrivals[load] for load in used), default=0.0))
            if instruction.loads:
                key = f"{name}-{i}"
                self.arrivals[key] = max(arrivals[i], ready[-1])
                result |= {key}
            for r in range(REGISTERS):
                if instruction.writes >> r & 1:
                    self.sets[r] = result | (self.sets[r] if instruction.keeps >> r & 1 else frozenset())
        return ready

    def _union(self, registers: int) -> frozenset[str]:
        return frozenset().union(*(s for r, s in enumerate(self.sets) if registers >> r & 1))


def random_instruction(choose: random.Random) -> Instruction:
    def some(most: int) -> int:
        return mask(*choose.sample([0, 1, 2, 3, 5, FLAGS, VECTOR], choose.randint(0, most)))

    loads, stores = choose.random() < 0.4, choose.random() < 0.2
    writes = some(2)
    return Instruction(
        address=some(2) if loads or stores else 0,
        reads=some(2),
        writes=writes,
        keeps=writes if choose.random() < 0.1 else 0,
        loads=loads,
        stores=stores,
    )


@pytest.mark.parametrize("seed", range(50))
def test_a_block_depends_on_what_its_instructions_depend_on(scoreboard: Scoreboard, seed: int) -> None:
    """Random code. Words have room for few sources, so blocks are short."""
    choose = random.Random(seed)  # noqa: S311
    naive = Naive()
    for block in range(20):
        code = [random_instruction(choose) for _ in range(choose.randint(1, 9))]
        arrivals = [choose.random() * 1000 + 500 * block for _ in code]
        expected = naive.run(str(block), code, arrivals)
        # Every address is another one, so no stored value is loaded
        addresses = [8 * (1000 * block + i) for i in range(len(code))]
        assert scoreboard.run(code, arrivals, addresses) == expected
