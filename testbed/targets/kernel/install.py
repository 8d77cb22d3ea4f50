# SPDX-License-Identifier: Apache-2.0
"""Install a kernel on a target, beside its own, and remove it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from testbed.common import files
from testbed.common.errors import LostConnectionError, SentinelError, UsageError
from testbed.common.progress import note, step, warn
from testbed.targets import checks as target_checks
from testbed.targets.kernel import checks, cmdline, menu, own
from testbed.targets.kernel import state as states
from testbed.targets.kernel.hands import Hands
from testbed.targets.kernel.own import OwnKernel
from testbed.targets.kernel.places import Places
from testbed.targets.kernel.state import BootState
from testbed.targets.machine import TargetMachine

_AGAIN = "install again, or remove it: sentinel target remove-kernel"
# $1: the folder of a kernel, $2: the place of its configuration
_PLACE_CONFIG = """
new=$(dirname "$2")/.$(basename "$2").new
cp "$1/config" "$new"
mv -fT "$new" "$2"
"""
# $1: where the modules were copied to, $2: their place, $3: the release
_PLACE_MODULES = 'mv -T "$1" "$2"; depmod "$3"'
# $1: the folder of a kernel, $2: its release. gzip is what every kernel and every mkinitramfs knows.
_INITRAMFS = """
mkinitramfs -c gzip -o "$1/initrd.img.new" "$2"
[ -s "$1/initrd.img.new" ] || { echo "mkinitramfs wrote nothing" >&2; exit 1; }
sync "$1/initrd.img.new"
mv -fT "$1/initrd.img.new" "$1/initrd.img"
"""
# $1: the folder of a kernel, $2: its configuration, $3: its modules. The folder's name is the last to go.
_DISCARD = """
rm -f "$1/cmdline"
for path in "$2" "$3"; do rm -rf "$path" "$(dirname "$path")/.$(basename "$path").new"; done
rm -rf "$1"
"""
# $1: the folder of all kernels; $2: the list of what was made, $3: GRUB's variables
_SWEEP = """
[ -d "$1" ] || exit 0
if [ -e "$2" ]; then
  while read -r path; do
    if [ -d "$path" ]; then rmdir --ignore-fail-on-non-empty "$path"
    elif [ "$path" = "$3" ] && [ -e "$3" ] && [ -z "$(grub-editenv "$3" list)" ]; then rm -f "$3"
    fi
  done <"$2"
fi
rm -f "$2"
rmdir "$1"
"""


@dataclass(frozen=True)
class Parcel:
    """A kernel to install. `own` is what it was made of, if that came from the target."""

    release: str
    bzimage: Path
    config: Path
    modules: Path | None = None
    own: OwnKernel | None = None

    @property
    def kernel_bytes(self) -> int:
        """Bytes in /boot, without the initramfs."""
        return self.bzimage.stat().st_size + 3 * self.config.stat().st_size

    @property
    def modules_bytes(self) -> int:
        """Bytes in /lib/modules."""
        return 0 if self.modules is None else files.disk_usage(self.modules)


def install(machine: TargetMachine, parcel: Parcel, *, default: bool, places: Places | None = None) -> bool:
    """Install a kernel, and add a boot entry, which is the default one only with `default`.

    Replaces kernels of ours that do not run. Returns False if everything was there already. On a failure, or
    if it is interrupted, the target is as before, unless the connection was lost. The caller has the lock.
    Raises `InfrastructureError` if the target is unfit, or a step fails.
    """
    places = places or Places()
    hands = Hands(machine)
    state = states.read(machine.shell, places)
    target_checks.ensure(hands.place, checks.basic(state))
    release = parcel.release
    chosen = release if default else ""
    others = {*state.installed, *state.partial} - {release}
    outdated = others - {state.release}
    complete = release in state.installed
    if not complete:
        space = checks.space(state, kernel=parcel.kernel_bytes, modules=parcel.modules_bytes)
        target_checks.ensure(hands.place, space)
    if complete and release in state.entries and state.default == chosen and not outdated:
        return False
    try:
        if not complete:
            _add(hands, places, parcel, state)
        with step(f"Adding {release} to GRUB's menu"):
            menu.show(hands, places, default=chosen)
    except LostConnectionError as e:
        e.hint = _AGAIN
        raise
    except (SentinelError, KeyboardInterrupt):
        _undo(hands, places, state, set() if complete else {release})
        raise
    if outdated:
        with step(f"Removing {', '.join(sorted(outdated))}"):
            _discard(hands, places, outdated)
            menu.show(hands, places, default=chosen)
    if kept := others - outdated:
        note(f"{', '.join(sorted(kept))} stays: it runs")
    return True


def remove(machine: TargetMachine, *, places: Places | None = None) -> list[str]:
    """Remove every kernel of ours with all that belongs to it; return their releases.

    What an interrupted command has left goes, too. The caller has the lock. Raises `UsageError` if one of the
    kernels runs, `InfrastructureError` if a step fails.
    """
    places = places or Places()
    state = states.read(machine.shell, places)
    if state.running:
        command = "grub-reboot 0 && reboot" if state.default == state.release else "reboot"
        raise UsageError(
            f"{machine.shell.place} runs {state.release}",
            hint=f"boot its own kernel first, then repeat this command: {command}",
        )
    if state.traces:
        with step(f"Removing kernels from {machine.shell.place}"):
            _remove_all(Hands(machine), places, state)
    return sorted({*state.installed, *state.partial})


def _add(hands: Hands, places: Places, parcel: Parcel, state: BootState) -> None:
    """Put all files of a kernel into place; `cmdline` comes last."""
    release, folder = parcel.release, places.kernel(parcel.release)
    modules = places.modules(release)
    with step(f"Copying {release} to {hands.place}"):
        _discard(hands, places, {release} & {*state.partial})
        with tempfile.TemporaryDirectory(prefix="sentinel-kernel-") as staged:
            _stage(parcel, Path(staged))
            hands.copy("copy the kernel", Path(staged), folder)  # creates the folder
        hands.run("copy the configuration", _PLACE_CONFIG, folder, places.config(release))
        if parcel.modules is not None:
            new = str(Path(modules).with_name(f".{release}.new"))
            hands.copy("copy the modules", parcel.modules, new)
            hands.run("install the modules", _PLACE_MODULES, new, modules, release)
    with step(f"Making an initramfs on {hands.place}"):
        hands.run("make an initramfs", _INITRAMFS, folder, release)
    hands.write("complete the kernel", f"{folder}/cmdline", cmdline.for_entry(state.cmdline) + "\n")


def _stage(parcel: Parcel, folder: Path) -> None:
    """Put the files of a kernel's folder on the target into a folder here."""
    shutil.copyfile(parcel.bzimage, folder / "vmlinuz")
    shutil.copyfile(parcel.config, folder / "config")
    if parcel.own is not None:
        (folder / own.CONFIG).write_text(parcel.own.config)
        (folder / own.MODULES).write_text("".join(f"{name}\n" for name in sorted(parcel.own.modules)))


def _undo(hands: Hands, places: Places, before: BootState, added: set[str]) -> None:
    """Bring the target back to what it was, as far as it lets that happen."""
    try:
        with step(f"Restoring {hands.place}"):
            if before.installed:
                _discard(hands, places, added)
                menu.show(hands, places, default=before.default)
            else:
                _remove_all(hands, places, before, added)
    except SentinelError as e:
        warn(f"{e.message}; {_AGAIN}")


def _remove_all(hands: Hands, places: Places, state: BootState, more: Iterable[str] = ()) -> None:
    menu.hide(hands, places)
    _discard(hands, places, {*state.installed, *state.partial, *more})
    hands.run("remove the folder in /boot", _SWEEP, places.kernels, places.made, places.environment)


def _discard(hands: Hands, places: Places, releases: set[str]) -> None:
    for release in sorted(releases):
        words = places.kernel(release), places.config(release), places.modules(release)
        hands.run(f"remove {release}", _DISCARD, *words)
