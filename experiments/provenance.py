# SPDX-License-Identifier: Apache-2.0
"""The provenance of a result: everything needed to reproduce it."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

from experiments.boot import Artifacts
from results.records import Provenance, Throttle
from testbed.common import settings
from testbed.common.revision import revision
from testbed.host import accel, memory
from testbed.host.remote_memory import RemoteMemory
from testbed.timing.calibration import Calibration
from testbed.timing.preset import Preset


def collect(artifacts: Artifacts, *, command: str, calibration: Calibration | None = None) -> Provenance:
    """The part that all repeats of a run share."""
    boot = artifacts.boot
    fields = {
        "accelerator": boot.accelerator,
        "throttle": throttle(boot.preset, calibration, boot.remote),
        "command": command,
        "git_commit": revision(digits=40),
        "kernel": _summary(artifacts.kernel.entry.manifest),
        "image": _summary(artifacts.image.entry.manifest),
        "qemu": None if boot.accelerator == "hardware" else accel.qemu_version(settings.QEMU.get()),
        "host": host(),
    }
    return Provenance.model_validate({**fields, **artifacts.origin})


def throttle(
    preset: Preset | None, calibration: Calibration | None = None, far_node: RemoteMemory | None = None
) -> Throttle:
    """How node 1 is slowed down, if at all, and what a guest measured."""
    if preset is None and calibration is not None:
        return Throttle.model_validate(
            {
                "method": "remote-node" if far_node is not None else "hardware",
                "nodes_alike": calibration.nodes_alike,
                "calibrated": True,
                "calibration": calibration.to_record(),
                **({} if far_node is None else {"remote": far_node.to_json()}),
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
            "calibration": calibration.to_record() if calibration else None,
            "preset": preset.model_dump(mode="json"),
        }
    )


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
        "memory_bytes": memory.total(),
        "numa_nodes": len(memory.node_numbers()),
        "kernel": platform.release(),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", "unknown"),
    }


def _summary(manifest: dict[str, Any]) -> dict[str, Any]:
    """A manifest without its long lists; its key identifies the rest."""
    return {k: v for k, v in manifest.items() if k not in ("packages", "python", "needs")}
