# SPDX-License-Identifier: Apache-2.0
"""`sentinel compare`, `sentinel gate` and `sentinel aa`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from results.comparability import ACCEPTABLE
from sentinel.cli import output
from sentinel.cli.baselines import store_option, store_path

_F = TypeVar("_F", bound=Callable[..., Any])


def _judging(function: _F) -> _F:
    """Add the options that decide verdicts."""
    for option in (
        click.option(
            "--across",
            type=click.Choice(ACCEPTABLE),
            multiple=True,
            help="Compare although this differs; may be repeated.",
        ),
        click.option(
            "--min-effect",
            type=output.Number(min=0.0001, max=1),
            default=0.02,
            show_default=True,
            metavar="SHARE",
            help="Smallest difference that counts, as a share of the step time.",
        ),
    ):
        function = option(function)
    return function


@click.command(
    epilog="""\b
Examples:
  sentinel compare runs/before runs/after
  sentinel compare runs/a1,runs/a2 runs/b1,runs/b2     several runs a side
  sentinel compare main runs/after --format markdown   with the baseline `main`
"""
)
@click.argument("a")
@click.argument("b")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "markdown", "json", "junit", "html"]),
    default="table",
    show_default=True,
    help="Format of the output.",
)
@_judging
@store_option
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
def compare(
    a: str, b: str, form: str, min_effect: float, across: tuple[str, ...], store: Path | None, as_json: bool
) -> None:
    """Compare B with A: the ratio of step times of each cell, with its interval and a verdict.

    A and B are folders of runs, several of them joined by commas, or names of baselines.
    """
    from results import compare_formats, compare_report, repeatability
    from results import store as stores
    from results.compare import compare as compare_sides

    folder = store_path(store)
    comparison = compare_sides(
        stores.side(folder, a),
        stores.side(folder, b),
        min_effect=min_effect,
        across=across,
        spreads=repeatability.load(folder),
    )
    if as_json or form == "json":
        output.show_json(compare_report.to_dict(comparison))
    elif form == "table":
        output.show(compare_report.table(comparison))
    else:
        click.echo(compare_formats.FORMATS[form](comparison), nl=False)
