# SPDX-License-Identifier: Apache-2.0
"""Replays under page-based policies: what these see, when they decide, and what their moves cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sentinel.replay import engine, paging, placement
from sentinel.replay.paging import Pages
from sentinel.replay.trace import LINES, PAGE, Trace
from tests.fakes import page_steps
from tests.fakes.page_steps import HOT_PAGES, OPTANE, SCANNED_PAGES, VARIABLE_PAGES

NOTHING = np.empty(0, dtype=int)
BUDGET = 100  # pages
COUNT = 1024  # pages of the pool
HOT = range(VARIABLE_PAGES, VARIABLE_PAGES + HOT_PAGES)


class Policy:
    """Decides by a function, and checks the budget each time."""

    def __init__(self, decide: Callable[[Pages], Any], decisions: int = 4, sample: int = 0) -> None:
        self.decisions, self.sample, self._decide = decisions, sample, decide
        self.times: list[float] = []

    def decide(self, pages: Pages) -> Any:
        self.times.append(pages.now)
        assert pages.free >= 0
        return self._decide(pages)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Trace:
    return page_steps.hot_and_scan(tmp_path_factory.mktemp("trace"))


def run(recorded: Trace, policy: Policy, **options: Any) -> engine.Replayed:
    return paging.run(recorded, OPTANE, policy, BUDGET * PAGE, **options)


def test_policy_that_moves_nothing_is_first_touch(recorded: Trace) -> None:
    policy = Policy(lambda _: NOTHING)
    replayed = run(recorded, policy, steps=1)
    still = engine.run(recorded, placement.first_touch(recorded, BUDGET * PAGE), OPTANE)
    assert replayed.step_ns == still.step_ns
    assert replayed.counters[0] == still.counters[0]
    assert replayed.pool_pages == (BUDGET, COUNT - BUDGET)
    assert len(policy.times) in (3, 4)  # the last period ends with the step


def test_policy_decides_at_equal_distances_in_all_steps(recorded: Trace) -> None:
    policy = Policy(lambda _: NOTHING)
    replayed = run(recorded, policy, steps=3)
    periods = np.diff(policy.times)
    assert 11 <= len(policy.times) <= 12
    assert periods == pytest.approx(replayed.step_ns / 4, rel=0.01)


def test_policy_sees_accessed_pages(recorded: Trace) -> None:
    seen = np.zeros(COUNT, dtype=bool)

    def decide(pages: Pages) -> Any:
        seen[pages.take_touched() == paging.READ] = True
        assert not pages.touched.any()
        return NOTHING

    run(recorded, Policy(decide), steps=2)
    assert np.flatnonzero(seen).tolist() == [*range(SCANNED_PAGES), *HOT]


def samples_of(recorded: Trace, sample: int, seed: int = 0) -> Any:
    reads = np.zeros(COUNT, dtype=int)

    def decide(pages: Pages) -> Any:
        sampled, written = pages.take_samples()
        reads[:] += sampled
        assert not written.any()
        return NOTHING

    replayed = run(recorded, Policy(decide, 50, sample), steps=2, seed=seed)
    return reads, replayed.misses


def test_samples_are_misses(recorded: Trace) -> None:
    every, misses = samples_of(recorded, 1)
    assert sum(every) == pytest.approx(2 * misses, rel=0.03)  # without those after the last decision
    assert every[:SCANNED_PAGES].max() == 2 * LINES
    tenth, _ = samples_of(recorded, 10)
    assert sum(tenth) == pytest.approx(sum(every) / 10, rel=0.05)
    hot = slice(VARIABLE_PAGES, VARIABLE_PAGES + HOT_PAGES)
    assert tenth[hot].mean() == pytest.approx(every[hot].mean() / 10, rel=0.1)


def test_samples_are_the_same_with_the_same_seed(recorded: Trace) -> None:
    first, second, other = (samples_of(recorded, 10, seed)[0].tolist() for seed in (1, 1, 2))
    assert first == second != other


def test_hidden_page_is_seen_at_its_next_access(recorded: Trace) -> None:
    latencies: dict[int, float] = {}
    unused, hot = COUNT - 1, VARIABLE_PAGES

    def decide(pages: Pages) -> Any:
        if len(policy.times) == 1:
            pages.hide(np.array([unused, hot]))
        faulted, latency = pages.take_faults()
        latencies.update(zip(faulted.tolist(), latency.tolist(), strict=True))
        assert pages.take_faults()[0].tolist() == []
        return NOTHING

    policy = Policy(decide, decisions=8)
    run(recorded, policy, steps=1)
    assert list(latencies) == [hot]
    assert 0 < latencies[hot] < policy.times[3] - policy.times[0]


def test_moves_take_effect_and_are_counted(recorded: Trace) -> None:
    hot = np.array(HOT)

    def decide(pages: Pages) -> Any:
        wanted = hot[~pages.fast[hot]]
        return np.concatenate([wanted, np.flatnonzero(pages.fast[:SCANNED_PAGES])[: len(wanted)]])

    first, last = (run(recorded, Policy(decide), steps=steps) for steps in (1, 8))
    still = run(recorded, Policy(lambda _: NOTHING), steps=2)
    promoted, demoted = first.pages["promoted"], first.pages["demoted"]
    assert promoted > 10
    assert abs(promoted - demoted) <= 1
    helper = first.counters[1]
    assert helper["charged"] == (promoted + demoted) * OPTANE.page
    assert helper["bytes_read"] == [demoted * PAGE, promoted * PAGE]
    assert (last.pages["promoted"], last.pages["demoted"]) == (0, 0)
    assert last.step_ns < 0.7 * still.step_ns
    assert last.pool_pages == (BUDGET, COUNT - BUDGET)


def test_promotions_beyond_the_budget_fail(recorded: Trace) -> None:
    replayed = run(recorded, Policy(lambda pages: np.flatnonzero(~pages.fast)), steps=2)
    assert replayed.pages["promoted"] == 0
    assert replayed.pages["failed"] > 0
    assert replayed.pool_pages == (BUDGET, COUNT - BUDGET)


@pytest.mark.parametrize("cores", [1, 2])
def test_budget_is_kept_while_everything_moves(recorded: Trace, cores: int) -> None:
    replayed = run(recorded, Policy(lambda _: np.arange(COUNT)), steps=3, cores=cores)
    assert replayed.pages["promoted"] > 0
    assert sum(replayed.pool_pages or ()) == COUNT
    assert (replayed.pool_pages or (COUNT,))[0] <= BUDGET


def test_page_that_is_named_twice_moves_once(recorded: Trace) -> None:
    policy = Policy(lambda pages: np.repeat(np.flatnonzero(pages.fast)[:2], 2))
    replayed = run(recorded, policy, steps=1)
    assert replayed.pages["demoted"] == 2 * len(policy.times)
    assert replayed.pool_pages == (BUDGET - 2 * len(policy.times), COUNT - BUDGET + 2 * len(policy.times))


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_error_of_a_policy_ends_the_replay(recorded: Trace, error: type[BaseException]) -> None:
    def decide(pages: Pages) -> Any:
        raise error

    policy = Policy(decide)
    with pytest.raises(error):
        run(recorded, policy)
    assert len(policy.times) == 1
