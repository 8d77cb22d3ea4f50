# SPDX-License-Identifier: Apache-2.0
"""Scripts that change a target: one at a time, logged, and with one clear line if they fail."""

from __future__ import annotations

import shlex
from pathlib import Path

from testbed.common import settings
from testbed.common.errors import InfrastructureError, WorkloadError
from testbed.targets.machine import TargetMachine

_WITHIN = 900.0  # seconds: mkinitramfs, or update-grub with many disks
# $1: a lock, $2: a script, $3: its name; the rest: its arguments. A script outlives a connection that breaks.
_ALONE = f"""
PATH=$PATH:/usr/sbin:/sbin
exec 8>>"$1" || exit 1
flock -w {_WITHIN:.0f} 8 || {{ echo "an earlier command does not end" >&2; exit 1; }}
shift
exec sh -ec "$@"
"""

# $1: a file, $2: its mode, $3: its text. A name that begins with a dot is read by neither grub-mkconfig nor
# run-parts.
_WRITE = """
new=$(dirname "$1")/.$(basename "$1").new
printf %s "$3" >"$new"
chmod "$2" "$new"
sync "$new"
mv -fT "$new" "$1"
"""


class Hands:
    """Runs scripts on a locked target. Their output is in `log`, on this host."""

    def __init__(self, machine: TargetMachine) -> None:
        self.machine = machine
        self.log: Path = settings.state_root() / "logs" / f"target-{machine.target.name}.log"

    @property
    def place(self) -> str:
        return self.machine.shell.place

    def run(self, purpose: str, script: str, *arguments: str) -> None:
        """Run a script. Raises `InfrastructureError` with the purpose and the reason if it fails."""
        lock = str(self.machine.folder / "run.lock")
        words = ["sh", "-c", _ALONE, "sh", lock, script, "sh", *arguments]
        result = self.machine.shell.run(shlex.join(words), check=False, timeout=_WITHIN)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("a") as log:
            log.write(f"{self.place}: {purpose}: status {result.code}\n{result.out}{result.err}")
        if result.code != 0:
            lines = (result.err.strip() or result.out.strip() or f"status {result.code}").splitlines()
            raise InfrastructureError(f"{self.place}: cannot {purpose}: {lines[-1]}", log=self.log)

    def write(self, purpose: str, path: str, text: str, *, mode: str = "644") -> None:
        """Write a short file, which has the old content or the new. Its folder must exist."""
        self.run(purpose, _WRITE, path, mode, text)

    def copy(self, purpose: str, source: Path, path: str) -> None:
        """Copy a file or folder. Raises `InfrastructureError` if the target refuses it."""
        try:
            self.machine.shell.put(source, path)
        except WorkloadError as e:
            raise InfrastructureError(f"{self.place}: cannot {purpose}: {e.message}", log=self.log) from None
