# SPDX-License-Identifier: Apache-2.0
"""A target that this process uses alone: its shell as root, its folder, its facts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Self

from testbed.common import settings
from testbed.guestlink.local import LocalShell
from testbed.guestlink.shell import Shell
from testbed.targets import facts as all_facts
from testbed.targets import lock
from testbed.targets.checks import FAST
from testbed.targets.facts import Facts
from testbed.targets.held import Held
from testbed.targets.remote import RemoteShell
from testbed.targets.spec import Target

_REMOTE_FOLDER = PurePosixPath("/var/tmp/sentinel")  # noqa: S108 -- survives a reboot; owned by root


def folder_of(target: Target) -> PurePosixPath:
    """The target's folder for the image and the work of a run."""
    if target.folder is not None:
        return PurePosixPath(target.folder)
    return PurePosixPath(settings.state_root() / "target") if target.ssh is None else _REMOTE_FOLDER


def connect(target: Target) -> Shell:
    """Connect to a target, as its user. Raises what `RemoteShell` raises."""
    return LocalShell() if target.ssh is None else RemoteShell(target)


@dataclass
class TargetMachine:
    """A connected target. `shell` is root's, if it can be. A context manager; `lock` makes it ours."""

    target: Target
    shell: Shell
    folder: PurePosixPath
    facts: Facts
    _held: Held | None = None

    @classmethod
    def open(cls, target: Target) -> Self:
        """Connect, and ask for the facts."""
        shell = connect(target)
        folder = folder_of(target)
        facts = all_facts.read(shell, folder)
        if facts.user != 0 and facts.sudo:
            shell = shell.inside(["sudo", "-n"])
        return cls(target, shell, folder, facts)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def lock(self) -> None:
        """Lock the target for this process; see `lock.acquire`."""
        if not self.locked:
            self._held = lock.acquire(self.shell, self.folder)

    @property
    def locked(self) -> bool:
        """Whether this process has the target, and the connection is open."""
        return self._held is not None and self._held.running

    @property
    def two_nodes(self) -> bool:
        """Whether there is slow memory."""
        return len([node for node in self.facts.nodes if node.total]) > 1

    @property
    def cpus(self) -> str:
        """The processors of the fast node, such as 0-23."""
        node = self.facts.node(FAST)
        return "" if node is None else node.cpus

    def close(self) -> None:
        """Give the target back, and close the connection."""
        if self._held is not None:
            self._held.close()
        self.shell.close()
