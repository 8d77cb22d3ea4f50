# SPDX-License-Identifier: Apache-2.0
"""From a machine spec to something that can be started: kernel, image and accelerator."""

from __future__ import annotations

from dataclasses import dataclass

from images.build import Image
from images.build import build as build_image
from kernel.build import Kernel
from kernel.build import build as build_kernel
from kernel.config import DEFAULT
from testbed import accel
from testbed.common.cache import Cache
from testbed.machine import Machine
from testbed.preset import Preset
from testbed.vm import Boot


@dataclass(frozen=True)
class Made:
    """The artefacts of a machine and what to start."""

    kernel: Kernel
    image: Image
    boot: Boot


def make(
    machine: Machine,
    *,
    preset: Preset | None = None,
    kernel: str = "auto",
    location: str | None = None,
    flavour: tuple[str, ...] = DEFAULT,
    cache: Cache | None = None,
    dry_run: bool = False,
) -> Made:
    """Build what is missing (with `dry_run`: say what would be) and choose the accelerator."""
    cache = cache or Cache()
    built = build_kernel(kernel, location=location, flavour=flavour, cache=cache, dry_run=dry_run)
    image = build_image(cache=cache, dry_run=dry_run)
    accelerator = accel.choose(machine.accelerator, built.bzimage if built.bzimage.exists() else None)
    boot = Boot(
        machine=machine,
        kernel=built.bzimage,
        image=image.disk,
        accelerator=accelerator,
        uses=(built.entry, image.entry),
        preset=preset,
    )
    return Made(built, image, boot)
