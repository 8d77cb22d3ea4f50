# SPDX-License-Identifier: Apache-2.0
"""Render tables as text."""

from __future__ import annotations

import io

from rich.console import Console, RenderableType


def render(table: RenderableType, width: int = 140) -> list[str]:
    """Return the lines that a terminal of that width shows, without colour and trailing spaces."""
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def render_words(table: RenderableType, width: int = 400) -> str:
    """Return the text of a table with single spaces."""
    return " ".join(" ".join(render(table, width)).split())
