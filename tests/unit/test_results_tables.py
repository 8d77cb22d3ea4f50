# SPDX-License-Identifier: Apache-2.0
"""Tables of any width: words stay whole, and nothing is lost."""

from __future__ import annotations

import io
import random
import re

import pytest
from rich.console import Console, RenderableType
from rich.text import Text

from results.tables import BREAK, Column, Grid, Section


def shown(table: RenderableType, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def grid(*lines: tuple[str, ...], figures: bool = True) -> Grid:
    columns = [Column("Placement"), Column("Step time", figures=figures), Column("Verdict")]
    return Grid(columns, [Section("resnet20 b8", [[Text(cell) for cell in line] for line in lines])])


WIDE = grid(
    ("fast-only", f"5.00 ms{BREAK}(4.90 to 5.07)", "faster"),
    ("sentinel, 20%", f"5.75 ms{BREAK}(5.61 to 5.80)", "no verdict: the clocks differ"),
)


def test_wide_enough_every_row_is_a_line() -> None:
    assert shown(WIDE, 80) == [
        "Placement                   Step time  Verdict",
        "resnet20 b8",
        "fast-only      5.00 ms (4.90 to 5.07)  faster",
        "sentinel, 20%  5.75 ms (5.61 to 5.80)  no verdict: the clocks differ",
    ]


def test_narrower_text_wraps_between_words_and_figures_where_they_may() -> None:
    assert shown(WIDE, 46) == [
        "Placement           Step time  Verdict",
        "resnet20 b8",
        "fast-only             5.00 ms  faster",
        "               (4.90 to 5.07)",
        "sentinel, 20%         5.75 ms  no verdict:",
        "               (5.61 to 5.80)  the clocks",
        "                               differ",
    ]


def test_too_narrow_for_columns_rows_become_blocks() -> None:
    assert shown(WIDE, 30) == [
        "resnet20 b8",
        "  Placement: fast-only",
        "  Step time: 5.00 ms (4.90 to",
        "  5.07)",
        "  Verdict: faster",
        "",
        "  Placement: sentinel, 20%",
        "  Step time: 5.75 ms (5.61 to",
        "  5.80)",
        "  Verdict: no verdict: the",
        "  clocks differ",
    ]


@pytest.mark.parametrize("seed", range(20))
def test_no_word_that_fits_is_ever_broken(seed: int) -> None:
    choice = random.Random(seed)  # noqa: S311

    def words() -> str:
        return " ".join("x" * choice.randrange(1, 30) for _ in range(choice.randrange(1, 5)))

    lines = [(words(), words().replace(" ", BREAK), words()) for _ in range(3)]
    for width in range(32, 100, 3):
        text = shown(grid(*lines), width)
        assert all(len(line) <= width for line in text)
        whole = sorted(re.findall("x+", " ".join(text)))
        assert whole == sorted(re.findall("x+", " ".join(map(" ".join, lines)))), width


def test_a_word_longer_than_the_line_is_shown_whole_over_several() -> None:
    path = "/cache/" + "a" * 90
    text = shown(grid((path, "1", "ok")), 40)
    assert path in "".join(line.strip() for line in text)
