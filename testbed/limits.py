# SPDX-License-Identifier: Apache-2.0
"""Time limits: how long each phase may take, for the accelerator it runs on."""

from __future__ import annotations

from dataclasses import dataclass

from testbed.common import settings

# How much slower guest code runs than under KVM. TCG does integer code some 10 times slower and emulates
# vector floating point in software; the measured worst (TensorFlow's import) is a factor of 20.
_SLOWNESS = {"kvm": 1.0, "tcg": 20.0}


@dataclass(frozen=True)
class Limits:
    """Seconds.

    boot:       from starting QEMU to the guest's ready line
    connect:    from the ready line (or a restore) to a working SSH session
    command:    a short command of ours in the guest
    silence:    a booting guest that prints nothing is stuck after this
    prepare:    from starting a training process to its barrier (import and graph construction)
    step:       one training step; also bounds how long a run may report nothing
    lost:       how long to wait, after a connection broke, for the console to say why
    """

    boot: float = 15.0
    connect: float = 4.0
    command: float = 6.0
    silence: float = 6.0
    prepare: float = 20.0
    step: float = 15.0
    lost: float = 0.5


def scaled(accelerator: str) -> Limits:
    """The limits for `kvm` or `tcg`, times SENTINEL_TIMEOUT_SCALE."""
    factor = _SLOWNESS[accelerator] * settings.TIMEOUT_SCALE.get_float()
    base = Limits()
    return Limits(**{name: value * factor for name, value in vars(base).items()})
