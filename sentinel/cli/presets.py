# SPDX-License-Identifier: Apache-2.0
"""`sentinel preset`."""

from __future__ import annotations

import click

from sentinel.cli import output
from testbed.timing import preset as presets


@click.group()
def preset() -> None:
    """Show the memory systems of the timing model."""


@preset.command("list", epilog="\b\nExamples:\n  sentinel preset list\n  sentinel preset list --json")
@output.json_option
def list_(as_json: bool) -> None:
    """List the presets, with latency and bandwidth of both nodes."""
    all_presets = {name: presets.load(name) for name in presets.names()}
    if as_json:
        output.show_json({name: p.model_dump(mode="json") for name, p in all_presets.items()})
        return
    columns = ("preset", "read ns", "read GB/s", "write GB/s", "description")
    lines = [
        (
            name,
            *(
                " -> ".join(f"{getattr(node, field):g}" for node in p.nodes)
                for field in ("read_latency", "read_bandwidth", "write_bandwidth")
            ),
            p.description,
        )
        for name, p in all_presets.items()
    ]
    output.show(output.rows(columns, lines))


@preset.command(
    epilog="\b\nExamples:\n  sentinel preset show optane-6dimm\n  sentinel preset show ./mine.yaml --json"
)
@click.argument("name", metavar="NAME|FILE")
@output.json_option
def show(name: str, as_json: bool) -> None:
    """Show all values of a preset, including defaults."""
    values = presets.load(name).model_dump(mode="json")
    if as_json:
        output.show_json(values)
        return
    lines = []
    for key, value in values.items():
        if key == "nodes":
            lines += [(f"node {i}", _flat(node)) for i, node in enumerate(value)]
        else:
            lines.append((key, _flat(value) if isinstance(value, dict) else str(value)))
    output.show(output.rows(("key", "value"), lines))


def _flat(value: dict[str, object]) -> str:
    return ", ".join(f"{key} {field}" for key, field in value.items())
