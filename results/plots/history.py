# SPDX-License-Identifier: Apache-2.0
"""A cell over the results of a baseline, as a file of its own."""

from __future__ import annotations

from matplotlib.figure import Figure

from results.history import History
from results.plots import svg


def page(history: History) -> str:
    """Return an SVG file: step times with intervals, and a line where a new level begins."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        colour = svg.policy_colour(history.policy)
        times = [point.step_ns / 1e6 for point in history.points]
        axes.plot(range(len(times)), times, "o-", ms=4, lw=1, color=colour)
        for x, point in enumerate(history.points):
            if point.low_ns is not None and point.high_ns is not None:
                axes.plot([x, x], [point.low_ns / 1e6, point.high_ns / 1e6], lw=3, alpha=0.5, color=colour)
            if point.change is not None:
                axes.axvline(x - 0.5, color=svg.ALERT, lw=1)
                text = f"{100 * (point.change - 1):+.1f}%"
                axes.text(x - 0.4, 1, text, transform=axes.get_xaxis_transform(), va="top", color=svg.ALERT)
        names = [(point.commit or point.result)[:7] for point in history.points]
        axes.set_xticks(range(len(names)), names, rotation=90)
        axes.set_ylabel(f"Step time (ms, {history.clock} clock)")
        axes.set_title(history.label)
        axes.grid(axis="y")

    return svg.file(svg.panel(history.label, draw, name="history", height=3.2))
