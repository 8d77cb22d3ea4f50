# SPDX-License-Identifier: Apache-2.0
"""`sentinel target`: real machines that suites run on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sentinel.cli import output
from sentinel.cli.host import show_checks
from testbed.common.errors import UsageError

if TYPE_CHECKING:
    from testbed.targets.spec import Target

_PATH = click.Path(path_type=Path)
_argument = click.argument("target", metavar="TARGET")
_key = click.option("--key", type=_PATH, help="Private key (default: the SSH agent, and keys in ~/.ssh).")
_folder = click.option("--folder", type=_PATH, help="Folder of the target (default: /var/tmp/sentinel).")


@click.group()
def target() -> None:
    """Check and clean real machines that suites run on. TARGET is `host` or `ssh:USER@HOST[:PORT]`."""


@target.command(
    epilog="""\b
Examples:
  sentinel target check host
  sentinel target check ssh:root@optane1
  sentinel target check ssh:root@optane1:2222 --key ~/.ssh/lab --json
"""
)
@_argument
@_key
@_folder
@output.json_option
def check(target: str, key: Path | None, folder: Path | None, as_json: bool) -> int:
    """Check a real machine: system, permissions, nodes, memory, and whether node 1 is slower than node 0.

    Exit 9 if a check fails.
    """
    from experiments import target_checks
    from testbed.common.cache import Cache
    from testbed.targets.machine import TargetMachine

    with TargetMachine.open(_parsed(target, key, folder)) as machine:
        checks = list(target_checks.examine(machine, cache=Cache()))
    return show_checks(checks, as_json=as_json)


@target.command(
    epilog="""\b
Examples:
  sentinel target clean ssh:root@optane1
"""
)
@_argument
@_key
@_folder
def clean(target: str, key: Path | None, folder: Path | None) -> None:
    """Remove the folder of a real machine: the image, and what an interrupted run left there."""
    from experiments import target_root
    from testbed.common.progress import note
    from testbed.targets.machine import TargetMachine

    with TargetMachine.open(_parsed(target, key, folder)) as machine:
        machine.lock()
        target_root.clean(machine)
        note(f"removed {machine.folder} from {machine.shell.place}")


def _parsed(text: str, key: Path | None, folder: Path | None) -> Target:
    from testbed.targets import spec

    parsed = spec.parse(text)
    if parsed is None:
        raise UsageError("virtual machines need no check", hint="sentinel doctor checks this host")
    return parsed.model_copy(update={"key": key, "folder": folder})
