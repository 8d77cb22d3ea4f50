# SPDX-License-Identifier: Apache-2.0
"""`sentinel preset`: what slow memory there is to choose from."""

from __future__ import annotations

import click

from sentinel.cli import output
from testbed.timing import preset as presets


@click.group()
def preset() -> None:
    """Show the memories that the timing model knows."""


@preset.command("list", epilog="\b\nExamples:\n  sentinel preset list\n  sentinel preset list --json")
@output.json_option
def list_(as_json: bool) -> None:
    """List presets: latency and bandwidth of both nodes."""
    loaded = {name: presets.load(name) for name in presets.names()}
    if as_json:
        output.show_json({name: one.model_dump(mode="json") for name, one in loaded.items()})
        return
    columns = ("preset", "read ns", "read GB/s", "write GB/s", "description")
    lines = [
        (
            name,
            *(
                " -> ".join(f"{getattr(node, field):g}" for node in one.nodes)
                for field in ("read_latency", "read_bandwidth", "write_bandwidth")
            ),
            one.description,
        )
        for name, one in loaded.items()
    ]
    output.show(output.rows(columns, lines))


@preset.command(
    epilog="\b\nExamples:\n  sentinel preset show optane-6dimm\n  sentinel preset show ./mine.yaml --json"
)
@click.argument("name", metavar="NAME|FILE")
@output.json_option
def show(name: str, as_json: bool) -> None:
    """Show all of one preset, with what it leaves to the defaults."""
    one = presets.load(name).model_dump(mode="json")
    if as_json:
        output.show_json(one)
        return
    lines = []
    for key, value in one.items():
        if key == "nodes":
            lines += [(f"node {i}", _flat(node)) for i, node in enumerate(value)]
        else:
            lines.append((key, _flat(value) if isinstance(value, dict) else str(value)))
    output.show(output.rows(("key", "value"), lines))


def _flat(value: dict[str, object]) -> str:
    return ", ".join(f"{key} {one}" for key, one in value.items())
