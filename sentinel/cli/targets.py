# SPDX-License-Identifier: Apache-2.0
"""`sentinel target`: real machines that suites run on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sentinel.cli import output, streams
from sentinel.cli.host import show_checks
from testbed.common.errors import UsageError

if TYPE_CHECKING:
    from experiments.target_kernel import Base
    from testbed.targets.spec import Target

_PATH = click.Path(path_type=Path)
_argument = click.argument("target", metavar="TARGET")
_key = click.option("--key", type=_PATH, help="Private key (default: the SSH agent, and keys in ~/.ssh).")
_folder = click.option("--folder", type=_PATH, help="Folder of the target (default: /var/tmp/sentinel).")


@click.group()
def target() -> None:
    """Prepare real machines that suites run on. TARGET is `host` or `ssh:USER@HOST[:PORT]`."""


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


@target.command(
    "install-kernel",
    epilog="""\b
Examples:
  sentinel target install-kernel ssh:root@optane1              beside its own kernel; boots nothing
  sentinel target install-kernel ssh:root@optane1 --reboot     and boot it, this once
  sentinel target install-kernel ssh:root@optane1 --default    and make it the default
  sentinel target install-kernel ssh:root@vm1 --config guest --reboot
""",
)
@_argument
@_key
@_folder
@click.option(
    "--config",
    "base",
    type=click.Choice(["target", "guest"]),
    default="target",
    show_default=True,
    help="Begin with the machine's own configuration and the modules it uses, or take the guest's, for a "
    "virtual machine.",
)
@click.option(
    "--kernel",
    "source",
    default="auto",
    show_default=True,
    help="The kernel's source: 6.1, with --config guest also 4.9, or auto.",
)
@click.option(
    "--source-location",
    "location",
    metavar="PATH|REPO@COMMIT",
    help="Take the source from this tree, tarball or git commit.",
)
@click.option("--default", is_flag=True, help="Make it the entry that GRUB boots by default.")
@click.option("--reboot", is_flag=True, help="Boot it once now, and wait until the machine is back.")
@click.option("--build-only", is_flag=True, help="Build it, print its folder, and change nothing.")
def install_kernel(
    target: str,
    key: Path | None,
    folder: Path | None,
    base: Base,
    source: str,
    location: str | None,
    default: bool,
    reboot: bool,
    build_only: bool,
) -> None:
    """Install a kernel with the page-access profiler on a real machine that boots by GRUB.

    The kernel is built on this host. The machine's own kernel stays, and stays the default. A kernel that was
    installed before is replaced.
    """
    from experiments import target_kernel
    from testbed.common import places
    from testbed.common.progress import note
    from testbed.targets.kernel import reboot as reboots
    from testbed.targets.kernel.places import entry_id
    from testbed.targets.machine import TargetMachine

    if build_only and (default or reboot):
        raise UsageError("--build-only changes nothing: it goes with neither --default nor --reboot")
    where = _parsed(target, key, folder)
    if reboot:
        reboots.refuse_this_host(where)
    places.check_roots(cache=True)
    streams.check()
    with TargetMachine.open(where) as machine:
        if build_only:
            parcel = target_kernel.build_for(machine, base=base, source=source, location=location)
            click.echo(parcel.bzimage.parent)
            return
        release, changed = target_kernel.install_on(
            machine, base=base, default=default, once=reboot, source=source, location=location
        )
        place = machine.shell.place
        note(f"{release} is {'installed' if changed else 'already installed'} on {place}")
        if machine.facts.release == release:
            note("it runs")
        elif reboot:
            reboots.boot_once(machine, release)
            note(f"{place} runs {release}; its next boot is {'the same' if default else 'its own kernel'}")
        elif not default:
            note(f"to boot it once, there: grub-reboot {entry_id(release)} && reboot")
    click.echo(release)


@target.command(
    "remove-kernel",
    epilog="""\b
Examples:
  sentinel target remove-kernel ssh:root@optane1
""",
)
@_argument
@_key
@_folder
def remove_kernel(target: str, key: Path | None, folder: Path | None) -> None:
    """Remove the kernels that install-kernel has installed: files, modules, initramfs, boot entries.

    Also what an interrupted command has left. Refused while one of them runs.
    """
    from experiments import target_kernel
    from testbed.common.progress import note
    from testbed.targets.machine import TargetMachine

    with TargetMachine.open(_parsed(target, key, folder)) as machine:
        removed = target_kernel.remove_from(machine)
        note(f"removed from {machine.shell.place}: {', '.join(removed) or 'nothing was installed'}")


def _parsed(text: str, key: Path | None, folder: Path | None) -> Target:
    """Return the real machine that a command names. Raises `UsageError`."""
    from testbed.targets import spec

    parsed = spec.parse(text)
    if parsed is None:
        raise UsageError("vm is no real machine", hint="host, or ssh:user@host")
    return parsed.model_copy(update={"key": key, "folder": folder})
