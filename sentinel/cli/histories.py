# SPDX-License-Identifier: Apache-2.0
"""`sentinel history`: a cell over the results of a baseline."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from sentinel.cli import options, output
from sentinel.cli.baselines import store_option, store_path


@click.command(
    epilog="""\b
Examples:
  sentinel history "lstm-ptb b3, sentinel-opt, 20%"
  sentinel history 1f2e --baseline nightly --plot history.svg
"""
)
@click.argument("cell")
@click.option("--baseline", default="main", show_default=True, help="The baseline whose results to show.")
@click.option("--plot", type=click.Path(path_type=Path), help="Write an SVG file.")
@options.min_effect
@store_option
@output.json_option
def history(
    cell: str, baseline: str, plot: Path | None, min_effect: float, store: Path | None, as_json: bool
) -> None:
    """Show the step time of CELL in all results of a baseline, and where it changed.

    CELL is its label, or the beginning of its id.
    """
    from rich.markup import escape

    from results import history as histories
    from results import store as stores
    from results.units import duration, printable
    from testbed.common import files, places

    if plot is not None:
        places.check_file(plot, "--plot")
    root = store_path(store)
    stores.current(root, baseline)  # refuses an unknown name
    results = [(entry.name, entry.read()) for entry in stores.entries(root, baseline)]
    found = histories.of_cell(results, cell, min_effect=min_effect)
    if plot is not None:
        from results.plots import history as plots

        files.write_atomic(plot, plots.page(found))
    if as_json:
        output.show_json(asdict(found))
        return
    lines = [
        (
            escape(printable(point.result)),
            escape(printable(point.commit or "-")[:10]),
            duration(point.step_ns),
            f"{duration(point.low_ns)} to {duration(point.high_ns)}"
            if point.low_ns is not None and point.high_ns is not None
            else "-",
            "" if point.change is None else f"{100 * (point.change - 1):+.1f}%",
        )
        for point in found.points
    ]
    output.show(output.rows(("result", "commit", "step time", "interval", "change"), lines))
    skipped = f"; no time by that clock: {printable(', '.join(found.skipped))}" if found.skipped else ""
    click.echo(f"{found.label}: {len(found.points)} results, {found.clock} clock{skipped}")
