# SPDX-License-Identifier: Apache-2.0
"""The headline of a report: the share of fast-only's speed that each policy reaches, by budget."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from results.paper import Published, published
from results.plots import svg
from results.plots.svg import Panel
from results.rows import Row

_MARKERS = {
    "sentinel": "o",
    "sentinel-opt": "s",
    "first-touch": "^",
    "interleave": "v",
    "slow-only": "P",
    "autotm": "D",
    "capuchin": "8",
    "ial": "<",
    "memtis": ">",
    "hemem": "p",
    "tpp": "h",
    "numa-balancing": "d",
    "memory-mode": "*",
    "weighted-interleave": "H",
}
_OTHER_MARKER = "X"
_STYLES = ("-", "--", "-.", ":")  # of series of a policy with different settings
_PAPER_MARKERS = ("x", "+")


def headline(rows: Sequence[Row]) -> list[Panel]:
    """Plot one panel per model, with a line for each policy. Empty if no cell is relative to fast-only."""
    panels = []
    for number, model in enumerate(dict.fromkeys(row.model for row in rows)):
        group = [row for row in rows if row.model == model and row.speed is not None]
        if not any(row.budget_share is not None for row in group):
            continue

        def paint(figure: Figure, group: list[Row] = group, model: str = model) -> None:
            axes = figure.subplots()
            axes.set_title(model)
            _draw(axes, group, published(model))

        title = f"Share of fast-only's speed by budget: {model}"
        height = 3.2 + 0.1 * (len(_series(group)) + 5)  # for a legend of two columns
        panels.append(svg.panel(title, paint, name=f"headline{number}", height=height))
    return panels


def _draw(axes: Any, group: list[Row], paper: Published | None) -> None:
    axes.axhline(100, color=svg.policy_colour("fast-only"), lw=1.6, label="fast-only")
    if paper is not None:
        _draw_published(axes, paper)
    lines: Counter[str] = Counter()
    for label, series in _series(group).items():
        policy, name = series[0].policy, series[0].policy_name
        colour = svg.policy_colour(name)
        points = [(100 * (row.budget_share or 0), row.speed) for row in series if row.speed]
        if series[0].budget_share is None:
            axes.axhline(100 * points[0][1].value, color=colour, lw=1.6, ls=(0, (6, 2)), label=label)
            continue
        style = {"ls": _STYLES[lines[policy] % len(_STYLES)], "marker": _MARKERS.get(name, _OTHER_MARKER)}
        lines[policy] += 1
        xs, ys = zip(*((x, 100 * speed.value) for x, speed in points), strict=True)
        axes.plot(xs, ys, color=colour, mec=svg.PAPER, ms=7.5, label=label, **style)
        for x, speed in points:
            if speed.low is not None and speed.high is not None:
                axes.plot([x, x], [100 * speed.low, 100 * speed.high], color=colour, lw=2.4, alpha=0.7)
    bounds = _bounds(group)
    if bounds:
        xs, ys = zip(*bounds, strict=True)
        axes.plot(
            xs, ys, "--", color=svg.INK, lw=1.2, marker="_", ms=14, mew=1.6, label="bound"
        )  # may be a point
    axes.set_ylim(0, 108)
    axes.set_xlim(0, max(62, *(105 * (row.budget_share or 0) for row in group)))
    axes.set_xlabel("Budget (% of the peak)")
    axes.set_ylabel("Speed (% of fast-only)")
    axes.grid()
    axes.figure.legend(loc="outside lower left", ncols=2)


def _draw_published(axes: Any, paper: Published) -> None:
    xs, ys = ([100 * value for value in values] for values in zip(*paper.sentinel.items(), strict=True))
    axes.plot(xs, ys, "o:", color=svg.SOFT, mfc="none", lw=1, ms=6, label="paper's Sentinel")
    for (system, speed), marker in zip(paper.others.items(), _PAPER_MARKERS, strict=True):
        axes.plot([20], [100 * speed], marker, color=svg.SOFT, ms=7, zorder=4, label=f"paper's {system}")
    text = f"paper: {paper.workload}"
    axes.set_title(text, loc="right", fontsize=9.5, fontweight="normal", color=svg.SOFT)


def _series(group: list[Row]) -> dict[str, list[Row]]:
    """Return the rows of each line by its label, in order of the budget, without fast-only itself."""
    series: dict[str, list[Row]] = {}
    for row in group:
        if row.policy_name != "fast-only":
            series.setdefault(", ".join(filter(None, (row.policy, row.settings))), []).append(row)
    return {label: sorted(rows, key=lambda row: row.budget_share or 0) for label, rows in series.items()}


def _bounds(group: list[Row]) -> list[tuple[float, float]]:
    """Return the proven upper limit of the speed by budget, where plans have a bound."""
    best: dict[float, float] = {}
    for row in group:
        p, s, r, share = row.prediction, row.summary, row.relative, row.budget_share
        if p and p.bound_ns and s and r and share is not None:
            speed = s.centre_ns / r.value / p.bound_ns
            best[share] = max(speed, best.get(share, 0.0))
    return [(100 * share, 100 * best[share]) for share in sorted(best)]
