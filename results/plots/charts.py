# SPDX-License-Identifier: Apache-2.0
"""Plots of a report as SVG elements for an HTML page.

Colours are CSS variables, so that the page's light and dark themes apply. Text stays text, in the page's
font.
"""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Callable
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from results.plots import colours
from results.rows import Row
from results.units import byte_unit, digits, percent, time_unit

_MAX_STEPS = 300  # drawn per cell; more would blur and make the file large

# Colours that Matplotlib draws with; CSS variables replace them in the SVG text.
_INK, _FAINT, _PAPER = "#0a0b01", "#0a0b02", "#0a0b03"
_COLOURS = {name: f"#0a0c{n:02x}" for n, name in enumerate(colours.css_colours())}
_VARIABLES = {_INK: "--ink", _FAINT: "--faint", _PAPER: "--paper"} | {
    placeholder: f"--{name}" for name, placeholder in _COLOURS.items()
}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 9.5,
    "text.color": _INK,
    "axes.edgecolor": _FAINT,
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
}


def step_times(rows: list[Row], *, name: str = "times") -> str | None:
    """Plot step times by cell: centre, interval and single steps. Returns None without step times."""
    shown = [row for row in rows if row.summary]

    def draw(axes: Any, group: list[Row]) -> None:
        size, unit = time_unit(max(row.summary.centre_ns for row in group if row.summary))
        for y, row in enumerate(group):
            if row.summary is None:
                continue
            colour = _colour(row)
            s = row.summary
            steps = list(itertools.chain.from_iterable(row.samples))
            steps = steps[:: 1 + len(steps) // _MAX_STEPS]
            axes.barh(y, s.centre_ns / size, height=0.62, color=colour, alpha=0.28)
            axes.plot(
                [t / size for t in steps], [y] * len(steps), "|", ms=9, mew=0.7, color=colour, alpha=0.5
            )
            if s.low_ns is not None and s.high_ns is not None:
                axes.plot([s.low_ns / size, s.high_ns / size], [y, y], lw=3.2, color=colour)
            axes.plot([s.centre_ns / size], [y], "o", ms=6.5, mfc=colour, mec=_PAPER, mew=1.2)
            axes.text(
                1.015, y, f"{digits(s.centre_ns / size)} {unit}", va="center", transform=_right_of(axes)
            )
        axes.set_xlim(left=0)
        axes.set_xlabel(f"Step time ({unit})")

    return _panels(shown, draw, name)


def tensors(rows: list[Row], *, name: str = "tensors") -> str | None:
    """Plot the tensor bytes of each cell by node, with its budget. Returns None without tensor statistics."""
    shown = [row for row in rows if row.repeats and row.summary]
    if not any(row.tensors for row in shown):
        return None

    def draw(axes: Any, group: list[Row]) -> None:
        size, unit = byte_unit(max(sum(row.tensors.nodes) if row.tensors else 0 for row in group))
        for y, row in enumerate(group):
            if row.tensors is None:
                axes.text(0, y, " not recorded", va="center")
                continue
            left = 0.0
            for node, resident in enumerate(row.tensors.nodes):
                _bar(axes, y, left, resident / size, row, node)
                left += resident / size
            budget = row.tensors.budget
            annotation = f"{digits(row.tensors.nodes[0] / size)} {unit}"
            if budget is not None:
                axes.plot([budget / size] * 2, [y - 0.42, y + 0.42], color=_INK, lw=2)
                annotation = f"{digits(row.tensors.nodes[0] / size)} of {digits(budget / size)} {unit}"
            axes.text(1.015, y, annotation, va="center", transform=_right_of(axes))
        axes.set_xlim(left=0)
        axes.set_xlabel(f"Tensors ({unit}): dark on node 0, pale on node 1; line: budget of node 0")

    return _panels(shown, draw, name)


def residency(rows: list[Row], *, name: str = "residency") -> str | None:
    """Plot the share of anonymous memory of each cell by node. Returns None if it was not recorded."""
    shown = [row for row in rows if row.anon_shares]
    nodes = sorted({node for row in shown for node in row.anon_shares}, key=int)

    def draw(axes: Any, group: list[Row]) -> None:
        for y, row in enumerate(group):
            left = 0.0
            for n, node in enumerate(nodes):
                share = row.anon_shares.get(node, 0.0)
                _bar(axes, y, left, share, row, n)
                if share >= 0.12:
                    axes.text(left + share / 2, y, f"node {node}  {percent(share)}", va="center", ha="center")
                left += share
        axes.set_xlim(0, 1)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0%", "25%", "50%", "75%", "100%"])
        axes.set_xlabel("Share of the process's anonymous memory")

    return _panels(shown, draw, name)


def _bar(axes: Any, y: int, left: float, width: float, row: Row, node: int) -> None:
    """Draw a cell's memory on one node: dark for node 0, pale for the others."""
    alpha = 0.6 if node == 0 else 0.2
    axes.barh(y, width, left=left, height=0.62, color=_colour(row), alpha=alpha, ec=_PAPER, lw=1)


def _colour(row: Row) -> str:
    return _COLOURS[colours.css_name(row.policy_name)]


def _panels(rows: list[Row], draw: Callable[[Any, list[Row]], None], name: str) -> str | None:
    """Draw one panel per model, with one line per cell."""
    if not rows:
        return None
    groups = [[row for row in rows if row.model == model] for model in dict.fromkeys(r.model for r in rows)]
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):  # a fixed salt makes the SVG reproducible
        figure = Figure(
            figsize=(9.2, 1.1 * len(groups) + 0.34 * len(rows)),
            layout=ConstrainedLayoutEngine(h_pad=0.09),
            facecolor="none",
        )
        panels = figure.subplots(len(groups), 1, squeeze=False, height_ratios=[len(g) + 0.6 for g in groups])
        for (axes,), group in zip(panels, groups, strict=True):
            axes.set_facecolor("none")
            draw(axes, group)
            axes.set_title(group[0].model, loc="left", fontsize=10.5, fontweight="bold")
            axes.set_yticks(range(len(group)), [row.variant for row in group])
            axes.set_ylim(len(group) - 0.45, -0.55)
            axes.tick_params(axis="y", length=0)
            axes.grid(axis="x", color=_FAINT, lw=0.6, alpha=0.6)
            axes.set_axisbelow(True)
        return _svg(figure, name)


def _right_of(axes: Any) -> Any:
    """Return the transform with x from 0 to 1 across the panel and y in data coordinates."""
    return axes.get_yaxis_transform()


def _svg(figure: Figure, name: str) -> str:
    """Return the figure as one <svg> element whose ids are unique in the page."""
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", text)
    text = re.sub(r'(<svg\b[^>]*?) width="[^"]*"', r"\1", text)
    text = re.sub(r'(<svg\b[^>]*?) height="[^"]*"', r"\1", text)
    text = re.sub(r"font: ([^;\"]*?)'[^;\"]*", r"font: \1inherit", text)
    for placeholder, variable in _VARIABLES.items():
        text = text.replace(placeholder, f"var({variable})")
    return text.strip()
