# SPDX-License-Identifier: Apache-2.0
"""Candidates for a plan: schedules with their predictions, before tensors have addresses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .moves import Schedule
from .placement.place import moved_bytes, predict, rank
from .problem import LARGE_PROFILE, Problem
from .schedule.intervals import interval_lengths, interval_starts, layer_starts
from .schedule.rule import Rule
from .schedule.scheduler import schedule
from .schedule.static import static_schedule
from .schedule.tables import IntervalTables, StepTables
from .schedule.visits import collect_visits
from .timing.timeline import Timeline

# The time of one interval length is proportional to operations and uses, so small profiles get more lengths.
_MIN_LENGTHS, _MAX_LENGTHS = 10, 40
_RETAIN_QUANTILES = (0.25, 0.5, 0.75, 0.9, 0.97)  # of retain values: thresholds of variants
_PINNED_SHARES = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class Candidate:
    """A schedule with its prediction. `needed_bytes` is the most that one interval uses: Tensor(MIL)."""

    rule: str
    layers: int
    starts: list[int]
    schedule: Schedule
    timeline: Timeline
    moved_bytes: int
    needed_bytes: int = 0
    pinned: frozenset[int] = frozenset()

    @property
    def rank(self) -> tuple[int, int]:
        """The sort key by which candidates are compared, lowest first."""
        return rank(self.timeline, self.moved_bytes)


def sentinel_candidates(problem: Problem) -> list[Candidate]:
    """Return the static candidate, then one by the paper's rule for each interval length."""
    paper = [candidate for candidate, _ in _paper_candidates(problem)]
    return [static_candidate(problem), *drop_late(paper)]


def sentinel_opt_candidates(problem: Problem) -> list[Candidate]:
    """Return the static candidate, those by the paper's rule, and variants of the best ones."""
    paper = _paper_candidates(problem)
    best = sorted(paper, key=lambda pair: pair[0].rank)[: best_count(problem)]
    variants = [variant for candidate, tables in best for variant in _variants(problem, candidate, tables)]
    return drop_late([static_candidate(problem), *(candidate for candidate, _ in paper), *variants])


def drop_late(candidates: list[Candidate]) -> list[Candidate]:
    """Return the candidates without late demotions, or all of them if none is left.

    A cancelled promotion can shorten a wait on which a later demotion relies.
    """
    return [candidate for candidate in candidates if not candidate.timeline.late] or candidates


def best_count(problem: Problem) -> int:
    """Return how many of the best candidates get variants, and addresses: one to four."""
    return _length_count(problem) // _MIN_LENGTHS


def static_candidate(problem: Problem) -> Candidate:
    """Return the best placement without migration. The whole step is one interval."""
    layers = len(layer_starts(problem.profile))
    return predict_candidate(problem, "static", layers, [0], static_schedule(problem))


def predict_candidate(
    problem: Problem,
    rule: str,
    layers: int,
    starts: list[int],
    schedule: Schedule,
    *,
    needed_bytes: int = 0,
    pinned: frozenset[int] = frozenset(),
) -> Candidate:
    """Return a schedule with its prediction."""
    return Candidate(
        rule=rule,
        layers=layers,
        starts=starts,
        schedule=schedule,
        timeline=predict(problem, schedule),
        moved_bytes=moved_bytes(problem, schedule),
        needed_bytes=needed_bytes,
        pinned=pinned,
    )


def _length_count(problem: Problem) -> int:
    affordable = LARGE_PROFILE // (len(problem.op_ns) + len(problem.use_unit))
    return min(_MAX_LENGTHS, max(_MIN_LENGTHS, affordable))


def _paper_candidates(problem: Problem) -> list[tuple[Candidate, IntervalTables]]:
    """Return a candidate by the paper's rule for each interval length, with the tables of its intervals."""
    if not len(problem.units):
        return []
    step = StepTables(problem)
    candidates: list[tuple[Candidate, IntervalTables]] = []
    fast_variables: frozenset[int] = frozenset()
    for layers in interval_lengths(problem.profile, _length_count(problem)):
        visits = collect_visits(problem, interval_starts(problem.profile, layers))
        tables = IntervalTables(step, visits)
        candidate = _by_rule(problem, tables, Rule(layers), fast_variables)
        candidates.append((candidate, tables))
        fast_variables = _fast_variables(problem, candidate)
    return candidates


def _variants(problem: Problem, paper: Candidate, tables: IntervalTables) -> list[Candidate]:
    """Return variants of a candidate by the paper's rule, with the same intervals."""
    rule = Rule(paper.layers, headroom=True)
    variants = [_by_rule(problem, tables, rule, _fast_variables(problem, paper))]
    rule = rule._replace(headroom=variants[0].rank < paper.rank)
    v = tables.visits
    values = v.retain_value[(v.next >= 0) & (v.distance > 1) & np.isfinite(v.retain_value)]
    thresholds = sorted(set(np.quantile(values, _RETAIN_QUANTILES).tolist())) if len(values) else []
    for variant in (
        *(rule._replace(retain=threshold) for threshold in thresholds),
        *(
            rule._replace(pinned_share=share, pinned=static_schedule(problem, share).born_fast)
            for share in _PINNED_SHARES
        ),
    ):
        variants.append(_by_rule(problem, tables, variant, _fast_variables(problem, variants[-1])))
    return variants


def _by_rule(
    problem: Problem, tables: IntervalTables, rule: Rule, fast_variables: frozenset[int]
) -> Candidate:
    """Schedule the step by `rule`, beginning with a guess of the variables in fast memory at its start."""
    visits = tables.visits
    touched = np.where(problem.units.share > 0, problem.units.size, 0)
    needed_bytes = np.bincount(visits.interval, weights=touched[visits.unit])
    return predict_candidate(
        problem,
        rule.name,
        rule.layers,
        tables.starts,
        schedule(tables, rule, fast_variables),
        needed_bytes=int(needed_bytes.max(initial=0)),
        pinned=rule.pinned,
    )


def _fast_variables(problem: Problem, candidate: Candidate) -> frozenset[int]:
    return frozenset(unit for unit in candidate.schedule.born_fast if problem.units.variable[unit])
