# SPDX-License-Identifier: Apache-2.0
"""Options that several commands have."""

from __future__ import annotations

import click

from sentinel.cli import output
from sentinel.planner import policy as policies

policy = click.option(
    "--policy",
    type=click.Choice(policies.POLICIES),
    default=policies.DEFAULT,
    show_default=True,
    help=policies.HELP,
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
uri = click.option("--uri", help="Connection to libvirt (default: embed).")
min_effect = click.option(
    "--min-effect",
    type=output.Number(min=0.0001, max=1),
    default=0.02,
    show_default=True,
    metavar="SHARE",
    help="Smallest difference that counts, as a share of the step time.",
)


def budgets(text: str) -> list[str]:
    """The budgets of a list with commas. If it ends in a share, plain numbers are shares: `10,20,40%`."""
    items = [item.strip() for item in text.split(",")]
    return [f"{item}%" if items[-1].endswith("%") and item.isdigit() else item for item in items]
