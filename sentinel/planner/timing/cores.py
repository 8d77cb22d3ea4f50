# SPDX-License-Identifier: Apache-2.0
"""The predicted timeline of a step whose groups migrate by frames, on several migration cores.

The rules are those of the runtime (docs/sentinel.md): idle cores take the next chunk of the first move, in
the plan's order, that may run. A window is remapped when its copy is complete and the step has reached `map`.
Computation and copies slow each other down:

- while k cores migrate, the instructions of the others take cores / (cores - k) times as long;
- a copy occupies both nodes, and operations lose that share of their own time in each node's memory;
- every remap interrupts the computation once.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..formats.figures import Figures
from .cost import Costs
from .timeline import Timeline

if TYPE_CHECKING:
    from ..formats.fields import Floats

CHUNK = 64 << 10  # bytes that a migration core copies at a time
_ROUNDS, _EXACT = 20, 1e-6  # of finding how long an operation takes


class Remapping(NamedTuple):
    """A migration by frames as the cores see it: positions as in a plan's move, `size` in bytes."""

    at: int
    to: int
    before: int
    map: int
    copy: bool
    size: int


class Parts(NamedTuple):
    """The time of each operation in ns, in three parts: instructions, fast memory, slow memory."""

    compute: Floats
    fast: Floats
    slow: Floats


@dataclass(frozen=True)
class Cores:
    """Speeds of the migration cores. `byte_ns` is by destination, and of one core while all of them copy."""

    figures: Figures
    page_bytes: int

    def byte_ns(self, to: int) -> float:
        """Return the ns in which a core copies a byte to node `to`, while half of the cores copy with it."""
        return max(copy_ns_of(self.figures, to), self.shared_ns(to) * (self.figures.migration_cores + 1) / 2)

    def shared_ns(self, to: int) -> float:
        """Return the ns in which all cores together copy a byte at most: as fast as the nodes are."""
        fast, slow = (self.figures.nodes[node] for node in (to, 1 - to))
        return max(1 / slow.read_bandwidth, 1 / fast.write_bandwidth)

    def fluid_ns(self, to: int) -> float:
        """Return the ns in which all cores together copy a byte."""
        return max(copy_ns_of(self.figures, to) / self.figures.migration_cores, self.shared_ns(to))

    def remap_ns(self, size: int) -> float:
        """Return the ns to remap a window of `size` bytes."""
        return self.figures.remap_ns + size // self.page_bytes * self.figures.remap_page_ns

    def move_ns(self, to: int, size: int, *, copy: bool = True) -> float:
        """Return the ns from start to end of a move by otherwise idle cores."""
        chunks = -(-size // CHUNK) if copy else 0
        rounds = -(-chunks // self.figures.migration_cores)
        return rounds * min(CHUNK, size) * self.byte_ns(to) + self.remap_ns(size)

    def load(self, to: int) -> tuple[float, float]:
        """Return the share of both nodes' time that one core takes while it copies to node `to`, at most."""
        nodes, rate = self.figures.nodes, 1 / copy_ns_of(self.figures, to)
        read, written = rate / nodes[1 - to].read_bandwidth, rate / nodes[to].write_bandwidth
        return (written, read) if to == 0 else (read, written)

    def lost_ns(self, to: int, compute: float, fast: float, slow: float) -> float:
        """Return about the ns that computation loses by a copied byte; its time has the given parts."""
        nodes = self.figures.nodes
        read, written = 1 / nodes[1 - to].read_bandwidth, 1 / nodes[to].write_bandwidth
        core = self.byte_ns(to) / max(1, self.figures.cores - self.figures.migration_cores / 2)
        return compute * core + (fast * written + slow * read if to == 0 else fast * read + slow * written)

    def least_lost_ns(self, to: int) -> float:
        """Return the least ns that any computation loses by a copied byte: a lower bound."""
        figures = self.figures
        nodes, cores, copy_ns = figures.nodes, figures.migration_cores, copy_ns_of(figures, to)
        losses = [copy_ns / max(figures.cores, cores + 1)]
        for node, write in ((to, True), (1 - to, False)):
            bandwidth = nodes[node].write_bandwidth if write else nodes[node].read_bandwidth
            most = cores * (self.load(0)[node] + self.load(1)[node])
            losses.append(1 / bandwidth / (1 + most))
        return min(losses)


def copy_ns_of(figures: Figures, to: int) -> float:
    """Return the ns in which one core alone copies a byte to node `to`."""
    return max(figures.read_ns(1 - to, figures.migration_mlp), figures.write_ns(to))


def divide(costs: Costs, op_ns: Floats) -> Parts:
    """Return the parts of operations that take `op_ns` under a plan."""
    compute: Floats = np.minimum(np.maximum(costs.op_ns - costs.slow_memory_ns, 0.0), op_ns)
    slow = np.minimum(costs.remaining_slow_memory_ns(op_ns), op_ns - compute)
    return Parts(compute, op_ns - compute - slow, slow)


def run(
    parts: Parts,
    prologue_ns: float,
    moves: Sequence[Remapping],
    cores: Cores,
    returns: Sequence[tuple[int, int]] = (),
) -> Timeline:
    """Run a step with moves in order of `at`. Demotions that miss their deadline are in `late`.

    `returns` are windows that return to their birth place, when their groups are dead: positions and sizes.
    """
    return _Step(parts, prologue_ns, moves, cores, returns).run()


def returning(moves: Iterable[tuple[int, int]]) -> list[int]:
    """Return the units whose last move leaves them where they are not born: their windows return later."""
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for unit, to in moves:
        first.setdefault(unit, to)
        last[unit] = to
    return [unit for unit in first if first[unit] == last[unit]]


class _Span(NamedTuple):
    """Cores that are busy from `begin` to `end`, and the share of each node's time that they take."""

    begin: float
    end: float
    busy: float
    load: tuple[float, float]


class _Step:
    def __init__(
        self,
        parts: Parts,
        prologue_ns: float,
        moves: Sequence[Remapping],
        cores: Cores,
        returns: Sequence[tuple[int, int]],
    ) -> None:
        self.parts, self.moves, self.cores = parts, moves, cores
        self.returns: dict[int, list[int]] = {}
        for position, size in returns:
            self.returns.setdefault(position, []).append(size)
        self.now = prologue_ns
        self.free_at = [0.0] * cores.figures.migration_cores  # a heap
        self.active: list[_Span] = []
        self.remaps: list[float] = []  # times of remaps that have not interrupted the computation: a heap
        self.copied: list[float] = [0.0] * len(moves)
        self.start: list[float] = [0.0] * len(moves)
        self.finish: list[float] = [np.inf] * len(moves)
        self.alone_ns = [copy_ns_of(cores.figures, to) for to in (0, 1)]
        self.shared_ns = [cores.shared_ns(to) for to in (0, 1)]
        self.served = [0.0, 0.0]  # by destination: when the nodes have served all copies so far

    def run(self) -> Timeline:
        n, moves = len(self.parts.compute), self.moves
        mapped: dict[int, list[int]] = {}
        due: dict[int, list[int]] = {}
        for i, move in enumerate(moves):
            mapped.setdefault(move.map, []).append(i)
            due.setdefault(move.before, []).append(i)
        begin = np.zeros(n + 1)
        exposed: dict[int, float] = {}
        late: list[int] = []
        next_move = 0
        columns = zip(*(part.tolist() for part in self.parts))
        for p, op in enumerate([*columns, (0.0, 0.0, 0.0)]):
            for i in mapped.get(p, ()):
                if moves[i].at < p:
                    self._remap(i)
            for i in due.get(p, ()):
                if self.finish[i] <= self.now:
                    continue
                if moves[i].to == 0 and moves[i].at < p:
                    exposed[p] = exposed.get(p, 0.0) + self.finish[i] - self.now
                    self.now = self.finish[i]
                else:
                    late.append(i)
            for size in self.returns.get(p, ()):
                self._remap_now(self.now, size)
            begin[p] = self.now
            while next_move < len(moves) and moves[next_move].at == p:
                self._copy(next_move)
                if moves[next_move].map == p:
                    self._remap(next_move)
                next_move += 1
            if p < n:
                self.now += self._op_ns(*op)
        return Timeline(begin, list(zip(self.start, self.finish)), exposed, late)

    def _copy(self, i: int) -> None:
        """Give the chunks of a move to the cores."""
        move = self.moves[i]
        if not move.copy:
            self.start[i] = self.copied[i] = self.now
            return
        begin, end, busy, left = np.inf, 0.0, 0.0, move.size
        alone_ns, shared_ns = self.alone_ns[move.to], self.shared_ns[move.to]
        while left > 0:
            size = min(left, CHUNK)
            start = max(self.free_at[0], self.now)
            self.served[move.to] = max(self.served[move.to], start) + size * shared_ns
            finish = max(start + size * alone_ns, self.served[move.to])
            heapq.heapreplace(self.free_at, finish)
            begin, end, busy = min(begin, start), max(end, finish), busy + finish - start
            left -= CHUNK
        self.start[i], self.copied[i] = begin, end
        rate = move.size / (end - begin) if end > begin else 0.0
        nodes = self.cores.figures.nodes
        read, written = rate / nodes[1 - move.to].read_bandwidth, rate / nodes[move.to].write_bandwidth
        self._occupy(begin, end, busy, (written, read) if move.to == 0 else (read, written))

    def _remap(self, i: int) -> None:
        move = self.moves[i]
        remap_ns = self.cores.remap_ns(move.size)
        if self.copied[i] > self.now:  # by the core that copies the last chunk
            start = self.copied[i]
            self.free_at.remove(max(self.free_at, key=lambda free_at: (free_at == start, free_at)))
            self.free_at.append(start + remap_ns)
            heapq.heapify(self.free_at)
            self._interrupt(start, remap_ns)
            self.finish[i] = start + remap_ns
        else:
            self.finish[i] = self._remap_now(self.now, move.size)

    def _remap_now(self, now: float, size: int) -> float:
        """Let the first idle core remap a window. Returns when it has."""
        remap_ns = self.cores.remap_ns(size)
        start = max(self.free_at[0], now)
        heapq.heapreplace(self.free_at, start + remap_ns)
        self._interrupt(start, remap_ns)
        return start + remap_ns

    def _interrupt(self, start: float, remap_ns: float) -> None:
        self._occupy(start, start + remap_ns, remap_ns, (0.0, 0.0))
        heapq.heappush(self.remaps, start + remap_ns)

    def _occupy(self, begin: float, end: float, busy_ns: float, load: tuple[float, float]) -> None:
        if end > begin:
            busy = busy_ns / (end - begin)
            self.active.append(_Span(begin, end, busy, load))

    def _op_ns(self, compute: float, fast: float, slow: float) -> float:
        """Return the time of an operation that begins now, beside the migrations in progress."""
        alone = compute + fast + slow
        if not self.active and not self.remaps:
            return alone
        total, ns = self.cores.figures.cores, alone
        for _ in range(_ROUNDS if alone > 0 else 0):  # the longer it takes, the more runs beside it
            end = self.now + ns
            busy = fast_load = slow_load = 0.0
            for span in self.active:
                beside = min(span.end, end) - max(span.begin, self.now)
                if beside > 0:
                    busy += beside * span.busy
                    fast_load += beside * span.load[0]
                    slow_load += beside * span.load[1]
            migrating = min(busy / ns, len(self.free_at), total - 1)
            lost = compute * (total / (total - migrating) - 1)
            lost += fast * min(1.0, fast_load / ns) + slow * min(1.0, slow_load / ns)
            if alone + lost - ns < _EXACT * ns:
                break
            ns = alone + lost
        end = self.now + ns
        self.active = [span for span in self.active if span.end > end]
        while self.remaps and self.remaps[0] <= end:
            heapq.heappop(self.remaps)
            ns += self.cores.figures.shootdown_ns
        return ns
