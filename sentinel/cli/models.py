# SPDX-License-Identifier: Apache-2.0
"""`sentinel model`."""

from __future__ import annotations

import click

from experiments import models
from sentinel.cli import output
from testbed.common.errors import UsageError


@click.group()
def model() -> None:
    """Show the models that can be trained."""


@model.command("list", epilog="\b\nExamples:\n  sentinel model list\n  sentinel model list --json")
@output.json_option
def list_(as_json: bool) -> None:
    """List the models that suites can name, with their parameters and defaults."""
    registry = models.registry()
    if as_json:
        output.show_json({name: model.to_dict() for name, model in registry.items()})
        return
    lines = [
        (name, model.description, ", ".join(model.configurations), model.parameter_list())
        for name, model in registry.items()
    ]
    columns = ("model", "description", "configurations", "parameters: default (allowed)")
    output.show(output.rows(columns, lines))


@model.command(epilog="\b\nExamples:\n  sentinel model show resnet\n  sentinel model show bert --json")
@click.argument("name")
@output.json_option
def show(name: str, as_json: bool) -> None:
    """Show a model: its source, parameters, configurations and published size."""
    registry = models.registry()
    if name not in registry:
        raise UsageError(f"unknown model {name!r}; there are: {', '.join(registry)}")
    shown = registry[name]
    if as_json:
        output.show_json(shown.to_dict())
        return
    output.show(output.rows(("key", "value"), _facts(shown)))
    configurations = {title: shown.configuration(title) for title in shown.configurations}
    lines = [
        (
            key,
            str(parameter.default),
            parameter.allowed,
            *(str(values[key]) for values in configurations.values()),
            parameter.description,
        )
        for key, parameter in shown.parameters.items()
    ]
    output.show(output.rows(("parameter", "default", "allowed", *configurations, "description"), lines))


def _facts(shown: models.Model) -> list[tuple[str, str]]:
    facts = [("model", shown.name), ("description", shown.description)]
    if shown.source:
        facts.append(("source", shown.source))
    if shown.data:
        facts.append(("data", f"synthetic, or {shown.data}"))
    for published in shown.published:
        size = " ".join([published.configuration, *(f"{k} {v}" for k, v in published.parameters.items())])
        scopes = f", without {', '.join(published.without)}" if published.without else ""
        source = f" ({published.source})" if published.source else ""
        facts.append(("trainable parameters", f"{size}: {published.trainable}{scopes}{source}"))
    return facts
