# SPDX-License-Identifier: Apache-2.0
"""Page-based rivals on accesses whose right placement is known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from experiments import policies
from experiments.replays import Replays
from sentinel.replay import engine, placement
from sentinel.replay.paging import Pages
from sentinel.replay.trace import PAGE, Trace
from sentinel.rivals import memory_mode, memtis, tpp, weighted_interleave
from sentinel.rivals.exchange import exchange
from sentinel.rivals.hemem import HeMem
from sentinel.rivals.hint_faults import Scanner
from sentinel.rivals.ial import Ial
from sentinel.rivals.lru import Lru
from sentinel.rivals.numa_balancing import NumaBalancing
from tests.fakes import page_steps
from tests.fakes.page_steps import (
    HOT_PAGES,
    OPTANE,
    SCANNED_PAGES,
    decide,
    fast_pages,
    pages_of,
    touch,
)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Trace:
    return page_steps.hot_and_scan(tmp_path_factory.mktemp("trace"))


# ---------------------------------------------------------------- lists


def ages(lru: Lru, *touched: list[int]) -> None:
    for pages in touched:
        bits = np.zeros(len(lru.active), dtype=bool)
        bits[pages] = True
        lru.age(bits)


def test_page_becomes_active_by_two_references_in_a_row() -> None:
    lru = Lru(4)
    ages(lru, [0, 1], [1, 2], [2])
    assert lru.active.tolist() == [False, False, True, False]
    ages(lru, [], [1], [], [1])
    assert not lru.active.any()


def test_lists_are_in_order_of_their_last_change() -> None:
    lru, everything = Lru(5), np.ones(5, dtype=bool)
    ages(lru, [3], [3, 2], [3, 2], [3, 2, 1], [3, 2])
    assert lru.hottest(everything).tolist() == [3, 2]
    assert lru.coldest(everything).tolist() == [0, 4, 1]
    ages(lru, [2, 0])
    assert lru.coldest(everything).tolist() == [4, 1, 3]  # 0 was just accessed


def test_exchange_fills_the_room_and_swaps_the_rest() -> None:
    pages = pages_of([0, 1, 2], 8, budget=4)
    hot, cold = np.array([5, 6, 7]), np.array([0, 1])
    assert exchange(pages, hot, cold).tolist() == [5, 6, 7, 0, 1]
    assert exchange(pages, hot[:2], cold).tolist() == [5, 6, 0]
    assert exchange(pages, hot, cold, spare=1).tolist() == [5, 6, 0, 1]
    assert exchange(pages, hot[:0], cold, spare=2).tolist() == [0]


# ---------------------------------------------------------------- IAL


def test_ial_exchanges_the_hot_set_and_keeps_it() -> None:
    policy, pages = Ial(), pages_of([0, 1], 6)
    for _ in range(4):
        touch(pages, [3, 5])
        decide(policy, pages)
    assert fast_pages(pages) == [3, 5]
    touch(pages, [3, 5])
    assert decide(policy, pages) == []


def test_ial_is_not_disturbed_by_a_scan() -> None:
    policy, pages = Ial(), pages_of([0, 1], 40)
    for page in range(2, 40):
        touch(pages, [0, 1, page])
        assert decide(policy, pages) == []
    assert fast_pages(pages) == [0, 1]


# ---------------------------------------------------------------- by sampled misses


@pytest.mark.parametrize(
    ("histogram", "capacity", "threshold"),
    [
        ([0, 0, 2, 3], 5, 1),  # all that was sampled is hot
        ([9, 0, 2, 3], 4, 3),
        ([9, 1, 2, 3], 6, 1),
        ([9, 1, 2, 3], 2, 4),  # the hottest bin does not fit
    ],
)
def test_memtis_fills_fast_memory_with_the_hottest_bins(
    histogram: list[int], capacity: int, threshold: int
) -> None:
    assert memtis.hot_threshold(np.array(histogram), capacity) == threshold


def test_memtis_promotes_the_pages_with_most_samples_and_keeps_them() -> None:
    policy, pages = memtis.Memtis(), pages_of([0, 1, 2], 8)
    touch(pages, [3], reads=3)
    touch(pages, [4, 5], reads=6)
    touch(pages, [6, 7], reads=1)
    assert decide(policy, pages) == [4, 5, 3, 0, 1, 2]
    touch(pages, range(8), reads=1)  # a scan
    assert decide(policy, pages) == []
    assert fast_pages(pages) == [3, 4, 5]


def test_memtis_forgets_what_was_hot() -> None:
    policy, pages = memtis.Memtis(), pages_of([0, 1], 4)
    touch(pages, [0, 1], reads=5000)
    decide(policy, pages)
    for _ in range(20):
        touch(pages, [2, 3], writes=memtis.COOLING)
        touch(pages, [0, 1], reads=memtis.COOLING)
        decide(policy, pages)
    assert fast_pages(pages) == [0, 1]  # equally hot now: nothing moves
    for _ in range(5):
        touch(pages, [2, 3], writes=4 * memtis.COOLING)
        decide(policy, pages)
    assert fast_pages(pages) == [2, 3]


def test_hemem_promotes_written_pages_first() -> None:
    policy, pages = HeMem(), pages_of([0, 1], 8, period=1e6)
    touch(pages, [2, 3], reads=9)
    touch(pages, [4], writes=4)
    touch(pages, [5], reads=7)
    touch(pages, [6], writes=3)
    assert decide(policy, pages) == [4, 2, 0, 1]
    assert fast_pages(pages) == [2, 4]


def test_hemem_moves_nothing_if_fast_memory_is_hot() -> None:
    policy, pages = HeMem(), pages_of([0, 1], 4)
    touch(pages, range(4), reads=12)
    assert decide(policy, pages) == []


def test_hemem_cools_all_pages_when_one_is_hot_enough() -> None:
    policy, pages = HeMem(), pages_of([0, 1], 4)
    touch(pages, [0, 1], reads=10)
    touch(pages, [2], reads=18)
    assert decide(policy, pages) == []
    touch(pages, [2], reads=1)
    assert decide(policy, pages) == [2, 0]  # 0 has 5 reads left


def test_hemem_keeps_to_its_rate() -> None:
    policy, pages = HeMem(), pages_of([], 40, budget=40, period=1000.0)
    touch(pages, range(40), reads=8)
    assert len(decide(policy, pages)) == 2  # 10 GB/s for 1 us: 10,000 bytes


# ---------------------------------------------------------------- by hint faults


def test_scanner_hides_slow_pages_part_by_part() -> None:
    scanner, pages = Scanner(3), pages_of([0, 4], 6)
    pages.now = 5.0
    hidden = []
    for _ in range(4):
        scanner.hide_next(pages)
        hidden.append(np.flatnonzero(pages.hidden >= 0).tolist())
        pages.hidden[:] = -1
    assert hidden == [[1], [2, 3], [5], [1]]


def faults(policy: tpp.Tpp | NumaBalancing, pages: Pages, accessed: Sequence[int], passes: int) -> None:
    """Access the pages in every period of some passes of the scanner."""
    for _ in range(passes * policy.decisions):
        touch(pages, accessed)
        decide(policy, pages)


def test_tpp_promotes_a_page_at_its_second_fault() -> None:
    policy, pages = tpp.Tpp(), pages_of([0, 1, 2], 64, budget=5)
    accessed = [0, 1, 40]
    faults(policy, pages, accessed, 1)
    assert fast_pages(pages) == [0, 1, 2]
    faults(policy, pages, accessed, 2)
    assert fast_pages(pages) == [0, 1, 2, 40]  # 2 % of 5 pages are kept free: one
    faults(policy, pages, [*accessed, 50, 51], 3)
    assert pages.free == 1
    assert set(fast_pages(pages)) >= {0, 1, 40}
    assert 2 not in fast_pages(pages)


def test_tpp_keeps_pages_free() -> None:
    policy, pages = tpp.Tpp(), pages_of(range(100), 200)
    decide(policy, pages)
    decide(policy, pages)
    assert pages.free == 2


def test_tpp_does_not_promote_a_page_that_is_accessed_once() -> None:
    policy, pages = tpp.Tpp(), pages_of([0, 1], 64, budget=8)
    for page in range(2, 64):  # each at one time
        touch(pages, [page])
        decide(policy, pages)
    assert set(fast_pages(pages)) <= {0, 1}


def balancing(limit_pages: float, *, budget: int = 4) -> tuple[NumaBalancing, Pages]:
    """NUMA balancing with a limit in pages for a pass, and full fast memory."""
    pages = pages_of(range(budget), 64, budget=budget)
    return NumaBalancing(limit_pages * PAGE / (NumaBalancing.decisions * pages.period)), pages


def test_numa_balancing_promotes_what_is_accessed_soon() -> None:
    policy, pages = balancing(1000, budget=32)
    policy.threshold = 2.5 * pages.period
    decide(policy, pages)
    slow, hot = 63, 62
    pages.hide(np.array([hot, slow]))
    decide(policy, pages)
    touch(pages, [hot])
    decide(policy, pages)  # the fault came after one period
    assert hot in fast_pages(pages)
    decide(policy, pages)
    touch(pages, [slow])
    decide(policy, pages)  # after three periods
    assert slow not in fast_pages(pages)


def test_numa_balancing_keeps_to_its_limit() -> None:
    policy, pages = balancing(3, budget=32)
    promoted = 0
    for _ in range(5 * policy.decisions):
        before = set(fast_pages(pages))
        touch(pages, range(32, 64))
        decide(policy, pages)
        promoted += len(set(fast_pages(pages)) - before)
    assert 12 <= promoted <= 15  # three in each step, and none in its first period


def test_numa_balancing_promotes_every_fault_into_free_memory() -> None:
    policy, pages = NumaBalancing(1e-9), pages_of([], 64, budget=32)
    policy.threshold = 1e-3
    faults(policy, pages, [60, 61], 2)
    assert fast_pages(pages) == [60, 61]


def test_numa_balancing_adjusts_its_threshold_to_the_limit() -> None:
    initial = NumaBalancing.decisions * 100.0
    policy, pages = balancing(1000)
    faults(policy, pages, range(64), 20)
    assert policy.threshold == 2 * initial  # the limit never binds
    policy, pages = balancing(1)
    faults(policy, pages, range(64), 3)
    assert policy.threshold < initial


# ---------------------------------------------------------------- without migrations

POOL = 1024  # pages


def test_weighted_interleave_has_pages_in_the_ratio_of_bandwidths(recorded: Trace) -> None:
    fast = OPTANE.nodes[0].read_bandwidth / sum(node.read_bandwidth for node in OPTANE.nodes)
    node = weighted_interleave.place(recorded, OPTANE, POOL * PAGE).page
    assert (node == 0).sum() == int(POOL * fast)
    assert all((node[i : i + 100] == 0).sum() in (72, 73) for i in range(POOL - 100))


def test_weighted_interleave_keeps_to_the_budget(recorded: Trace) -> None:
    node = weighted_interleave.place(recorded, OPTANE, 100 * PAGE + 5).page
    assert (node == 0).sum() == 100
    assert node[:138].sum() == 38
    assert node[138:].all()


def test_memory_mode_of_the_whole_pool_is_as_fast_as_fast_memory(recorded: Trace) -> None:
    fast = engine.run(recorded, placement.fast_only(recorded), OPTANE)
    cached = memory_mode.run(recorded, OPTANE, POOL * PAGE)
    assert cached.counters[0]["bytes_read"][1] == 0
    assert cached.step_ns == pytest.approx(fast.step_ns, rel=0.01)


def test_memory_mode_misses_what_collides(recorded: Trace) -> None:
    """The hot set and the first pages of the scan take each other's places once; the others are alone."""
    assert POOL % SCANNED_PAGES == 0
    assert HOT_PAGES < SCANNED_PAGES
    cached = memory_mode.run(recorded, OPTANE, SCANNED_PAGES * PAGE).counters[0]
    assert cached["bytes_read"][1] == 2 * HOT_PAGES * PAGE
    everything = memory_mode.run(recorded, OPTANE, 0).counters[0]
    assert everything["hits_near"] == 0


# ---------------------------------------------------------------- all, in the engine

PAGE_POLICIES = ["hemem", "ial", "memtis", "numa-balancing", "tpp"]


@pytest.mark.parametrize("name", PAGE_POLICIES)
def test_hot_set_comes_to_fast_memory(recorded: Trace, name: str) -> None:
    """The hot set takes three quarters of all misses, and fits."""
    player = Replays(recorded, Path(), OPTANE, seed=1)
    budget = (HOT_PAGES + 4) * PAGE
    before = player.run(policies.get("first-touch"), budget).replayed
    after, again = (player.run(policies.get(name), budget).replayed for _ in range(2))
    assert after.step_ns < 0.6 * before.step_ns
    assert (after.step_ns, after.pages) == (again.step_ns, again.pages)
    fast, slow = after.pool_pages or (0, 0)
    assert HOT_PAGES <= fast <= HOT_PAGES + 4
    assert fast + slow == 1024
