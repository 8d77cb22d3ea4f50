# SPDX-License-Identifier: Apache-2.0
"""`sentinel aa`."""

from __future__ import annotations

from pathlib import Path

import click

from sentinel.cli import inputs, options, output, runs
from sentinel.cli.baselines import store_option, store_path


@click.command(
    epilog="""\b
Examples:
  sentinel aa runs/ci                       split its repeats at random, 1000 times
  sentinel aa runs/ci-1,runs/ci-2           those of several runs together
  sentinel aa experiments/suites/ci.yaml    run the suite first; it needs 6 repeats
"""
)
@click.argument("source", metavar="SUITE|RUN")
@click.option(
    "--pairs", type=click.IntRange(1, 100_000), default=1000, show_default=True, help="Comparisons."
)
@click.option("--seed", type=int, default=20210227, show_default=True, help="Seed of the splits.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for the records of SUITE.")
@click.option("--save/--no-save", default=True, show_default=True, help="Store the spread of the repeats.")
@store_option
@options.source_location
@options.uri
@output.json_option
def aa(
    source: str,
    pairs: int,
    seed: int,
    out: Path | None,
    save: bool,
    store: Path | None,
    location: str | None,
    uri: str | None,
    as_json: bool,
) -> int:
    """Compare equal sides, count false alarms, and store the spread of repeats.

    Later comparisons of the same kind of cell know this spread, and need fewer repeats.
    """
    from results import aa as checks
    from results import repeatability
    from results import store as stores
    from testbed.common import places
    from testbed.common.errors import ExitCode

    root = store_path(store)
    if save:
        places.check_folder(root, "--store")
    code = ExitCode.OK
    if Path(source).is_file():
        folder, outcome = runs.measure(Path(source), out, location=location, uri=uri)
        source, code = str(folder), outcome.code
    side = stores.side(root, source)
    inputs.warn(side.warnings)
    result = checks.check(side, pairs=pairs, seed=seed)
    stored = checks.to_store(result)
    if save:
        for one in stored:
            repeatability.save(root, one)
    if as_json:
        output.show_json(
            {
                "pairs": result.pairs,
                "false_alarms": result.false_alarms,
                "rate": result.rate,
                "skipped": result.skipped,
                "cells": [one.model_dump(mode="json") for one in stored],
            }
        )
        return code
    from rich.markup import escape

    lines = [
        (
            escape(cell.label),
            str(cell.repeats),
            f"{cell.spread.sd:.2%}",
            f"{cell.false_alarms / result.pairs:.1%}",
            f"{cell.same / result.pairs:.1%}",
        )
        for cell in result.cells
    ]
    columns = ("cell", "repeats a side", "spread of repeats", "false alarms", "called same")
    skipped = "".join(f"skipped, fewer than {checks.LEAST} repeats: {line}\n" for line in result.skipped)
    summary = f"{result.false_alarms} of {result.pairs} comparisons of equal sides have a false alarm"
    output.show(output.rows(columns, lines, caption=f"{skipped}{summary} ({result.rate:.1%})"))
    return code
