# SPDX-License-Identifier: Apache-2.0
"""docs/commands.md, from the program's own help: `python -m sentinel.cli.reference > docs/commands.md`."""

from __future__ import annotations

from collections.abc import Iterator

import click

from sentinel.cli.main import cli


def text() -> str:
    """The whole page."""
    parts = [
        "<!-- SPDX-License-Identifier: Apache-2.0 -->",
        "<!-- Made by `python -m sentinel.cli.reference > docs/commands.md`; a test keeps it current. -->",
        "# Commands",
        "What `--help` prints, verb by verb.",
    ]
    for path, page in _pages(cli, click.Context(cli, info_name="sentinel", **cli.context_settings)):
        parts.append(f"## {path}\n\n```text\n{page}\n```")
    return "\n\n".join(parts) + "\n"


def _pages(command: click.Command, context: click.Context) -> Iterator[tuple[str, str]]:
    context.terminal_width = 100
    yield context.command_path, command.get_help(context).rstrip()
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if child is not None:
                yield from _pages(child, click.Context(child, info_name=name, parent=context))


if __name__ == "__main__":
    click.echo(text(), nl=False)
