# SPDX-License-Identifier: Apache-2.0
"""What records say about a real machine: its kernel, its processor and memory, which one it is."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from kernel.build import Kernel
from testbed.common import files
from testbed.common.cache_entry import Entry
from testbed.targets.kernel import own
from testbed.targets.machine import TargetMachine


def kernel(machine: TargetMachine, folder: Path) -> Kernel:
    """The target's own kernel. Its configuration, if the target has it, is copied into `folder`."""
    facts = machine.facts
    config = folder / "config"
    config.write_text(own.running_config(machine.shell))
    key = files.sha256_json([facts.release, facts.version])
    manifest = {"key": key, "version": facts.release, "release": facts.release, "build": facts.version}
    path = Path(f"/boot/vmlinuz-{facts.release}")
    return Kernel(path, config, facts.release, facts.release, Entry("kernel", key, Path(), manifest))


def host(machine: TargetMachine) -> dict[str, Any]:
    """The provenance's `host`: the machine that trains."""
    facts = machine.facts
    return {
        "cpu": facts.cpu or "unknown",
        "cpus": facts.cpus,
        "memory_bytes": sum(node.total for node in facts.nodes),
        "numa_nodes": len([node for node in facts.nodes if node.total]),
        "kernel": facts.release,
        "system": facts.os or "unknown",
    }


def target(machine: TargetMachine) -> dict[str, Any]:
    """The provenance's `target`: which machine, and its nodes."""
    facts = machine.facts
    return {
        "name": machine.target.name,
        "machine_id": files.sha256_json([facts.id])[:16],  # machine-id(5) asks not to publish the id itself
        "page_profile": facts.page_profile,
        "nodes": [dataclasses.asdict(node) for node in facts.nodes],
    }
