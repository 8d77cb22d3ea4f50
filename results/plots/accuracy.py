# SPDX-License-Identifier: Apache-2.0
"""What the profiler's counts let expect against what is known exactly, one panel per profile."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from results.accuracy import Accuracy
from results.plots import svg
from results.plots.svg import Panel
from results.units import time_unit

_MOST = 1000  # points of a panel, those that save most; more would make the page large
_DECADES = 4  # smaller savings are drawn at the edge
_HEIGHT = 4.2


def accuracies(found: Sequence[tuple[str, Accuracy]]) -> list[Panel]:
    """Plot estimated against exact savings, a point for each tensor or operation."""
    panels = []
    for number, (name, accuracy) in enumerate(found):

        def paint(figure: Figure, name: str = name, accuracy: Accuracy = accuracy) -> None:
            _draw(figure, name, accuracy)

        title = f"Savings in fast memory, estimated and exact: {name}"
        panels.append(svg.panel(title, paint, name=f"accuracy{number}", height=_HEIGHT))
    return panels


def _draw(figure: Figure, name: str, accuracy: Accuracy) -> None:
    axes = figure.subplots()
    largest = np.maximum(accuracy.estimated_ns, accuracy.exact_ns)
    chosen = np.argsort(-largest, kind="stable")[:_MOST]
    size, unit = time_unit(float(largest.max()))
    high = float(largest.max()) / size
    low = high / 10**_DECADES
    exact, estimated = (
        np.maximum(values[chosen] / size, low) for values in (accuracy.exact_ns, accuracy.estimated_ns)
    )
    axes.plot([low, high], [low, high], color=svg.FAINT, lw=1)
    axes.plot(exact, estimated, "o", ms=3, mfc=svg.INK, mec="none", alpha=0.35)
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_locator(NullLocator())
    axes.set_aspect("equal")
    axes.grid(visible=True)
    axes.set_title(name)
    axes.set_xlabel(f"Exact savings of {accuracy.subject} ({unit})")
    axes.set_ylabel(f"Estimated from counts ({unit})")
