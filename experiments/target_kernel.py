# SPDX-License-Identifier: Apache-2.0
"""Kernels with the page-access profiler for real machines: built here, of their own configurations."""

from __future__ import annotations

from typing import Literal

from kernel.build import Kernel, build
from kernel.machine_config import MachineConfig, Variant
from testbed.common.cache import Cache
from testbed.targets import checks as target_checks
from testbed.targets.kernel import checks, install, own
from testbed.targets.kernel import state as states
from testbed.targets.kernel.install import Parcel
from testbed.targets.kernel.own import OwnKernel
from testbed.targets.kernel.places import Places
from testbed.targets.machine import TargetMachine

Base = Literal["target", "guest"]  # what a kernel's configuration begins with
_NAME = "sentinel"  # in the release
_FRAGMENTS = ("target", "profile")  # on top of the machine's own configuration


def build_for(
    machine: TargetMachine,
    *,
    base: Base,
    source: str = "auto",
    location: str | None = None,
    cache: Cache | None = None,
    places: Places | None = None,
) -> Parcel:
    """Build a kernel for a target: of its own configuration, or the guest's (`base`).

    Raises what `kernel.build.build` and `own.read` raise.
    """
    places = places or Places()
    if base == "guest":
        built = build(source, location=location, variant=Variant(_NAME), cache=cache)
        return _parcel(built, None)
    its_own = own.read(machine.shell, states.read(machine.shell, places), places)
    variant = Variant(_NAME, MachineConfig(its_own.config, its_own.modules))
    built = build(source, location=location, flavour=_FRAGMENTS, variant=variant, cache=cache)
    return _parcel(built, its_own)


def install_on(
    machine: TargetMachine,
    *,
    base: Base,
    default: bool = False,
    once: bool = False,
    source: str = "auto",
    location: str | None = None,
    cache: Cache | None = None,
    places: Places | None = None,
) -> tuple[str, bool]:
    """Build and install a kernel; return its release, and whether anything was to be done.

    Locks and checks the target before the build; `once`: also for `reboot.boot_once`. Raises what `build_for`
    and `install.install` raise, and `InfrastructureError` if the target is unfit.
    """
    places = places or Places()
    target_checks.ensure(machine.shell.place, target_checks.basic(machine.facts))
    machine.lock()
    state = states.read(machine.shell, places)
    target_checks.ensure(machine.shell.place, [*checks.basic(state), *(checks.once(state) if once else ())])
    parcel = build_for(machine, base=base, source=source, location=location, cache=cache, places=places)
    return parcel.release, install.install(machine, parcel, default=default, places=places)


def remove_from(machine: TargetMachine, *, places: Places | None = None) -> list[str]:
    """Remove all our kernels from a target; return their releases. Raises what `install.remove` raises."""
    target_checks.ensure(machine.shell.place, target_checks.basic(machine.facts))
    machine.lock()
    return install.remove(machine, places=places)


def _parcel(built: Kernel, its_own: OwnKernel | None) -> Parcel:
    return Parcel(built.release, built.bzimage, built.config, built.modules, its_own)
