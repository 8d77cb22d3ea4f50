# SPDX-License-Identifier: Apache-2.0
"""`sentinel policy`."""

from __future__ import annotations

import click

from experiments import policies
from sentinel.cli import output


@click.group()
def policy() -> None:
    """List the policies for the use of fast memory."""


@policy.command("list", epilog="\b\nExamples:\n  sentinel policy list\n  sentinel policy list --json")
@output.json_option
def list_(as_json: bool) -> None:
    """List the policies that suites can name, with what each needs."""
    registry = policies.registry()
    if as_json:
        output.show_json({name: policy.to_dict() for name, policy in registry.items()})
        return
    lines = [
        (name, policy.description, policy.requirements, policy.source) for name, policy in registry.items()
    ]
    output.show(output.rows(("policy", "description", "needs", "source"), lines))
