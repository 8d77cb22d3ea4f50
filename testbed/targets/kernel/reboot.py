# SPDX-License-Identifier: Apache-2.0
"""Boot a target once into an installed kernel, and wait until it is back."""

from __future__ import annotations

import contextlib
import time

from testbed.common import settings
from testbed.common.errors import InfrastructureError, SentinelError, UsageError
from testbed.common.progress import step
from testbed.guestlink.shell import Shell
from testbed.targets import checks as target_checks
from testbed.targets.kernel import checks
from testbed.targets.kernel import state as states
from testbed.targets.kernel.hands import Hands
from testbed.targets.kernel.places import Places, entry_id
from testbed.targets.machine import TargetMachine, connect
from testbed.targets.spec import Target

_BACK_WITHIN = 1200.0  # seconds: servers test their memory
_PAUSE = 5.0  # seconds between two tries
_BOOT_ID = "cat {}/proc/sys/kernel/random/boot_id; uname -r"
# $1: GRUB's variables, $2: the list of what was made, $3: the entry. The reboot comes when this has returned.
_REBOOT = """
[ -e "$1" ] || echo "$1" >>"$2"
grub-reboot "$3"
reboot='sleep 2; if command -v systemctl >/dev/null; then systemctl reboot; else reboot; fi'
nohup setsid sh -c "$reboot" </dev/null >/dev/null 2>&1 8>&- &
"""


def boot_once(machine: TargetMachine, release: str, *, places: Places | None = None) -> None:
    """Reboot a target into the kernel `release`, for this one boot, and wait for it. Closes `machine`.

    Raises `UsageError` for this host; `InfrastructureError` if GRUB could not forget the entry, or if the
    target does not come back, or with another kernel.
    """
    places = places or Places()
    place = machine.shell.place
    refuse_this_host(machine.target)
    hands = Hands(machine)
    state = states.read(machine.shell, places)
    target_checks.ensure(place, checks.once(state))
    words = places.environment, places.made, entry_id(release)
    hands.run("boot the kernel once", _REBOOT, *words)
    machine.close()
    running = wait(machine.target, place, state.boot_id, places)
    if running != release:
        raise InfrastructureError(
            f"{place} is back with Linux {running}: {release} did not come up",
            hint="its console says why; `sentinel target install-kernel --reboot` tries again",
        )


def refuse_this_host(target: Target) -> None:
    """Raise `UsageError` for a target whose reboot would end this process."""
    if target.ssh is None:
        raise UsageError(
            "a reboot of this host would end this command",
            hint="without --reboot; it says how to boot the kernel once",
        )


def wait(target: Target, place: str, boot_id: str, places: Places) -> str:
    """Wait until the target has rebooted, and return the release that it runs.

    `boot_id` is that of the boot before. Raises `InfrastructureError` after 20 minutes.
    """
    within = _BACK_WITHIN * settings.TIMEOUT_SCALE.get_float()
    started = time.monotonic()
    problem = "no answer"
    with step(f"Waiting for {place} to reboot") as shown:
        while (elapsed := time.monotonic() - started) < within:
            shown.update(elapsed / within, f"{elapsed:.0f} of at most {within:.0f} s: {problem}")
            time.sleep(_PAUSE)
            try:
                with contextlib.closing(connect(target)) as shell:
                    found, release = _identity(shell, places)
            except SentinelError as e:  # even a refused key: what answers now may be an initramfs
                problem = e.message
                continue
            if found != boot_id:
                return release
            problem = "it has not gone down yet"
    raise InfrastructureError(
        f"{place} did not come back within {within:.0f} s: {problem}",
        hint="its console says why; after a power cycle it boots its default kernel",
    )


def _identity(shell: Shell, places: Places) -> tuple[str, str]:
    lines = shell.run(_BOOT_ID.format(places.root), timeout=30).out.split()
    if len(lines) != 2:
        raise InfrastructureError("it is not ready")
    return lines[0], lines[1]
