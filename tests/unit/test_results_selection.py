# SPDX-License-Identifier: Apache-2.0
"""Cells by id, the beginning of an id, or label."""

from __future__ import annotations

import pytest

from results import selection
from testbed.common.errors import UsageError

LABELS = {"1f2e": "cnn b8, fast-only", "1f30": "cnn b8, slow-only", "ab": "lstm b8, fast-only", "abc": "abx"}


@pytest.mark.parametrize(
    ("name", "cell"),
    [("1f2e", "1f2e"), ("1f3", "1f30"), ("cnn b8, slow-only", "1f30"), ("ab", "ab"), ("abx", "abc")],
)
def test_cell_is_found_by_id_label_or_beginning_of_its_id(name: str, cell: str) -> None:
    assert selection.choose(name, LABELS) == [cell]


def test_ids_with_the_same_label_are_one_cell() -> None:
    labels = {"a1": "cnn", "a2": "cnn", "b": "lstm"}
    for name in ("cnn", "a1", "a"):
        assert selection.choose(name, labels) == ["a1", "a2"]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("cnn b8, fastonly", "cells: 1f2e (cnn b8, fast-only); "),
        ("cnn b8, slow", "cells: 1f30 (cnn b8, slow-only); "),
        ("nothing", "cells: 1f2e (cnn b8, fast-only); 1f30 (cnn b8, slow-only); ab ("),
        ("", "cells: 1f2e (cnn b8, fast-only); "),
    ],
)
def test_unknown_cell_is_refused_with_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(UsageError, match=f"{name}: no such cell") as caught:
        selection.choose(name, LABELS)
    assert (caught.value.hint or "").startswith(hint)


def test_ambiguous_beginning_is_refused_with_its_cells() -> None:
    with pytest.raises(UsageError, match="1f: several cells match") as caught:
        selection.choose("1f", LABELS)
    assert caught.value.hint == "cells: 1f2e (cnn b8, fast-only); 1f30 (cnn b8, slow-only)"


def test_hint_names_at_most_eight_cells() -> None:
    with pytest.raises(UsageError) as caught:
        selection.choose("x", {f"{n:02}": f"cell {n}" for n in range(20)})
    assert (caught.value.hint or "").endswith("07 (cell 7); 12 more")
    with pytest.raises(UsageError) as caught:
        selection.choose("x", {})
    assert caught.value.hint is None
