# SPDX-License-Identifier: Apache-2.0
"""Everything that `sentinel target check` tells about a target: facts, then what only a trial shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from experiments import target_memory, target_root
from images import build as images
from images import definition
from testbed.common.cache import Cache
from testbed.common.cache_entry import Entry
from testbed.common.errors import SentinelError
from testbed.host.doctor import Check
from testbed.targets import checks
from testbed.targets.machine import TargetMachine


def examine(machine: TargetMachine, *, cache: Cache) -> Iterator[Check]:
    """Yield the checks of a target. Those that need the image are left out until it has been sent.

    Locks the target if the facts allow it, so that the probe disturbs no run. Raises what `lock.acquire`
    raises.
    """
    image = cache.get(images.KIND, definition.default().key)
    sent = image is not None and target_root.has_image(machine, image)
    disk = 0 if image is None else target_root.disk_needed(machine, image)
    found = checks.examine(machine.facts, disk=disk)
    yield from found
    if any(check.state == "fail" for check in found):
        return
    machine.lock()
    if image is not None and sent:
        yield _guarded("pages", lambda name: _pages(name, machine, image))
    else:
        yield Check("image", "ok", "not there yet: the first run sends it")
    if machine.two_nodes:
        yield _guarded("slow memory", lambda name: _slow(name, machine, cache))


def _guarded(name: str, check: Callable[[str], Check]) -> Check:
    try:
        return check(name)
    except SentinelError as e:
        return Check(name, "fail", e.message, e.hint or "")


def _pages(name: str, machine: TargetMachine, image: Entry) -> Check:
    with target_root.entered(machine, image) as (shell, _):
        target_memory.check_permissions(shell, two_nodes=machine.two_nodes)
    return Check(name, "ok", "the image runs, and places and migrates pages")


def _slow(name: str, machine: TargetMachine, cache: Cache) -> Check:
    measured = target_memory.calibrate(
        machine.facts, machine.shell, cache=cache, place=str(machine.folder / target_root.PROBE)
    )
    detail = target_memory.described(measured)
    if target_memory.is_slower(measured):
        return Check(name, "ok", detail)
    return Check(name, "warn", f"{detail}: node 1 is not slower", "a machine whose node 1 is slow memory")
