# SPDX-License-Identifier: Apache-2.0
"""Tables and JSON on standard output."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import IO, Any, TypeVar

import click
from rich.console import Console, RenderableType
from rich.text import Text

from results.tables import Column, Grid, Section

_F = TypeVar("_F", bound=Callable[..., Any])


class Number(click.FloatRange):
    """A finite number in a range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


def json_option(function: _F) -> _F:
    """Add the `--json` flag."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")(function)


def show_json(value: Any) -> None:
    """Print a value as JSON, which has neither NaN nor infinities: they become null."""
    click.echo(json.dumps(_finite(value), indent=2, default=str, allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def show(table: RenderableType, *, file: IO[str] | None = None) -> None:
    """Print a table to standard output or `file`; without a terminal, at its full width."""
    out = Console(highlight=False, file=file)
    if not out.is_terminal:
        out = Console(highlight=False, file=file, width=max(out.width, 160))
    out.print(table)


def rows(columns: Sequence[str], lines: Iterable[Sequence[str]], *, caption: str = "") -> Grid:
    """Return a table of text with markup."""
    section = Section("", [[Text.from_markup(cell) for cell in line] for line in lines])
    return Grid([Column(title) for title in columns], [section], caption=Text(caption))


def size(number: int) -> str:
    """Return bytes in a readable unit."""
    value = float(number)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"
