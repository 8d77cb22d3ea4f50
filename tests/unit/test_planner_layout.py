# SPDX-License-Identifier: Apache-2.0
"""Classes of tensors, the reserved pool and the arena."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.planner.formats import profile
from sentinel.planner.memory import arena, classify, pool
from sentinel.planner.memory.classify import LONG, OUTSIDE, SHORT, VARIABLES
from tests.fakes import profiles

PAGE = profiles.PAGE


def tensor(size: int, birth: int, death: int, *uses: int, **more: Any) -> dict[str, Any]:
    """Read by the operations at `uses`."""
    return {"size": size, "birth": birth, "death": death, "uses": [[p, 1, 0] for p in uses], **more}


def test_classes_are_told_by_life_and_layer() -> None:
    found = classify.classes(
        profiles.small(
            [0, 0, 1, 1, 2],
            [1] * 5,
            [
                tensor(8, 0, 2),  # until the end of its layer
                tensor(8, 0, 3),  # into the next
                tensor(8, 2, 3),
                tensor(8, 1, 4, 3),
                tensor(PAGE, -1, 5),
                tensor(PAGE, -1, 5, kind="tensor"),  # from before the step, and no variable
                tensor(8, -1, 2, kind="tensor"),
                tensor(8, 4, 5),  # nobody saw it die
                tensor(8, 4, 5, kind="scratch"),  # but this was given back by its operation
                tensor(PAGE - 1, -1, 5),  # shares its page with others
                tensor(0, 0, 1),
                tensor(8, 0, 1, thread=2),  # has no key
            ],
        )
    )
    assert found.tolist() == [
        SHORT,
        LONG,
        SHORT,
        LONG,
        VARIABLES,
        OUTSIDE,
        OUTSIDE,
        OUTSIDE,
        SHORT,
        *[OUTSIDE] * 3,
    ]


def test_layer_sets_are_equal_for_equal_sets_only() -> None:
    made = profiles.small(
        [0, 1, 1, 300],
        [1] * 4,
        [tensor(8, 0, 3, 1), tensor(8, 0, 3, 2), tensor(8, 0, 4, 1, 3), tensor(8, 0, 4, 3), tensor(8, 0, 3)],
    )
    a, b, c, d, e = classify.layer_sets(made, np.arange(5))
    assert a == b
    assert len({a, c, d, e}) == 4
    assert [np.frombuffer(key, dtype=np.int64).tolist() for key in (a, c, e)] == [[0, 1], [0, 1, 300], [0]]
    assert classify.layer_sets(made, np.array([2, 3])) == [c, d]


def test_the_peak_is_the_most_that_lives_at_once() -> None:
    made = profiles.small(
        [0] * 4, [1] * 4, [tensor(10, 0, 2), tensor(20, 1, 3), tensor(5, 3, 4), tensor(7, -1, 4)]
    )
    assert classify.live_bytes(made, made.tensors.size).tolist() == [17, 37, 27, 12]
    assert classify.peak(made) == 37


def test_a_pool_by_hand() -> None:
    """The long one first, at 0; the others above it, in each other's places when those are free."""
    made = profiles.small(
        [0] * 4,
        [1] * 4,
        [tensor(100, 0, 1), tensor(300, 0, 3), tensor(64, 1, 3), tensor(0, 1, 2), tensor(64, 2, 3)],
    )
    offsets, size = pool.pack(made, np.arange(5))
    assert offsets.tolist() == [320, 0, 320, 384, 384]
    assert size == PAGE


def test_a_pool_takes_the_memory_that_is_touched() -> None:
    """Scratch of 100 pages of which two are used, a tensor beside it, and one in their place later."""
    scratch = tensor(100 * PAGE, 0, 1, touched=2 * PAGE)
    made = profiles.small([0, 0], [1, 1], [scratch, tensor(PAGE, 0, 1), tensor(3 * PAGE, 1, 2)])
    offsets, size = pool.pack(made, np.arange(3))
    assert (offsets.tolist(), size) == ([PAGE, 0, 0], 101 * PAGE)
    assert pool.resident(made, np.arange(3), offsets) == 3 * PAGE
    assert pool.resident(made, np.arange(1), offsets[:1]) == 2 * PAGE
    assert pool.resident(made, np.arange(0), offsets[:0]) == 0


def test_a_pool_for_nothing_is_empty() -> None:
    offsets, size = pool.pack(profiles.small([0], [1], []), np.arange(0))
    assert (offsets.tolist(), size) == ([], 0)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6))
def test_no_two_of_a_pool_overlap_while_both_live(seed: int) -> None:
    made = profile.parse(profiles.random_value(seed))
    t = made.tensors
    chosen = np.flatnonzero(t.birth >= 0)
    offsets, size = pool.pack(made, chosen)
    assert size % PAGE == 0
    taken = pool.aligned(t.size[chosen])
    assert not (offsets % pool.ALIGNMENT).any()
    assert (offsets + taken <= size).all()
    for a in range(len(chosen)):
        for b in range(a):
            together = t.birth[chosen[a]] < t.death[chosen[b]] and t.birth[chosen[b]] < t.death[chosen[a]]
            apart = offsets[a] + taken[a] <= offsets[b] or offsets[b] + taken[b] <= offsets[a]
            assert apart or not together
    lower = int(classify.live_bytes(made, np.where(t.birth >= 0, pool.aligned(t.size), 0)).max())
    assert size >= lower
    assert len(chosen) < 2 or size <= 2 * lower + PAGE  # no proof, but no pool was ever this bad


def test_pools_of_real_shapes_waste_little() -> None:
    for made in (profiles.resnet(), profiles.lstm()):
        short = np.flatnonzero(classify.classes(made) == SHORT)
        weights = np.zeros(len(made.tensors), dtype=np.int64)
        weights[short] = pool.aligned(made.tensors.size[short])
        _, size = pool.pack(made, short)
        assert size <= 1.05 * classify.live_bytes(made, weights).max() + PAGE


def test_an_arena_by_hand() -> None:
    big = arena.ALONE * PAGE
    made = profiles.small(
        [0, 0, 1, 2],
        [1] * 4,
        [
            tensor(100, 0, 3, 2, reads=1),  # layers 0 and 1: shares
            tensor(big, 0, 3, 2),  # is alone
            tensor(100, 1, 3, 2, reads=9),  # shares, and is hotter
            tensor(100, 1, 3, 2, reads=5),
            tensor(5000, 0, 3),  # another set, of layer 0 alone
            tensor(PAGE, -1, 4, 2),
            tensor(8, 0, 1),  # short
        ],
    )
    units = arena.units(made, classify.classes(made), arena.ALONE)
    assert units.of.tolist() == [0, 1, 0, 0, 2, 3, -1]
    assert units.offset.tolist()[:5] == [256, PAGE, 0, 128, big + PAGE]
    assert units.start.tolist() == [0, PAGE, big + PAGE]
    assert units.size.tolist() == [PAGE, big, 2 * PAGE, PAGE]
    assert units.arena == big + 3 * PAGE
    assert units.birth.tolist() == [0, 0, 0, 0]
    assert units.ready.tolist() == [2, 1, 1, 0]
    assert units.death.tolist() == [3, 3, 3, 4]
    assert units.variable.tolist() == [False, False, False, True]


def test_a_large_tensor_is_cut_into_pieces_and_what_nobody_touches() -> None:
    most = arena.ALONE
    made = profiles.small(
        [0, 1],
        [1] * 2,
        [
            tensor(16 * PAGE, 0, 2, 1),
            {**tensor(60 * PAGE + 1, 0, 2, 1), "touched": 40 * PAGE},
            {**tensor(16 * PAGE, 1, 2), "touched": 0},
        ],
    )
    units = arena.units(made, np.full(3, LONG), most)
    assert units.of.tolist() == [0, 1, 5]
    assert units.pieces.tolist() == [1, 4, 1]
    assert (units.size // PAGE).tolist() == [16, 13, 13, 14, 21, 16]
    assert units.share.tolist() == [1, 13 / 40, 13 / 40, 14 / 40, 0, 1]
    assert units.birth.tolist() == [0] * 5 + [1]
    assert units.death.tolist() == [2] * 6
    which, unit = units.spread(np.array([1, 0]))
    assert (which.tolist(), unit.tolist()) == ([0, 0, 0, 0, 1], [1, 2, 3, 4, 0])


def test_pieces_are_small_beside_the_budget() -> None:
    assert arena.piece(PAGE, PAGE, 1 << 20) == arena.ALONE
    assert arena.piece(64 * 100 * PAGE, PAGE, 1 << 20) == 100


def test_huge_tensors_have_fewer_pieces_than_a_tiny_budget_asks_for() -> None:
    assert arena.piece(PAGE, PAGE, 1 << 30) == 1 << 14


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 90)), max_size=12))
def test_covered_pages_are_counted_once(ranges: list[tuple[int, int]]) -> None:
    begin, size = np.array(ranges, dtype=np.int64).reshape(-1, 2).T
    pages = {page for a, n in ranges for page in range(a // 64, -(-(a + n) // 64))}
    assert pool.covered(begin, begin + size, 64) == 64 * len(pages)


def test_the_reserved_pool_may_hold_a_tensor_of_terabytes() -> None:
    made = profiles.small([0], [1], [tensor(1 << 45, 0, 1, 0, kind="scratch")])
    offsets, size = pool.pack(made, np.array([0]))
    assert (size, pool.resident(made, np.array([0]), offsets)) == (1 << 45, 1 << 45)


def test_a_shared_unit_is_closed_when_it_is_large() -> None:
    made = profiles.small([0, 1, 2], [1] * 3, [tensor(3 * PAGE, 0, 2, 1) for _ in range(11)])
    units = arena.units(made, classify.classes(made), arena.ALONE)
    assert units.of.tolist() == [0] * 6 + [1] * 5
    assert units.size.tolist() == [18 * PAGE, 15 * PAGE]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6))
def test_sets_of_layers_never_share_a_page(seed: int) -> None:
    made = profile.parse(profiles.random_value(seed))
    classes = classify.classes(made)
    units = arena.units(made, classes, arena.ALONE)
    chosen = np.flatnonzero(classes == LONG)
    pages: dict[int, set[bytes]] = {}
    for i, key in zip(chosen.tolist(), classify.layer_sets(made, chosen), strict=True):
        first, last = int(units.offset[i]), int(units.offset[i] + max(1, made.tensors.size[i]) - 1)
        for page in range(first // PAGE, last // PAGE + 1):
            pages.setdefault(page, set()).add(key)
    assert all(len(keys) == 1 for keys in pages.values())
    assert ((units.of >= 0) == ((classes == LONG) | (classes == VARIABLES))).all()


@pytest.mark.parametrize("size", [PAGE, PAGE + 1])
def test_a_variable_takes_whole_pages(size: int) -> None:
    made = profiles.small([0], [1], [tensor(size, -1, 1, 0)])
    units = arena.units(made, classify.classes(made), arena.ALONE)
    assert units.size.tolist() == [-(-size // PAGE) * PAGE]
    assert units.arena == 0
