# SPDX-License-Identifier: Apache-2.0
"""`sentinel model`."""

from __future__ import annotations

import click

from experiments import models
from sentinel.cli import output


@click.group()
def model() -> None:
    """List the models that can be trained."""


@model.command("list", epilog="\b\nExamples:\n  sentinel model list\n  sentinel model list --json")
@output.json_option
def list_(as_json: bool) -> None:
    """List the models that suites can name, with their parameters and defaults."""
    registry = models.registry()
    if as_json:
        output.show_json({name: model.to_dict() for name, model in registry.items()})
        return
    lines = [(name, model.description, model.parameter_list()) for name, model in registry.items()]
    output.show(output.rows(("model", "description", "parameters: default (bounds)"), lines))
