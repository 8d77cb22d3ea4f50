# SPDX-License-Identifier: Apache-2.0
"""`sentinel doctor` and `sentinel completion`."""

from __future__ import annotations

from dataclasses import asdict

import click
from click.shell_completion import get_completion_class

from sentinel.cli import output
from testbed.common.errors import ExitCode

_STYLE = {"ok": "[green]ok[/green]", "warn": "[yellow]warn[/yellow]", "fail": "[red]fail[/red]"}


@click.command(
    epilog="""\b
Examples:
  sentinel doctor           one line a check, with the command that mends it
  sentinel doctor --json    the same for programs
"""
)
@click.option("--uri", help="The libvirt connection to look at (default: embed).")
@output.json_option
def doctor(uri: str | None, as_json: bool) -> int:
    """Say what this host can do: each line ok, warn or fail."""
    from rich.markup import escape

    from kernel.build import installed
    from testbed.common.cache import Cache
    from testbed.host import doctor as checks

    kernels = installed(Cache())  # the last one was used last
    found = checks.examine(kernel=kernels[-1].bzimage if kernels else None, uri=uri)
    if as_json:
        output.show_json([asdict(check) for check in found])
    else:
        lines = [[_STYLE[c.state], c.name, escape(c.detail), escape(c.fix)] for c in found]
        output.show(output.rows(("", "check", "result", "how to fix it"), lines))
    return ExitCode.INFRASTRUCTURE if any(check.state == "fail" for check in found) else ExitCode.OK


@click.command(
    epilog="""\b
Examples:
  eval "$(sentinel completion bash)"                       in this shell
  sentinel completion zsh > ~/.zfunc/_sentinel             for good
"""
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script for SHELL."""
    from sentinel.cli.main import cli

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"no completion for {shell}")
    click.echo(kind(cli, {}, "sentinel", "_SENTINEL_COMPLETE").source())
