# SPDX-License-Identifier: Apache-2.0
"""The configuration of a target's own kernel, and the modules that it uses."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from testbed.common.errors import InfrastructureError, UsageError
from testbed.guestlink.shell import Shell
from testbed.targets.kernel.places import Places
from testbed.targets.kernel.state import BootState

CONFIG, MODULES = "own.config", "own.modules"  # in the folder of a kernel that was made of these
_CONFIG = 'cat "$1/boot/config-$(uname -r)" 2>/dev/null || zcat "$1/proc/config.gz" 2>/dev/null'
_MODULES = "awk '{ print $1 }' \"$1/proc/modules\""
_WITHIN = 60.0


@dataclass(frozen=True)
class OwnKernel:
    """The text of a .config, and names of loaded modules."""

    config: str
    modules: frozenset[str]


def running_config(shell: Shell, *, places: Places | None = None) -> str:
    """Return the configuration of the kernel that runs; empty if the target does not have it."""
    return _read(shell, _CONFIG, (places or Places()).root)


def read(shell: Shell, state: BootState, places: Places) -> OwnKernel:
    """Return what a kernel for this target begins with.

    While a kernel of ours runs, that is what it was made of. Raises `InfrastructureError` if the target does
    not have its configuration, `UsageError` if a guest's kernel runs, which says nothing about the machine.
    """
    if state.running:
        folder = places.kernel(state.release)
        text = _read(shell, f'cat "$1/{CONFIG}"', folder)
        modules = _read(shell, f'cat "$1/{MODULES}"', folder)
        if not text:
            raise UsageError(
                f"{shell.place} runs {state.release}, which was not made of the machine's configuration",
                hint="reboot into the machine's own kernel first, or --config guest",
            )
    else:
        text, modules = running_config(shell, places=places), _read(shell, _MODULES, places.root)
    if "CONFIG_" not in text:
        raise InfrastructureError(
            f"{shell.place} has neither /boot/config-{state.release} nor /proc/config.gz",
            hint="modprobe configs; or --config guest, for a virtual machine",
        )
    return OwnKernel(text, frozenset(modules.split()))


def _read(shell: Shell, script: str, argument: str) -> str:
    return shell.run(shlex.join(["sh", "-c", script, "sh", argument]), check=False, timeout=_WITHIN).out
