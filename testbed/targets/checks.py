# SPDX-License-Identifier: Apache-2.0
"""Checks of a target before anything is sent or started. Pure functions of its facts."""

from __future__ import annotations

from collections.abc import Sequence

from testbed.common.errors import InfrastructureError
from testbed.host.doctor import Check
from testbed.targets.facts import PROGRAMS, Facts

FAST, SLOW = 0, 1  # nodes, as in the runtime
MIN_MEMORY = 2 << 30  # bytes that TensorFlow and the smallest models need
_GIB = 1 << 30


def examine(facts: Facts, *, disk: int = 0, budget: int = 0) -> list[Check]:
    """Check a target that has to store `disk` more bytes. `budget`: the largest one of a suite, in bytes."""
    return [
        *basic(facts),
        _file_systems(facts),
        _nodes(facts),
        _memory(facts, budget),
        _disk(facts, disk),
        _page_profile(facts),
    ]


def basic(facts: Facts) -> list[Check]:
    """The checks without which a target cannot even be locked."""
    return [_system(facts), _root(facts), _programs(facts)]


def ensure(place: str, checks: Sequence[Check]) -> None:
    """Raise `InfrastructureError` for the first check that failed."""
    for check in checks:
        if check.state == "fail":
            raise InfrastructureError(f"{place}: {check.name}: {check.detail}", hint=check.fix or None)


def _system(facts: Facts) -> Check:
    detail = f"{facts.system} {facts.release}, {facts.processor}, {facts.os or 'unknown distribution'}"
    if (facts.system, facts.processor) != ("Linux", "x86_64"):
        return Check("system", "fail", detail, "the image and the runtime are for Linux on x86-64")
    return Check("system", "ok", detail)


def _root(facts: Facts) -> Check:
    if facts.user == 0:
        return Check("permissions", "ok", "root")
    if facts.sudo:
        return Check("permissions", "ok", "sudo without a password")
    fix = "log in as root, or let the user run sudo without a password"
    return Check("permissions", "fail", "neither root nor sudo: the image cannot be mounted", fix)


def _programs(facts: Facts) -> Check:
    if not facts.missing:
        return Check("programs", "ok", ", ".join(PROGRAMS))
    packages = sorted({PROGRAMS[name] for name in facts.missing if name in PROGRAMS})
    return Check(
        "programs", "fail", f"missing: {', '.join(facts.missing)}", f"apt-get install {' '.join(packages)}"
    )


def _file_systems(facts: Facts) -> Check:
    missing = [
        name for name, there in (("overlay", facts.overlay), ("loop devices", facts.loop)) if not there
    ]
    if missing:
        fix = "a kernel with CONFIG_OVERLAY_FS and CONFIG_BLK_DEV_LOOP; containers lack loop devices"
        return Check("file systems", "fail", f"the kernel has no {' and no '.join(missing)}", fix)
    return Check("file systems", "ok", "overlay, loop devices")


def _nodes(facts: Facts) -> Check:
    sizes = ", ".join(f"node {n.number}: {n.total / _GIB:.1f} GiB" for n in facts.nodes if n.total)
    fast, slow = facts.node(FAST), facts.node(SLOW)
    if fast is None:
        return Check("nodes", "fail", f"no memory on node {FAST} ({sizes or 'no nodes'})", "numactl -H")
    if slow is None:
        detail = f"{sizes}; no node {SLOW}: functional only, without slow memory"
        return Check("nodes", "warn", detail, "a machine with two memory nodes")
    if not fast.cpus:
        return Check("nodes", "fail", f"node {FAST} has no CPUs", "swap the nodes in the firmware's settings")
    return Check("nodes", "ok", sizes)


def _memory(facts: Facts, budget: int) -> Check:
    fast, slow = facts.node(FAST), facts.node(SLOW)
    detail = f"{facts.available / _GIB:.1f} GiB available"
    if facts.available < MIN_MEMORY:
        return Check("memory", "fail", f"{detail}; TensorFlow needs {MIN_MEMORY >> 30}", "end other programs")
    if fast is not None and slow is not None and fast.free < budget:
        detail = f"node {FAST} has {fast.free / _GIB:.1f} GiB free; the budget is {budget / _GIB:.1f} GiB"
        return Check("memory", "fail", detail, "end other programs, or echo 1 >/proc/sys/vm/drop_caches")
    return Check("memory", "ok", detail)


def _disk(facts: Facts, needed: int) -> Check:
    detail = f"{facts.disk / _GIB:.1f} GiB free for the folder"
    if facts.disk < needed:
        return Check("disk", "fail", f"{detail}; needs {needed / _GIB:.1f}", "another `folder`")
    return Check("disk", "ok", detail)


def _page_profile(facts: Facts) -> Check:
    if facts.page_profile:
        return Check("page profiler", "ok", "/dev/page_profile")
    detail = "none in this kernel; only a profile of single pages needs one (sentinel target install-kernel)"
    return Check("page profiler", "ok", detail)
