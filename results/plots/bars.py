# SPDX-License-Identifier: Apache-2.0
"""Bars by cell, one panel per model: step times, tensor bytes by tier, memory of the process by node."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.figure import Figure

from results.plots import svg
from results.plots.svg import Panel
from results.rows import Row
from results.units import byte_unit, digits, percent, time_unit

_MAX_STEPS = 200  # drawn per cell; more would blur
_MOST_STEPS = 20_000  # drawn in all; more would make the page large
_BAR = 0.36  # height of a bar, in rows; its label is above it


def step_times(rows: Sequence[Row]) -> list[Panel]:
    """Plot measured step times with their intervals and single steps, and the plans' predictions."""
    most = max(1, min(_MAX_STEPS, _MOST_STEPS // max(1, len(rows))))

    def draw(axes: Any, group: list[Row]) -> None:
        size, unit = time_unit(max(row.summary.centre_ns for row in group if row.summary))
        for y, row in enumerate(group):
            if row.summary is None:
                continue
            s, colour = row.summary, svg.policy_colour(row.policy_name)
            axes.barh(y, s.centre_ns / size, height=_BAR, color=colour, alpha=0.35)
            steps = list(itertools.chain.from_iterable(row.samples))
            steps = steps[:: 1 + len(steps) // most]
            _strokes(axes, [t / size for t in steps], y, colour)
            if s.low_ns is not None and s.high_ns is not None:
                axes.plot([s.low_ns / size, s.high_ns / size], [y, y], lw=3, color=colour)
            axes.plot([s.centre_ns / size], [y], "o", ms=6, mfc=colour, mec=svg.PAPER, mew=1.1)
            text = f"{digits(s.centre_ns / size)} {unit}"
            if row.prediction is not None:
                predicted = row.prediction.step_ns / size
                axes.plot([predicted], [y], "D", ms=6, mfc="none", mec=svg.INK, mew=1.2)
                text += f", predicted {digits(predicted)}"
            _label(axes, y, row.variant, text)
        axes.set_xlabel(f"Step time ({unit}): dot measured, diamond predicted")

    return _panels([row for row in rows if row.summary], draw, "times", "Step time by cell")


def tensors(rows: Sequence[Row]) -> list[Panel]:
    """Plot the tensor bytes of each cell by tier, with its budget. Empty without tensor statistics."""
    shown = [row for row in rows if row.summary]

    def draw(axes: Any, group: list[Row]) -> None:
        size, unit = byte_unit(max(sum(row.tensors.nodes) if row.tensors else 0 for row in group))
        for y, row in enumerate(group):
            if row.tensors is None:
                _label(axes, y, row.variant, "not recorded")
                continue
            left = 0.0
            for node, resident in enumerate(row.tensors.nodes):
                _bar(axes, y, left, resident / size, row, node)
                left += resident / size
            budget = row.tensors.budget
            text = f"{digits(row.tensors.nodes[0] / size)} {unit}, no budget"
            if budget is not None:
                axes.plot([budget / size] * 2, [y - 0.22, y + 0.28], color=svg.INK, lw=2)
                text = f"{digits(row.tensors.nodes[0] / size)} of {digits(budget / size)} {unit}"
            _label(axes, y, row.variant, text)
        axes.set_xlabel(f"Tensors ({unit}): dark node 0, pale node 1, line budget")

    found = any(row.tensors for row in shown)
    return _panels(shown, draw, "tensors", "Tensor bytes by node and budget, by cell") if found else []


def residency(rows: Sequence[Row]) -> list[Panel]:
    """Plot the share of the process's anonymous memory by node. Empty if it was not recorded."""
    shown = [row for row in rows if row.anon_shares]
    nodes = sorted({node for row in shown for node in row.anon_shares}, key=int)

    def draw(axes: Any, group: list[Row]) -> None:
        for y, row in enumerate(group):
            left = 0.0
            for n, node in enumerate(nodes):
                _bar(axes, y, left, row.anon_shares.get(node, 0.0), row, n)
                left += row.anon_shares.get(node, 0.0)
            _label(axes, y, row.variant, f"{percent(row.anon_shares.get('0', 0.0))} on node 0")
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0%", "25%", "50%", "75%", "100%"])
        axes.set_xlabel("Anonymous memory: dark node 0, pale node 1")

    return _panels(shown, draw, "residency", "Anonymous memory of the process by node, by cell")


def _bar(axes: Any, y: int, left: float, width: float, row: Row, node: int) -> None:
    """Draw a cell's memory on one node: dark for node 0, pale for the others."""
    colour, alpha = svg.policy_colour(row.policy_name), 0.75 if node == 0 else 0.22
    axes.barh(y, width, left=left, height=_BAR, color=colour, alpha=alpha, ec=svg.PAPER, lw=1)


def _strokes(axes: Any, xs: list[float], y: int, colour: str) -> None:
    """Draw a short vertical stroke at each x, all as one path to keep the SVG small."""
    gap = math.nan
    points = [point for x in xs for point in ((x, y - 0.13), (x, y + 0.13), (gap, gap))]
    axes.plot(*zip(*points, strict=True), lw=0.7, color=colour, alpha=0.5)


def _label(axes: Any, y: int, left: str, right: str) -> None:
    """Write the cell's name and its figure above its bar."""
    across = axes.get_yaxis_transform()
    axes.text(0, y - 0.27, left, va="bottom", transform=across)
    axes.text(1, y - 0.27, right, va="bottom", ha="right", transform=across, color=svg.SOFT)


def _panels(rows: list[Row], draw: Callable[[Any, list[Row]], None], name: str, title: str) -> list[Panel]:
    panels = []
    for number, model in enumerate(dict.fromkeys(row.model for row in rows)):
        group = [row for row in rows if row.model == model]

        def paint(figure: Figure, group: list[Row] = group) -> None:
            axes = figure.subplots()
            draw(axes, group)
            axes.set_title(group[0].model)
            axes.set_xlim(left=0)
            axes.set_yticks([])
            axes.set_ylim(len(group) - 0.6, -0.75)

        height = 0.8 + 0.44 * len(group)
        panels.append(svg.panel(f"{title}: {model}", paint, name=f"{name}{number}", height=height))
    return panels
