# SPDX-License-Identifier: Apache-2.0
"""The HTML page of a comparison, built like that of a run (`results.page`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from results import compare_report, labels, page
from results.columns import TEXT, Key
from results.compare import Comparison, Pair
from results.plots import colours

_WORDS = (*TEXT, "Verdict on B")


@dataclass(frozen=True)
class _Column:
    title: str

    @property
    def is_text(self) -> bool:
        return self.title in _WORDS


def render(
    comparison: Comparison,
    *,
    a: str,
    b: str,
    headline: str = "",
    notes: Sequence[str] = (),
    differences: Sequence[str] = (),
) -> str:
    """Return the page. `a` and `b` name the sides; `headline` is a sentence to quote."""
    from results.plots import ratios  # imports matplotlib, which takes a second

    frame = compare_report.frame(comparison.pairs)
    shown = [_Column(str(name)) for name in frame]
    return page.render(
        "compare.html.j2",
        a=a,
        b=b,
        headline=headline,
        warnings=comparison.warnings,
        ratios=ratios.ratios(comparison.pairs),
        columns=shown,
        lines=[
            (
                colours.css_name(labels.policy_name(pair.a.resolved)),
                [
                    page.Item(page.pieces(text), _key(pair, column.title, text))
                    for column, text in zip(shown, line, strict=True)
                ],
            )
            for pair, line in zip(comparison.pairs, frame.to_numpy().tolist(), strict=True)
        ],
        notes=notes,
        differences=differences,
        losses=[pair.losses for pair in comparison.pairs],
    )


def _key(pair: Pair, column: str, text: str) -> Key:
    """Return what a column is sorted by."""
    if column in ("A", "B"):
        summary = pair.summary_a if column == "A" else pair.summary_b
        return summary.centre_ns if summary else None
    if column == "B/A":
        return pair.ratio.value if pair.ratio else None
    return text
