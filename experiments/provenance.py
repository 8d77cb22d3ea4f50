# SPDX-License-Identifier: Apache-2.0
"""How a result was made: everything one needs to make it again, or to doubt it."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

from experiments.boot import Made
from results.records import Provenance, Throttle
from testbed.common import settings
from testbed.common.run import run
from testbed.host import accel
from testbed.host.doctor import host_nodes
from testbed.host.remote_memory import Remote
from testbed.machine import meminfo
from testbed.timing.calibration import Calibration
from testbed.timing.preset import Preset

_ROOT = Path(__file__).parent.parent


def collect(made: Made, *, command: str, calibration: Calibration | None = None) -> Provenance:
    """What all repeats of a run on that machine have in common."""
    return Provenance(
        accelerator=made.boot.accelerator,
        throttle=throttle(made.boot.preset, calibration, made.boot.remote),
        command=command,
        git_commit=git_commit(),
        kernel=_brief(made.kernel.entry.manifest),
        image=_brief(made.image.entry.manifest),
        qemu=accel.qemu_version(settings.QEMU.get()),
        host=host(),
    )


def throttle(
    preset: Preset | None, calibration: Calibration | None = None, far: Remote | None = None
) -> Throttle:
    """How node 1 was made slow: not at all, or by the timing model, and what a guest measured of it."""
    if preset is None and far is not None and calibration is not None:
        return Throttle.model_validate(
            {
                "method": "remote-node",
                "nodes_alike": calibration.nodes_alike,
                "calibrated": True,
                "calibration": calibration.cited(),
                "remote": far.described(),
            }
        )
    if preset is None:
        return Throttle(method="none", nodes_alike=True)
    fast, slow = preset.nodes
    return Throttle.model_validate(
        {
            "method": "timing-plugin",
            "nodes_alike": calibration.nodes_alike if calibration else fast == slow,
            "calibrated": bool(calibration and calibration.figures and calibration.good),
            "calibration": calibration.cited() if calibration else None,
            "preset": preset.model_dump(mode="json"),
        }
    )


def git_commit() -> str | None:
    """The commit of this code, with `+` if it was changed; None outside a git checkout."""
    found = run(["git", "-C", str(_ROOT), "rev-parse", "HEAD"], check=False)
    if found.returncode != 0:
        return None
    changed = run(["git", "-C", str(_ROOT), "status", "--porcelain", "--untracked-files=no"], check=False)
    return found.stdout.strip() + ("+" if changed.stdout.strip() else "")


def host() -> dict[str, Any]:
    """The host's processor, memory and kernel."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")),
        "unknown",
    )
    return {
        "cpu": cpu,
        "cpus": settings.jobs(),
        "memory_bytes": meminfo("MemTotal"),
        "numa_nodes": len(host_nodes()),
        "kernel": platform.release(),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", "unknown"),
    }


def _brief(manifest: dict[str, Any]) -> dict[str, Any]:
    """A manifest without the long lists; the key leads to the rest."""
    return {k: v for k, v in manifest.items() if k not in ("packages", "python", "needs")}
