# SPDX-License-Identifier: Apache-2.0
"""Tables fit any width without breaking words or losing text."""

from __future__ import annotations

import random
import re

import pytest
from rich.text import Text

from results.tables import BREAK, Column, Grid, Section
from tests.fakes.terminal import render


def grid(*lines: tuple[str, ...], figures: bool = True) -> Grid:
    columns = [Column("Policy"), Column("Step time", figures=figures), Column("Verdict")]
    return Grid(columns, [Section("resnet20 b8", [[Text(cell) for cell in line] for line in lines])])


WIDE = grid(
    ("fast-only", f"5.00 ms{BREAK}(4.90 to 5.07)", "faster"),
    ("sentinel, 20%", f"5.75 ms{BREAK}(5.61 to 5.80)", "no verdict: the clocks differ"),
)


def test_table_has_one_line_per_row_if_it_fits() -> None:
    assert render(WIDE, 80) == [
        "Policy                      Step time  Verdict",
        "resnet20 b8",
        "fast-only      5.00 ms (4.90 to 5.07)  faster",
        "sentinel, 20%  5.75 ms (5.61 to 5.80)  no verdict: the clocks differ",
    ]


def test_table_wraps_text_at_words_and_figures_at_breaks() -> None:
    assert render(WIDE, 46) == [
        "Policy              Step time  Verdict",
        "resnet20 b8",
        "fast-only             5.00 ms  faster",
        "               (4.90 to 5.07)",
        "sentinel, 20%         5.75 ms  no verdict:",
        "               (5.61 to 5.80)  the clocks",
        "                               differ",
    ]


def test_table_turns_rows_into_blocks_if_columns_do_not_fit() -> None:
    assert render(WIDE, 30) == [
        "resnet20 b8",
        "  Policy: fast-only",
        "  Step time: 5.00 ms (4.90 to",
        "  5.07)",
        "  Verdict: faster",
        "",
        "  Policy: sentinel, 20%",
        "  Step time: 5.75 ms (5.61 to",
        "  5.80)",
        "  Verdict: no verdict: the",
        "  clocks differ",
    ]


@pytest.mark.parametrize("seed", range(20))
def test_table_never_breaks_a_word_that_fits(seed: int) -> None:
    choice = random.Random(seed)  # noqa: S311

    def words() -> str:
        return " ".join("x" * choice.randrange(1, 30) for _ in range(choice.randrange(1, 5)))

    lines = [(words(), words().replace(" ", BREAK), words()) for _ in range(3)]
    for width in range(32, 100, 3):
        text = render(grid(*lines), width)
        assert all(len(line) <= width for line in text)
        whole = sorted(re.findall("x+", " ".join(text)))
        assert whole == sorted(re.findall("x+", " ".join(map(" ".join, lines)))), width


def test_table_folds_a_word_longer_than_the_line() -> None:
    path = "/cache/" + "a" * 90
    text = render(grid((path, "1", "ok")), 40)
    assert path in "".join(line.strip() for line in text)
