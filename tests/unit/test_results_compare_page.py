# SPDX-License-Identifier: Apache-2.0
"""The HTML page of a comparison: its verdicts, its chart, and names that look like markup."""

from __future__ import annotations

from pathlib import Path

import lxml.etree

from results import compare_page
from results.compare import compare
from results.runs import Run
from results.sides import Side
from tests.fakes.run_records import add, begin, cell_of, make_run, steps_of


def text_of(page: str) -> str:
    tree = lxml.etree.fromstring(page.encode(), lxml.etree.XMLParser(resolve_entities=False))
    return " ".join(" ".join(tree.itertext()).split())


def test_comparison_page_shows_every_pair_with_its_verdict(tmp_path: Path) -> None:
    a, b = (make_run(tmp_path / name, factor=factor) for name, factor in (("a", 1.0), ("b", 1.3)))
    comparison = compare(Side.of_runs(a), Side.of_runs(b))
    page = compare_page.render(
        comparison, a="before", b="after", headline="B is slower.", notes=["a note"], differences=["commit"]
    )
    text = text_of(page)
    for expected in ("A: before B: after", "B is slower.", "A note.", "What differs commit"):
        assert expected in text
    for pair in comparison.pairs:
        assert pair.ratio is not None
        assert f"{100 * (pair.ratio.value - 1):+.1f}%, {str(pair.verdict).partition(':')[0]}" in text
    assert page.count("<svg") == len({pair.model for pair in comparison.pairs})
    assert page.count("<tr") == len(comparison.pairs) + 1


def test_comparison_page_escapes_names(tmp_path: Path) -> None:
    cell = {**cell_of("lstm", "fast-only"), "model": {"name": "<script>alert(1)</script>&", "batch": 8}}
    for name in ("a", "b"):
        begin(tmp_path / name, [cell])
        add(tmp_path / name, cell, 0, steps_of(cell))
    odd = compare(*(Side.of_runs(Run.load(tmp_path / name)) for name in ("a", "b")))
    page = compare_page.render(odd, a="<b>", b="\x1b[31m")
    assert page.count("<script>") == 1  # the page's own
    assert "<script>alert(1)</script>& b8" in text_of(page)
    assert "\x1b" not in page
