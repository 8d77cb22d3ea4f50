# SPDX-License-Identifier: Apache-2.0
"""Find machines by name, running or ended."""

from __future__ import annotations

from testbed.common import names
from testbed.common.errors import UsageError
from testbed.vm.folder import vms_root
from testbed.vm.handle import Vm


def check_name(name: str, kind: str = "machine") -> None:
    """Raise `UsageError` unless `name` may name a machine or a snapshot."""
    if not names.is_valid(name):
        raise UsageError(
            f"{name!r} is not a valid {kind} name",
            hint="use lower-case letters, digits and dashes, at most 40 characters",
        )


def find(name: str) -> Vm:
    """Return the machine of that name. Raises `UsageError` that lists the existing ones."""
    folder = vms_root() / name
    if not names.is_valid(name) or not (folder / "config.json").exists():
        existing = ", ".join(vm.name for vm in all_vms()) or "none"
        raise UsageError(f"no machine {name!r}; existing machines: {existing}", hint="sentinel vm up")
    return Vm(name, folder)


def find_running(name: str) -> Vm:
    """Return the running machine of that name. Raises `UsageError`."""
    vm = find(name)
    reason = vm.end_reason()
    if reason is not None:
        raise UsageError(
            f"the machine {name!r} is not running: {reason}", hint="sentinel vm up", log=vm.console_path
        )
    return vm


def all_vms() -> list[Vm]:
    """Return every machine that has a folder, by name."""
    return [Vm(p.parent.name, p.parent) for p in sorted(vms_root().glob("*/config.json"))]
