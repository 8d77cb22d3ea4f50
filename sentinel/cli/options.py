# SPDX-License-Identifier: Apache-2.0
"""Options that several commands have."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sentinel.cli import output
from sentinel.planner import policy as policies
from testbed.common.errors import UsageError

if TYPE_CHECKING:
    from experiments.policies import Policy

ALL = "all"  # policies

policy = click.option(
    "--policy",
    type=click.Choice(policies.POLICIES),
    default=policies.DEFAULT,
    show_default=True,
    help=policies.HELP,
)
mechanism = click.option(
    "--mechanism",
    type=click.Choice(policies.MECHANISMS),
    default=policies.MOVE_PAGES,
    show_default=True,
    help="How plans of sentinel-opt migrate.",
)
migration_cores = click.option(
    "--migration-cores", type=click.IntRange(1, 63), default=1, show_default=True, help="CPUs that migrate."
)
machine = click.option(
    "--machine", default="two-node", show_default=True, help="Machine spec: a name or a YAML file."
)
kernel = click.option(
    "--kernel", default="auto", show_default=True, help="Kernel source; `auto` takes the first available."
)
source_location = click.option(
    "--source-location", "location", help="Source of the kernel; see `sentinel kernel build`."
)
target = click.option(
    "--target",
    metavar="vm|host|ssh:USER@HOST",
    help="Where cells run, instead of the suite's `target`: in virtual machines, or on a real machine.",
)
uri = click.option("--uri", help="Connection to libvirt (default: embed).")
min_effect = click.option(
    "--min-effect",
    type=output.Number(min=0.0001, max=1),
    default=0.02,
    show_default=True,
    metavar="SHARE",
    help="Smallest difference that counts, as a share of the step time.",
)


def chosen_policies(text: str) -> list[Policy]:
    """The policies of a list with commas; `all` means every one. Raises `UsageError`."""
    from experiments import policies as registered

    if text == ALL:
        return list(registered.registry().values())
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in registered.names():
            raise UsageError(f"unknown policy {name!r}; there are: all, {', '.join(registered.names())}")
    return [registered.get(name) for name in dict.fromkeys(names)]


def budgets(text: str) -> list[str]:
    """The budgets of a list with commas. If it ends in a share, plain numbers are shares: `10,20,40%`."""
    items = [item.strip() for item in text.split(",")]
    return [f"{item}%" if items[-1].endswith("%") and item.isdigit() else item for item in items]
