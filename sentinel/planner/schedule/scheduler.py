# SPDX-License-Identifier: Apache-2.0
"""The scheduler: simulates one step in order and decides promotions and demotions (paper, IV-C and IV-D).

At each position it

1. retires finished migrations and frees the memory of dead units;
2. at the start of an interval, waits for the promotions that the interval needs, or cancels those whose wait
   costs more than they save;
3. demotes units whose visit is over;
4. at the start of an interval, collects promotion candidates for the next one;
5. allocates new units, in fast memory if they fit;
6. gives each idle migration thread the hottest candidates that fit.

Decisions use the visits of the whole step, but otherwise only what has happened so far. The budget is never
exceeded: a move occupies its destination from `at` on, and its source until `before`. A migration thread
executes its moves one at a time, in order.
"""

from __future__ import annotations

import heapq
from collections import deque

from ..moves import Schedule, UnitMove
from .rule import Rule
from .tables import IntervalTables

_MAX_SKIPPED = 8  # candidates per position that do not fit, skipped for smaller ones
_MAX_ROUNDS = 4  # simulated steps until the variables must have settled


class _Migration:
    """A migration given to its thread."""

    __slots__ = ("at", "before", "cancelled", "finish", "saved_ns", "start", "to", "unit")

    def __init__(self, unit: int, at: int, to: int, saved_ns: float) -> None:
        self.unit = unit
        self.at = at
        self.to = to
        self.saved_ns = saved_ns
        self.before = -1
        self.cancelled = False
        self.start = 0.0
        self.finish = 0.0


def schedule(tables: IntervalTables, rule: Rule, fast_variables: frozenset[int]) -> Schedule:
    """Schedule the step in its steady state: variables end the step where they begin it.

    `fast_variables` is a guess of the variables in fast memory at the start. The simulation repeats with the
    variables that the step leaves there until they are the same. If they do not settle, variables do not
    migrate.
    """
    size = tables.step.size
    fast_variables -= rule.pinned
    if sum(size[unit] for unit in fast_variables) > _migratable_budget(tables, rule):
        fast_variables = frozenset()  # the guess comes from a rule with a larger budget
    for _ in range(_MAX_ROUNDS):
        step = _Step(tables, rule, fast_variables)
        step.run()
        left_in_fast = step.fast_variables()
        if left_in_fast == fast_variables:
            return step.result()
        fast_variables = left_in_fast
    step = _Step(tables, rule._replace(fixed_variables=True), fast_variables)
    step.run()
    return step.result()


def _migratable_budget(tables: IntervalTables, rule: Rule) -> int:
    """Return what pinned units leave of the unit budget."""
    unit_budget = tables.step.problem.unit_budget
    return unit_budget - int(rule.pinned_share * unit_budget)


class _Step:
    """One simulated step."""

    def __init__(self, tables: IntervalTables, rule: Rule, fast_variables: frozenset[int]) -> None:
        step, v = tables.step, tables.visits
        problem = step.problem
        self.tables, self.step, self.rule, self.pinned = tables, step, rule, rule.pinned
        self.n = len(step.op_ns)
        self.budget = _migratable_budget(tables, rule)
        self.visit_unit: list[int] = v.unit.tolist()
        self.visit_interval: list[int] = v.interval.tolist()
        self.has_next: list[bool] = (v.next >= 0).tolist()
        self.retained: list[bool] = ((v.next >= 0) & (v.retain_value >= rule.retain)).tolist()

        self.fast = bytearray(len(problem.units))
        self.born_fast: list[int] = [*fast_variables, *rule.pinned]
        for unit in self.born_fast:
            self.fast[unit] = step.variable[unit]
        self.occupied = sum(step.size[unit] for unit in fast_variables)
        self.migrating: dict[int, _Migration] = {}
        self.migrations: list[_Migration] = []
        self.due: list[_Migration] = []
        threads = min(2, problem.figures.migration_cores)
        self.thread_of = (0, threads - 1)  # of promotions and demotions
        self.pending: list[deque[_Migration]] = [deque() for _ in range(threads)]
        self.free_at = [0.0] * threads
        self.now = problem.costs.prologue_ns
        self.candidates: list[tuple[float, int, float]] = []  # heap of (minus heat, unit, ns saved)
        self.released: dict[int, list[tuple[float, int, float]]] = {}
        self.full_at: int | None = None  # occupied bytes when the last candidates did not fit

    def run(self) -> None:
        tables, step = self.tables, self.step
        birth_saved_ns, size, visit_unit = tables.birth_saved_ns, step.size, self.visit_unit
        interval_at = {start: i for i, start in enumerate(tables.starts)}
        bounds = [*tables.starts, self.n, self.n]
        interval_end, fast, pinned = 0, self.fast, self.pinned
        promoting, demoting = self.pending[0], self.pending[-1]  # the same queue with one thread
        columns = zip(step.deaths, tables.ends, step.births, step.uses, step.op_ns)
        for p, (deaths, ends, births, uses, op_ns) in enumerate(columns):
            if (promoting and promoting[0].finish <= self.now) or (
                demoting and demoting[0].finish <= self.now
            ):
                self._retire(p)
            for unit in deaths:
                self._free(unit)
            interval = interval_at.get(p, -1)
            if interval >= 0:
                self._settle_promotions(p)
            for visit in ends:
                if fast[visit_unit[visit]]:
                    self._demote(visit, p, bounds[self.visit_interval[visit] + 2])
            if interval >= 0:
                interval_end = bounds[interval + 1]
                self._collect_candidates(interval, p, interval_end)
                if p == 0:
                    self._demote_at_start()
            for unit in births:
                if unit in pinned:
                    fast[unit] = 1
                elif birth_saved_ns[unit] > 0 and self.occupied + size[unit] <= self.budget:
                    fast[unit] = 1
                    self.occupied += size[unit]
                    self.born_fast.append(unit)
            end = self.now + op_ns
            for unit, saved_ns in uses:
                if fast[unit]:
                    end -= saved_ns
            if p in self.released or (self.candidates and (self.free_at[0] < end or p + 1 == interval_end)):
                self._promote(p, end, interval_end)
            self.now = end
        self._retire(self.n)
        self._settle_promotions(self.n)
        for queue in self.pending:
            for migration in list(queue):
                # an unfinished demotion is one of a variable, which the next step would find in fast memory
                if migration.to == 1 and not migration.cancelled:
                    self._cancel(migration)
                    fast[migration.unit] = 1

    def fast_variables(self) -> frozenset[int]:
        variable, pinned = self.step.variable, self.pinned
        return frozenset(u for u, fast in enumerate(self.fast) if fast and variable[u] and u not in pinned)

    def result(self) -> Schedule:
        moves = [UnitMove(m.unit, m.at, m.to, m.before) for m in self.migrations if not m.cancelled]
        waits = sorted({move.before for move in moves if move.to == 0})
        return Schedule(frozenset(self.born_fast), moves, waits)

    def _give(self, unit: int, at: int, to: int, saved_ns: float) -> _Migration:
        """Append a migration to the queue of its thread."""
        migration = _Migration(unit, at, to, saved_ns)
        thread = self.thread_of[to]
        migration.start = max(self.free_at[thread], self.now)
        migration.finish = self.free_at[thread] = migration.start + self.step.move_ns[to][unit]
        self.pending[thread].append(migration)
        self.migrating[unit] = migration
        self.migrations.append(migration)
        return migration

    def _cancel(self, migration: _Migration) -> None:
        """Remove a migration from the schedule. Later ones keep their times, which are then upper bounds."""
        migration.cancelled = True
        del self.migrating[migration.unit]
        if migration.to == 0:
            self.occupied -= self.step.size[migration.unit]
        thread = self.thread_of[migration.to]
        if self.pending[thread][-1] is migration:
            self.pending[thread].pop()
            self.free_at[thread] = migration.start

    def _retire(self, p: int) -> None:
        for queue in self.pending:
            while queue and queue[0].finish <= self.now:
                migration = queue.popleft()
                if migration.to == 1 and not migration.cancelled:
                    migration.before = p
                    del self.migrating[migration.unit]
                    self.occupied -= self.step.size[migration.unit]

    def _free(self, unit: int) -> None:
        if unit in self.pinned:
            self.fast[unit] = 0
            return
        migration = self.migrating.get(unit)
        if migration is not None:  # a demotion: promoted units are used after their promotion is due
            self._cancel(migration)
        if self.fast[unit] or migration is not None:
            self.occupied -= self.step.size[unit]
            self.fast[unit] = 0

    def _settle_promotions(self, p: int) -> None:
        """Wait for unfinished promotions of the interval that begins if that pays; cancel the others."""
        for migration in self.due:
            wait = migration.finish - self.now
            if wait > 0 and wait >= migration.saved_ns:
                self._cancel(migration)
                continue
            self.now = max(self.now, migration.finish)
            migration.before = p
            del self.migrating[migration.unit]
            self.fast[migration.unit] = 1
        self.due = []
        self._retire(p)

    def _collect_candidates(self, interval: int, p: int, end: int) -> None:
        """Collect candidates for the next interval, each released after its last use in this one."""
        self.candidates, self.released, self.full_at = [], {}, None
        migrating, fast, fixed_variables = self.migrating, self.fast, self.rule.fixed_variables
        for unit, heat, saved_ns, release in self.tables.upcoming[interval + 1]:
            if fast[unit]:
                continue
            if unit in migrating and migrating[unit].to == 1:
                # it would return at once, or be used during its demotion
                self._cancel(migrating[unit])
                fast[unit] = 1
            elif saved_ns > 0 and release < end and not (fixed_variables and self.step.variable[unit]):
                self.released.setdefault(max(p, release), []).append((-heat, unit, saved_ns))

    def _demote(self, visit: int, p: int, next_interval_end: int) -> None:
        """Demote the unit of a visit that is over, unless it is retained or dies soon."""
        unit = self.visit_unit[visit]
        if self.retained[visit] or p < self.step.ready[unit] or unit in self.pinned:
            return
        if self.step.variable[unit]:
            if self.rule.fixed_variables:
                return
        elif not self.has_next[visit] and self.step.death[unit] <= next_interval_end:
            return
        self.fast[unit] = 0
        self._give(unit, p, 1, 0.0)

    def _demote_at_start(self) -> None:
        """Demote variables that start in fast memory but have no visit in the first two intervals."""
        if self.rule.fixed_variables:
            return
        for visit, interval in self.tables.wraps:
            unit = self.visit_unit[visit]
            if interval >= 2 and self.fast[unit] and not self.retained[visit] and unit not in self.pinned:
                self.fast[unit] = 0
                self._give(unit, 0, 1, 0.0)

    def _promote(self, p: int, end: float, interval_end: int) -> None:
        """Start promotions while the migration thread is idle before `end`, the end of operation `p`."""
        for candidate in self.released.pop(p, ()):
            heapq.heappush(self.candidates, candidate)
            self.full_at = None
        if not self.candidates or (self.full_at is not None and self.occupied >= self.full_at):
            return
        thread = self.thread_of[0]
        budget = self.budget - (self.tables.headroom[p] if self.rule.headroom else 0)
        skipped: list[tuple[float, int, float]] = []
        while self.candidates and len(skipped) < _MAX_SKIPPED:
            _, unit, saved_ns = self.candidates[0]
            busy = max(self.free_at[thread], self.now) >= end
            if busy and not (p + 1 == interval_end and saved_ns > self.step.move_ns[0][unit]):
                break
            candidate = heapq.heappop(self.candidates)
            if self.fast[unit] or unit in self.migrating:
                continue
            if self.occupied + self.step.size[unit] > budget:
                skipped.append(candidate)
                continue
            self.occupied += self.step.size[unit]
            self.due.append(self._give(unit, p, 0, saved_ns))
        for candidate in skipped:
            heapq.heappush(self.candidates, candidate)
        self.full_at = self.occupied if skipped else None
