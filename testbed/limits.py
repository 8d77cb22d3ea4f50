# SPDX-License-Identifier: Apache-2.0
"""Time limits of each phase, scaled to the accelerator."""

from __future__ import annotations

from dataclasses import dataclass

from testbed.common import settings

# Slowdown of guest code against KVM. TCG executes integer code about 10 times slower and emulates vector
# floating point in software; the largest measured factor, importing TensorFlow, is 20.
# On hardware, models of its size are trained: a step may take minutes.
_SLOWDOWN = {"kvm": 1.0, "tcg": 20.0, "hardware": 40.0}


@dataclass(frozen=True)
class Limits:
    """Limits in seconds.

    boot:       from the start of QEMU to the guest's ready line
    connect:    from the ready line or a restore to an SSH session
    command:    a short command in the guest
    silence:    without console output while the guest boots
    prepare:    from the start of a training process to its barrier
    step:       one training step, and between reports of a run
    lost:       from a broken connection to the verdict; the console may show the cause meanwhile
    """

    boot: float = 15.0
    connect: float = 4.0
    command: float = 6.0
    silence: float = 6.0
    prepare: float = 20.0
    step: float = 15.0
    lost: float = 0.5


def scaled(accelerator: str) -> Limits:
    """Return the limits for `kvm`, `tcg` or `hardware`, multiplied by SENTINEL_TIMEOUT_SCALE."""
    factor = _SLOWDOWN[accelerator] * settings.TIMEOUT_SCALE.get_float()
    return Limits(**{name: value * factor for name, value in vars(Limits()).items()})
