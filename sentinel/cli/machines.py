# SPDX-License-Identifier: Apache-2.0
"""`sentinel vm ...`."""

from __future__ import annotations

import os
import posixpath
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sentinel.cli import options, output, streams
from testbed.common.errors import ExitCode, UsageError, WorkloadError

if TYPE_CHECKING:
    from testbed.vm import Boot, SavedVm, Vm

_vm = click.option(
    "--vm", "name", default="default", show_default=True, metavar="NAME", help="Name of the machine."
)
_uri = click.option("--uri", help="libvirt connection (default: embed, without a daemon).")


@click.group()
def vm() -> None:
    """Start, use and end virtual machines."""


@vm.command(
    epilog="""\b
Examples:
  sentinel vm up                                   a two-node machine named `default`
  sentinel vm up --vm b --machine ./mine.yaml      a second machine
  sentinel vm up --preset optane-6dimm             node 1 is slow, with the timing model
  sentinel vm up --from warmed-up                  restore a snapshot
  sentinel vm up --dry-run                         print the libvirt domain only
"""
)
@_vm
@options.machine
@options.kernel
@click.option(
    "--source-location", "location", help="Location of the kernel source; see `sentinel kernel build`."
)
@click.option("--preset", help="Memory system of the timing model: a name or a YAML file.")
@click.option("--from", "snapshot", help="Restore this snapshot instead of booting.")
@click.option("--ssh-port", type=click.IntRange(1, 65535), help="Forward this port (default: a free one).")
@_uri
@click.option("--dry-run", is_flag=True, help="Print the domain XML; start nothing.")
def up(
    name: str,
    machine: str,
    kernel: str,
    location: str | None,
    preset: str | None,
    snapshot: str | None,
    ssh_port: int | None,
    uri: str | None,
    dry_run: bool,
) -> None:
    """Start a machine, and return when its SSH server answers.

    A booted machine has the runtime, the guest code and the planner in /opt/sentinel. A restored machine has
    what it had when it was saved.
    """
    from experiments import tools
    from testbed import vm as machines
    from testbed.common import places
    from testbed.common.cache import Cache
    from testbed.common.progress import note, step

    places.check_roots(cache=True, state=True)
    source = _source(
        machine, kernel=kernel, location=location, preset=preset, snapshot=snapshot, dry_run=dry_run
    )
    if dry_run:
        click.echo(machines.preview(name, source), nl=False)
        return
    code = {} if isinstance(source, machines.SavedVm) else tools.collect(cache=Cache())
    with step(f"Starting {name}"):
        started = machines.start(name, source, uri=uri, ssh_port=ssh_port)
        try:
            if snapshot is None:
                started.wait_ready()
            with started.shell() as shell:
                release = shell.run("uname -r", timeout=started.limits.command).out.strip()
                if isinstance(source, machines.Boot):
                    tools.install(shell, code, source)
        except BaseException:
            started.down()
            raise
        started.detach()
    note(f"Linux {release}, {started.accelerator}, port {started.port}: sentinel vm ssh --vm {name}")


def _source(
    machine: str,
    *,
    kernel: str,
    location: str | None,
    preset: str | None,
    snapshot: str | None,
    dry_run: bool,
) -> Boot | SavedVm:
    """Return what to start: a snapshot, or a new machine, whose spec is checked before anything is built."""
    from testbed.common.cache import Cache

    if snapshot is not None:
        from testbed.vm import snapshot as snapshots

        if preset is not None:
            raise UsageError("--preset and --from exclude each other: a snapshot keeps its preset")
        return snapshots.find(snapshot, cache=Cache())
    from experiments import boot
    from testbed import machine as specs
    from testbed.host import memory
    from testbed.timing import preset as presets

    spec = specs.load(machine)
    memory.check_capacity(spec)
    memory_preset = presets.load(preset) if preset is not None else None
    return boot.prepare(spec, preset=memory_preset, kernel=kernel, location=location, dry_run=dry_run).boot


@vm.command(
    epilog="""\b
Examples:
  sentinel vm down
  sentinel vm down --vm b
  sentinel vm down --all            every machine except those of running commands
  sentinel vm down --all --force    those too: their suites lose a repeat
"""
)
@_vm
@click.option(
    "--all", "everything", is_flag=True, help="End every machine that belongs to no running command."
)
@click.option("--force", is_flag=True, help="With --all: also machines of running commands, such as suites.")
def down(name: str, everything: bool, force: bool) -> None:
    """End a machine. Its disk is removed; its console stays readable."""
    from testbed import vm as machines
    from testbed.common import places
    from testbed.common.progress import warn

    if force and not everything:
        raise UsageError("--force needs --all: a named machine is ended in any case")
    places.check_roots(state=True, room=False)
    machines.reap()
    for machine in machines.all_vms() if everything else [machines.find(name)]:
        owner = machine.owner() if everything and not force else None
        if owner is not None:
            warn(f"{machine.name} keeps running: it belongs to {owner}; --force ends it too")
            continue
        machine.down(reason="ended by `sentinel vm down`")


@vm.command(
    epilog="""\b
Examples:
  sentinel vm status
  sentinel vm status --json    as JSON
"""
)
@output.json_option
def status(as_json: bool) -> None:
    """List the machines with state, port, accelerator, memory and console."""
    from testbed import vm as machines
    from testbed.common import places

    places.check_roots(state=True, room=False)
    machines.reap()
    states = [_state(machine) for machine in machines.all_vms()]
    if as_json:
        output.show_json(states)
        return
    columns = ("name", "state", "port", "accelerator", "memory", "console")
    output.show(output.rows(columns, [[str(row[column]) for column in columns] for row in states]))


def _state(machine: Vm) -> dict[str, object]:
    from testbed.machine import Machine

    reason = machine.end_reason()
    config = machine.config
    nodes = Machine.model_validate(config["machine"]).nodes
    return {
        "name": machine.name,
        "state": "running" if reason is None else reason,
        "port": machine.port if reason is None else "",
        "accelerator": config["accelerator"],
        "memory": " + ".join(output.size(node.memory) for node in nodes),
        "kernel": config["kernel"],
        "console": str(machine.console_path),
    }


@vm.command(
    context_settings={"ignore_unknown_options": True},
    epilog="""\b
Examples:
  sentinel vm ssh                  a session
  sentinel vm ssh --vm b uname -r  one command
""",
)
@_vm
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def ssh(name: str, command: tuple[str, ...]) -> None:
    """Open an OpenSSH session in the guest, or run COMMAND and exit with its status."""
    from testbed import vm as machines
    from testbed.guestlink import ssh as shells

    machine = machines.find_running(name)
    words = shells.command_line(machine.port, command)
    os.execvp(words[0], words)  # noqa: S606 -- the process becomes ssh


@vm.command(
    "exec",
    context_settings={"ignore_unknown_options": True},
    epilog="""\b
Examples:
  sentinel vm exec numactl -H
  sentinel vm exec --vm b 'dmesg | tail'
""",
)
@_vm
@click.option("--timeout", type=output.Number(0, 1e7, min_open=True), help="Stop after this many seconds.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def exec_(name: str, timeout: float | None, command: tuple[str, ...]) -> int:
    """Run COMMAND in the guest's shell, and print its output as it comes."""
    from testbed import vm as machines

    machine = machines.find_running(name)
    line = " ".join(command)
    try:
        with machine.shell() as shell:
            result = shell.run(
                line,
                timeout=timeout,
                check=False,
                on_line=click.echo,
                on_error=lambda text: click.echo(text, err=True),
            )
    except streams.UnreadError:  # closing the connection has ended the command
        streams.discard_output()
        return ExitCode.UNREAD
    if result.code != 0:
        raise WorkloadError(f"command exited with status {result.code}")
    return ExitCode.OK


@vm.command(
    epilog="""\b
Examples:
  sentinel vm console
  sentinel vm console --follow | grep BUG
"""
)
@_vm
@click.option("-f", "--follow", is_flag=True, help="Wait for more output until the machine ends.")
def console(name: str, follow: bool) -> None:
    """Print the guest's console from its first byte."""
    from testbed import vm as machines
    from testbed.guestlink import console as consoles

    machine = machines.find(name)
    for line in consoles.follow(machine.console_path, until_ended=lambda: not (follow and machine.alive())):
        click.echo(line)


@vm.command(
    epilog="""\b
Examples:
  sentinel vm put train.py /root/train.py
  sentinel vm put --vm b ./code /opt/code          merge into an existing folder
  sentinel vm put ./code /opt/                     creates /opt/code
"""
)
@_vm
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("target")
def put(name: str, source: Path, target: str) -> None:
    """Copy the file or folder SOURCE to TARGET in the guest, or into the folder TARGET/."""
    from testbed import vm as machines

    with machines.find_running(name).shell() as shell:
        shell.put(source, target)


@vm.command(
    epilog="""\b
Examples:
  sentinel vm get /proc/vmstat .
  sentinel vm get --vm b /root/out.json b.json
  sentinel vm get /root/results .                  a folder, which must not exist here
"""
)
@_vm
@click.argument("source")
@click.argument("target", type=click.Path(path_type=Path))
def get(name: str, source: str, target: Path) -> None:
    """Copy the file or folder SOURCE in the guest to TARGET here, or into the folder TARGET."""
    from testbed import vm as machines
    from testbed.common import places

    if target.is_dir():
        name_in_guest = posixpath.basename(posixpath.normpath(source))
        if name_in_guest in ("", ".", ".."):
            raise UsageError(f"{source} has no name to copy to", hint=f"give the new name: {target}/NAME")
        target = target / name_in_guest
    machine = machines.find_running(name)
    if not target.parent.is_dir():
        raise UsageError(f"{target.parent} is not a folder")
    places.check_folder(target.parent, "TARGET")
    with machine.shell() as shell:
        shell.get(source, target)


@vm.command(
    epilog="""\b
Examples:
  sentinel vm snapshot warmed-up        save the machine, then resume it
  sentinel vm up --vm b --from warmed-up
"""
)
@_vm
@click.argument("snapshot")
@click.option("--stop", is_flag=True, help="Do not resume the machine.")
@_uri
def snapshot(name: str, snapshot: str, stop: bool, uri: str | None) -> None:
    """Save memory and disk of a running machine as SNAPSHOT."""
    from testbed import vm as machines
    from testbed.common import places
    from testbed.common.cache import Cache
    from testbed.common.progress import note, step
    from testbed.vm import snapshot as snapshots

    places.check_roots(cache=True, state=True)
    cache = Cache()
    machine = machines.find_running(name)
    port = machine.port
    with step(f"Saving {name} as {snapshot}"):
        entry = snapshots.take(machine, snapshot, cache=cache)
    note(f"{output.size(entry.size())}: sentinel vm up --from {snapshot}")
    if stop:
        return
    with step(f"Resuming {name}"):
        machines.start(name, snapshots.load(entry, cache=cache), uri=uri, ssh_port=port).detach()
