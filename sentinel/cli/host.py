# SPDX-License-Identifier: Apache-2.0
"""`sentinel doctor` and `sentinel completion`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click
from click.shell_completion import get_completion_class

from sentinel.cli import output
from testbed.common.errors import ExitCode

if TYPE_CHECKING:
    from testbed.host.doctor import Check

_STYLE = {"ok": "[green]ok[/green]", "warn": "[yellow]warn[/yellow]", "fail": "[red]fail[/red]"}


@click.command(
    epilog="""\b
Examples:
  sentinel doctor           one line for each check, with the command that fixes it
  sentinel doctor --json    as JSON
"""
)
@click.option("--uri", help="The libvirt connection to check (default: embed).")
@output.json_option
def doctor(uri: str | None, as_json: bool) -> int:
    """Check this host: QEMU, KVM, libvirt, build tools, memory, disk. Exit 9 if a check fails."""
    from kernel.build import installed
    from testbed.common.cache import Cache
    from testbed.host import doctor as doctor_checks

    kernels = installed(Cache())  # the most recently used one is the last
    checks = doctor_checks.examine(kernel=kernels[-1].bzimage if kernels else None, uri=uri)
    return show_checks(checks, as_json=as_json)


def show_checks(checks: Sequence[Check], *, as_json: bool) -> ExitCode:
    """Print checks as a table, or as JSON. Returns the exit code that they ask for."""
    from rich.markup import escape

    if as_json:
        output.show_json([asdict(check) for check in checks])
    else:
        lines = [[_STYLE[c.state], c.name, escape(c.detail), escape(c.fix)] for c in checks]
        output.show(output.rows(("", "check", "result", "how to fix it"), lines))
    return ExitCode.INFRASTRUCTURE if any(check.state == "fail" for check in checks) else ExitCode.OK


@click.command(
    epilog="""\b
Examples:
  eval "$(sentinel completion bash)"                       for this shell
  sentinel completion zsh > ~/.zfunc/_sentinel             permanently
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
