# SPDX-License-Identifier: Apache-2.0
"""Figures as inline SVG for HTML pages.

Every figure is one panel of the same width, so that a page can lay panels out side by side on a wide screen
and below each other on a phone. Colours are CSS variables, so that the page's themes apply. Text stays text,
in the page's font.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from results.plots import colours

WIDTH = 4.5  # inches: about as many points as a phone has pixels
# Colours that Matplotlib draws with; CSS variables replace them in the SVG text.
INK, FAINT, PAPER, SOFT, ALERT = (f"#0a0b{n:02x}" for n in range(1, 6))
_POLICIES = {name: f"#0a0c{n:02x}" for n, name in enumerate(colours.css_policies())}
_VARIABLES = {INK: "--ink", FAINT: "--faint", PAPER: "--paper", SOFT: "--soft", ALERT: "--alert"} | {
    placeholder: f"--{name}" for name, placeholder in _POLICIES.items()
}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 10.5,
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.facecolor": "none",
    "axes.labelcolor": SOFT,
    "axes.labelsize": 9.5,
    "axes.titlesize": 11.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "xtick.color": SOFT,
    "xtick.labelsize": 9.5,
    "ytick.color": SOFT,
    "ytick.labelsize": 9.5,
    "ytick.major.size": 0,
}


@dataclass(frozen=True)
class Panel:
    """A figure of a page: what it shows, for those who do not see it, and its `<svg>` element."""

    title: str
    svg: str

    @property
    def markup(self) -> Markup:
        """The element for a template. Matplotlib has escaped its text."""
        return Markup(self.svg)  # noqa: S704


def policy_colour(policy: str) -> str:
    """Return the colour that stands for a policy, by its name without parameters."""
    return _POLICIES[colours.css_name(policy)]


def panel(title: str, draw: Callable[[Figure], None], *, name: str, height: float) -> Panel:
    """Draw a figure of `height` inches. `name` makes the ids in its SVG unique in the page."""
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):  # a fixed salt makes the SVG reproducible
        layout = ConstrainedLayoutEngine(h_pad=0.06)
        figure = Figure(figsize=(WIDTH, height), layout=layout, facecolor="none")
        draw(figure)
        return Panel(title, _svg(figure, name))


def file(figure: Panel) -> str:
    """Return the panel as an SVG file, with the colours of a light page."""
    named = colours.css_colours()
    style = "".join(f"--{name}:{colour.light};" for name, colour in named.items())
    head = f"<style>svg{{{style}background:var(--paper);font-family:sans-serif}}</style>"
    return figure.svg.replace(">", f">{head}", 1) + "\n"


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
