# SPDX-License-Identifier: Apache-2.0
"""The guest image's root file system on a target: sent once, and entered for each training.

    FOLDER/image-<key>/rootfs.ext4    the image; appears whole or not at all
    FOLDER/run/                       the work of the training that runs
    FOLDER/probe                      the memory probe of `sentinel target check`
    FOLDER/lock, run.lock, owner      one process at a time (testbed.targets.lock)

A target that is this host uses the image in the cache.
"""

from __future__ import annotations

import contextlib
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from images import build as images
from images import root as roots
from images.root import Root
from testbed.common.cache_entry import Entry
from testbed.common.errors import InfrastructureError, LostConnectionError, UsageError
from testbed.common.progress import Step, step
from testbed.common.run import spawn
from testbed.guestlink.lost import lost_if_broken
from testbed.guestlink.shell import Shell
from testbed.targets.held import ALIVE, SILENCE, Held
from testbed.targets.machine import TargetMachine

PROBE = "probe"  # in the folder, while `sentinel target check` measures
_WORK = 64 << 20  # bytes
_CHUNK = 1 << 18  # bytes
_WITHIN = 60.0  # seconds to mount the image, beyond the wait for an earlier training to end
# $1: the folder for the image; $2: its SHA-256. The image, as tar.gz, is the input.
_RECEIVE = f"""
set -e
part=$1.part-$$
trap 'rm -rf "$part"' EXIT
mkdir -p "$part"
tar -xzSf - -C "$part"
echo "$2  $part/{images.DISK}" | sha256sum --check --status || {{ echo "it arrived damaged" >&2; exit 1; }}
mv -T "$part" "$1"
"""
# $1: FOLDER; the rest: the command of a root. An earlier one may still be ending after a lost connection.
_ENTER = f"""
cd "$1" && shift && exec 8>>run.lock || exit 1
flock -w {SILENCE + 30} 8 || {{ echo "an earlier training does not end"; exit 1; }}
rm -rf --one-file-system run && mkdir -p run/top run/root || exit 1
trap 'rm -rf --one-file-system run' EXIT
"$@" 2>&1 8>&-
"""
_STAY = f'echo "ready ${roots.OUTER}"; while {ALIVE}; do :; done'


def disk_on(machine: TargetMachine, image: Entry) -> PurePosixPath:
    """Where the target has the image, or will have it."""
    if machine.target.ssh is None:
        return PurePosixPath(image.path / images.DISK)
    return machine.folder / f"image-{image.key}" / images.DISK


def disk_needed(machine: TargetMachine, image: Entry) -> int:
    """Bytes that the target has to store: those of the image, if it lacks it, and the work of a run."""
    missing = 0 if has_image(machine, image) else (image.path / images.DISK).stat().st_blocks * 512
    return missing + _WORK


def has_image(machine: TargetMachine, image: Entry) -> bool:
    """Return whether the target has the image."""
    return machine.shell.run(f"test -e {shlex.quote(str(disk_on(machine, image)))}", check=False).code == 0


def send_image(machine: TargetMachine, image: Entry) -> None:
    """Send the image, if the target lacks it. Raises `InfrastructureError` if there is no space for it."""
    if has_image(machine, image):
        return
    place = machine.shell.place
    with step(f"Sending the image to {place}") as shown:
        command = ["sh", "-c", _RECEIVE, "sh", str(disk_on(machine, image).parent), image.manifest["sha256"]]
        _send(machine.shell, image.path, shlex.join(command), shown)


def _send(shell: Shell, folder: Path, command: str, shown: Step) -> None:
    # The image is half empty: tar leaves out the holes, and the fastest compression is faster than networks.
    pack = ["tar", "-C", str(folder), "--use-compress-program=gzip -1", "-Scf", "-", images.DISK]
    with (
        spawn(pack, stderr=subprocess.DEVNULL) as tar,
        lost_if_broken(shell.place),
        contextlib.closing(shell.start(command)) as channel,
    ):
        assert tar.stdout is not None  # noqa: S101 -- spawn() made the pipe
        sent = 0
        with contextlib.suppress(OSError):  # the command has ended: its status says why
            while chunk := tar.stdout.read(_CHUNK):
                channel.sendall(chunk)
                sent += len(chunk)
                shown.update(None, f"{sent >> 20} MiB")
            channel.shutdown_write()  # the checksum tells whether this was all
        if not shell.connected:
            raise LostConnectionError(f"the connection to {shell.place} broke")
        status = channel.recv_exit_status()
        errors = channel.makefile_stderr("rb").read().decode(errors="replace").strip().splitlines()
    if status != 0:
        reason = errors[-1] if errors else f"status {status}"
        raise InfrastructureError(
            f"cannot store the image on {shell.place}: {reason}", hint="df -h there; another `folder`"
        )


@contextlib.contextmanager
def entered(machine: TargetMachine, image: Entry) -> Iterator[tuple[Shell, Held]]:
    """Mount the image on the target for the block. Yield root's shell in it, and what keeps it.

    All processes in it end with the block, with this process, or with the connection. Raises
    `InfrastructureError` if the target does not let the image be mounted.
    """
    run = machine.folder / "run"
    root = Root(Path(disk_on(machine, image)), Path(run / "top"), {"/root": Path(run / "root")})
    command = ["sh", "-c", _ENTER, "sh", str(machine.folder), *root.command(["sh", "-c", _STAY])]
    with Held(machine.shell, shlex.join(command)) as held:
        pid, lines = held.wait("ready", within=_WITHIN + SILENCE)
        if pid is None:
            output = "\n".join(lines)
            problem = lines[-1] if lines else "no reason given"
            raise roots.refusal(output, machine.shell.place) or InfrastructureError(
                f"{machine.shell.place}: the image's root file system cannot be used: {problem}"
            )
        yield machine.shell.inside(roots.entrance(int(pid), cpus=machine.cpus)), held


def clean(machine: TargetMachine) -> None:
    """Remove the folder of the target. The caller has the lock. Raises `UsageError` for a foreign folder."""
    folder = shlex.quote(str(machine.folder))
    foreign = machine.shell.run(
        f"ls -A {folder} | grep -Ev '^(lock|run\\.lock|owner|run|{PROBE}|image-.*)$' | head -n 1", check=False
    ).out.strip()
    if foreign:
        raise UsageError(f"{machine.folder} on {machine.shell.place} has files of others: {foreign}")
    machine.shell.run(f"rm -rf --one-file-system {folder}")
