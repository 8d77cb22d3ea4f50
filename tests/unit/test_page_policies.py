# SPDX-License-Identifier: Apache-2.0
"""Page-based rivals on accesses whose right placement is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from experiments import policies
from experiments.replays import Replays
from sentinel.replay.trace import PAGE, Trace
from sentinel.rivals.exchange import exchange
from sentinel.rivals.ial import Ial
from sentinel.rivals.lru import Lru
from tests.fakes import page_steps
from tests.fakes.page_steps import HOT_PAGES, OPTANE, decide, fast_pages, pages_of, touch


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


# ---------------------------------------------------------------- all, in the engine

PAGE_POLICIES = ["ial"]


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
