# SPDX-License-Identifier: Apache-2.0
"""Comparisons as Markdown, JUnit and HTML: valid with any names, and with the same verdicts."""

from __future__ import annotations

from typing import Any

import pytest
from lxml import etree

from results.compare import Comparison, compare, headline
from results.compare_formats import FORMATS, html, junit, markdown
from tests.fakes.sides import measured_cell, side

FAST, SLOW, NOISY = [1.0, 1.001, 0.999], [1.1, 1.101, 1.099], [1.0, 1.05, 0.95]


def comparison_of(**options: Any) -> Comparison:
    """Return a comparison with a slower, a same and an inconclusive cell, and one that only A has."""
    a = side(
        measured_cell(FAST, "cnn"),
        measured_cell(FAST, "lstm"),
        measured_cell(NOISY, "dcgan"),
        measured_cell(FAST, "bert"),
    )
    b = side(measured_cell(SLOW, "cnn"), measured_cell(FAST, "lstm"), measured_cell(NOISY, "dcgan"))
    return compare(a, b, **options)


def test_headline_is_one_sentence_with_the_largest_change() -> None:
    sentence = headline(comparison_of())
    assert sentence.startswith("B is slower than A in 1 of 3 cells (+10.0% [+9.8%, +10.2%] in cnn b8, ")
    assert sentence.endswith("the same as A within 2% in 1 of 3 cells and not told from A in 1 of 3 cells.")
    assert "\n" not in sentence


@pytest.mark.parametrize(
    ("b", "sentence"),
    [
        (FAST, "B is the same as A within 2% in the only cell."),
        (SLOW, "B is slower than A in the only cell (+10.0% [+9.8%, +10.2%] in cnn b8, sentinel)."),
        ([1.0], "B is not told from A in the only cell."),
    ],
)
def test_headline_of_one_cell(b: list[float], sentence: str) -> None:
    assert headline(compare(side(measured_cell(FAST)), side(measured_cell(b)))) == sentence


def test_headline_without_pairs_says_so() -> None:
    assert headline(compare(side(), side())) == "A and B have no cell in common."


def test_markdown_has_a_table_and_the_headline_first() -> None:
    lines = markdown(comparison_of()).splitlines()
    assert lines[0].startswith("**B is slower than A")
    assert "| cnn b8 | sentinel | 1.00 s | 1.10 s | 1.100 (1.098 to 1.102) | slower |" in lines
    assert "- only in A: bert b8, sentinel (bert)" in lines


def test_junit_fails_slower_cells_and_skips_those_without_verdict() -> None:
    root = etree.fromstring(junit(comparison_of(), suite="ci").encode())
    (suite,) = root
    assert dict(suite.attrib) == {"name": "ci", "tests": "4", "failures": "1", "errors": "1", "skipped": "1"}
    assert [case.get("name") for case in suite.findall("testcase[failure]")] == ["cnn b8, sentinel"]
    assert [case.get("name") for case in suite.findall("testcase[skipped]")] == ["dcgan b8, sentinel"]
    assert [case.get("name") for case in suite.findall("testcase[error]")] == ["bert b8, sentinel"]


def scripts(root: etree._Element) -> list[str]:
    """The texts of a page's scripts; none is loaded from elsewhere."""
    found = [e for e in root.iter() if isinstance(e.tag, str) and e.tag.endswith("script")]
    assert not [e for e in found if e.get("src")]
    return [e.text or "" for e in found]


def test_html_is_one_file_with_one_script() -> None:
    page = html(comparison_of())
    root = etree.fromstring(page.encode())
    assert not [e for e in root.iter() if isinstance(e.tag, str) and e.tag.endswith(("link", "img"))]
    assert len(scripts(root)) == 1
    assert "slower than A in 1 of 3 cells" in page


@pytest.mark.parametrize("form", FORMATS)
def test_names_with_markup_are_text(form: str) -> None:
    odd = "<script>alert('x')</script>|`a`\x1b[31m&"
    a, b = (side(measured_cell(times, model={"name": odd, "batch": 8})) for times in (FAST, SLOW))
    text = FORMATS[form](compare(a, b))
    assert "\x1b" not in text
    if form == "markdown":
        assert "\\<script\\>" in text and "\\|\\`a\\`" in text
        assert all(line.count(" | ") == 5 for line in text.splitlines() if line.startswith("| "))
    else:
        root = etree.fromstring(text.encode())
        assert "alert" in text
        assert not any("alert" in script for script in (scripts(root) if form == "html" else ()))


@pytest.mark.parametrize("form", FORMATS)
def test_comparison_without_cells_is_valid(form: str) -> None:
    text = FORMATS[form](compare(side(), side()))
    assert "no cell in common" in text
    if form != "markdown":
        etree.fromstring(text.encode())
