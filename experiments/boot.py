# SPDX-License-Identifier: Apache-2.0
"""The artefacts of a machine: kernel, image and accelerator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from images.build import Image
from images.build import build as build_image
from kernel.build import Kernel
from kernel.build import build as build_kernel
from kernel.config import DEFAULT
from testbed.common import settings
from testbed.common.cache import Cache
from testbed.common.progress import warn
from testbed.host import accel, remote_memory
from testbed.machine import Machine
from testbed.timing.preset import Preset
from testbed.vm import Boot


@dataclass(frozen=True)
class Artifacts:
    """The kernel and the image of a machine, and how to boot it.

    `origin` are fields of the provenance that a machine other than this host has.
    """

    kernel: Kernel
    image: Image
    boot: Boot
    origin: Mapping[str, Any] = field(default_factory=dict)


def prepare(
    machine: Machine,
    *,
    preset: Preset | None = None,
    kernel: str = "auto",
    location: str | None = None,
    flavour: tuple[str, ...] = DEFAULT,
    cache: Cache | None = None,
    dry_run: bool = False,
) -> Artifacts:
    """Build the kernel and the image if they are not cached, and choose the accelerator.

    With `dry_run`, print what would be built instead. Raises `BuildError` and what the builders raise.
    """
    cache = cache or Cache()
    built = build_kernel(kernel, location=location, flavour=flavour, cache=cache, dry_run=dry_run)
    image = build_image(cache=cache, dry_run=dry_run)
    accelerator = accel.choose(machine.accelerator, built.bzimage if built.bzimage.exists() else None)
    far_node = None
    if accelerator == "kvm":
        far_node = remote_memory.choose(
            machine, remote_memory.host_nodes(), antagonist=int(settings.ANTAGONIST.get_float())
        )
        if far_node is None and len(machine.nodes) > 1:
            warn("this host has no remote memory for node 1: both nodes are equally fast")
    boot = Boot(
        machine=machine,
        kernel=built.bzimage,
        image=image.disk,
        accelerator=accelerator,
        uses=(built.entry, image.entry),
        preset=preset,
        remote=far_node,
    )
    return Artifacts(built, image, boot)
