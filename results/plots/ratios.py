# SPDX-License-Identifier: Apache-2.0
"""Ratios of a comparison, one panel per model: the step time of B relative to A, with intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.figure import Figure

from results import labels
from results.compare import Pair
from results.plots import svg
from results.plots.svg import Panel


def ratios(pairs: Sequence[Pair]) -> list[Panel]:
    """Plot the change of the step time of each pair, in percent, with its interval and its verdict."""
    panels = []
    shown = [pair for pair in pairs if pair.ratio]
    for number, model in enumerate(dict.fromkeys(pair.model for pair in shown)):
        group = [pair for pair in shown if pair.model == model]

        def paint(figure: Figure, group: list[Pair] = group) -> None:
            _draw(figure, group)

        title = f"Step time of B relative to A: {model}"
        panels.append(svg.panel(title, paint, name=f"ratios{number}", height=0.8 + 0.44 * len(group)))
    return panels


def _draw(figure: Figure, group: list[Pair]) -> None:
    axes = figure.subplots()
    axes.axvline(0, color=svg.INK, lw=1)
    across = axes.get_yaxis_transform()
    reach = 1.0
    for y, pair in enumerate(group):
        r = pair.ratio
        if r is None:
            continue
        colour = svg.policy_colour(labels.policy_name(pair.a.resolved))
        ends = [_change(value) for value in (r.low, r.value, r.high) if value is not None]
        reach = max(reach, *map(abs, ends))
        axes.plot([ends[0], ends[-1]], [y, y], lw=3, color=colour, alpha=0.6)
        axes.plot([_change(r.value)], [y], "o", ms=6.5, mfc=colour, mec=svg.PAPER, mew=1.1)
        name = ", ".join(filter(None, (pair.policy, pair.budget, pair.settings)))
        axes.text(0, y - 0.22, name, va="bottom", transform=across)
        verdict = str(pair.verdict).partition(":")[0]
        text = f"{_change(r.value):+.1f}%, {verdict}"
        axes.text(1, y - 0.22, text, va="bottom", ha="right", transform=across, color=svg.SOFT)
    axes.set_title(group[0].model)
    axes.set_xlim(-1.1 * reach, 1.1 * reach)
    axes.set_ylim(len(group) - 0.6, -0.75)
    axes.set_yticks([])
    axes.set_xlabel("Change of the step time from A to B (%): right is slower")


def _change(ratio: float) -> float:
    """Return a ratio as a change in percent, limited to what a plot can show."""
    return 100 * (min(ratio, 1e3) - 1) if math.isfinite(ratio) else 1e5
