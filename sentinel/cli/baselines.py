# SPDX-License-Identifier: Apache-2.0
"""`sentinel baseline`."""

from __future__ import annotations

from pathlib import Path

import click

from sentinel.cli import inputs, output
from testbed.common import settings

_FOLDER = click.Path(path_type=Path)
store_option = click.option(
    "--store", type=_FOLDER, help=f"Folder of baselines and repeatability (default: ${settings.STORE.env})."
)


def store_path(store: Path | None) -> Path:
    """Return the store's folder: the option's, else the setting's."""
    return store if store is not None else Path(settings.STORE.get())


@click.group()
def baseline() -> None:
    """Keep results to compare with."""


@baseline.command(
    epilog="""\b
Examples:
  sentinel baseline save main runs/ci
  sentinel baseline save main runs/ci --store ci/baselines    in a folder to commit
"""
)
@click.argument("name")
@click.argument("folder", metavar="RUN", type=_FOLDER)
@store_option
@output.json_option
def save(name: str, folder: Path, store: Path | None, as_json: bool) -> None:
    """Add the figures of RUN to the baseline NAME, and compare with them from now on."""
    from results import store as stores
    from testbed.common import places

    root = store_path(store)
    places.check_folder(root, "--store")
    entry = stores.save(root, name, inputs.read_run(folder))
    if as_json:
        output.show_json({"baseline": name, "result": entry.name, "path": str(entry.path)})
    else:
        click.echo(entry.path)


@baseline.command(
    "list",
    epilog="""\b
Examples:
  sentinel baseline list
  sentinel baseline list main
""",
)
@click.argument("name", required=False)
@store_option
@output.json_option
def list_baselines(name: str | None, store: Path | None, as_json: bool) -> None:
    """List the results of the baseline NAME, or of all."""
    from results import store as stores

    root = store_path(store)
    names = [name] if name is not None else stores.baselines(root)
    if name is not None:
        stores.current(root, name)  # refuses an unknown name
    entries = [entry for each in names for entry in stores.entries(root, each)]
    read = [(entry, entry.read()) for entry in entries]
    if as_json:
        output.show_json(
            [
                {
                    "baseline": entry.baseline,
                    "result": entry.name,
                    "current": entry.current,
                    "suite": result.suite,
                    "commit": result.commit,
                    "cells": len(result.cells),
                    "repeats": sum(len(cell.repeats) for cell in result.cells),
                    "source": result.source,
                }
                for entry, result in read
            ]
        )
        return
    from rich.markup import escape

    from results.units import printable

    lines = [
        (
            escape(entry.baseline),
            escape(printable(entry.name)),
            "in use" if entry.current else "",
            escape(printable(result.suite)),
            str(len(result.cells)),
            str(sum(len(cell.repeats) for cell in result.cells)),
        )
        for entry, result in read
    ]
    output.show(output.rows(("baseline", "result", "", "suite", "cells", "repeats"), lines))


@baseline.command(
    epilog="""\b
Examples:
  sentinel baseline use main 20260301T123000Z-0123456789
  sentinel baseline use main newest
"""
)
@click.argument("name")
@click.argument("result")
@store_option
def use(name: str, result: str, store: Path | None) -> None:
    """Compare with a certain RESULT of the baseline NAME, or with the `newest`."""
    from results import store as stores

    entry = stores.use(store_path(store), name, result)
    click.echo(f"{entry.baseline}: {entry.name}")
