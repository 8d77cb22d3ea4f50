# SPDX-License-Identifier: Apache-2.0
"""All settings: environment variable, default and help."""

from __future__ import annotations

import math
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from testbed.common import cgroup
from testbed.common.errors import UsageError


@dataclass(frozen=True)
class Setting:
    """An environment variable that the project reads."""

    env: str
    default: str
    help: str

    def get(self) -> str:
        return os.environ.get(self.env) or self.default

    def get_float(self) -> float:
        """Return the value as a number from 0 to a million. Raises `UsageError` for anything else."""
        try:
            number = float(self.get())
        except ValueError:
            raise UsageError(f"{self.env}={self.get()!r} is not a number") from None
        if not 0 <= number <= 1e6:
            raise UsageError(f"{self.env}={self.get()!r} must be from 0 to 1000000")
        return number


def _home(variable: str, fallback: str) -> str:
    return os.environ.get(variable) or str(Path.home() / fallback)


CACHE = Setting(
    "SENTINEL_CACHE", "", "artefacts: kernels, images, snapshots (default: $XDG_CACHE_HOME/sentinel)"
)
STATE = Setting("SENTINEL_STATE", "", "machines and their keys (default: $XDG_STATE_HOME/sentinel)")
LINUX_4_9 = Setting("SENTINEL_LINUX_4_9", "", "a Linux 4.9 tree, tarball, or REPOSITORY@COMMIT")
LINUX_6_1 = Setting("SENTINEL_LINUX_6_1", "", "a Linux 6.1 tree, tarball, or REPOSITORY@COMMIT")
MIRROR = Setting("MIRROR", "", "Debian mirror for the guest image (default: mmdebstrap's own)")
QEMU = Setting("SENTINEL_QEMU", "qemu-system-x86_64", "the QEMU binary")
LIBVIRT_URI = Setting("SENTINEL_LIBVIRT_URI", "embed", "libvirt connection: embed, or any libvirt URI")
ANTAGONIST = Setting("SENTINEL_ANTAGONIST", "0", "under KVM: number of host CPUs that load the slow node")
STORE = Setting("SENTINEL_STORE", "baselines", "results to compare with, their history, and repeatability")
TIMEOUT_SCALE = Setting("SENTINEL_TIMEOUT_SCALE", "1", "factor for all time limits, for slow hosts")

ALL = (CACHE, STATE, LINUX_4_9, LINUX_6_1, MIRROR, QEMU, LIBVIRT_URI, ANTAGONIST, STORE, TIMEOUT_SCALE)


def cache_root() -> Path:
    """Return the folder of cached artefacts."""
    return _folder(CACHE, CACHE.get() or _home("XDG_CACHE_HOME", ".cache") + "/sentinel")


def state_root() -> Path:
    """Return the folder of running machines and their keys."""
    return _folder(STATE, STATE.get() or _home("XDG_STATE_HOME", ".local/state") + "/sentinel")


def _folder(setting: Setting, name: str) -> Path:
    """Return the folder that a setting names; it may not exist yet."""
    path = Path(name).absolute()
    hint = f"{setting.env}=/another/folder"
    try:
        if not stat.S_ISDIR(path.stat().st_mode):
            raise UsageError(f"{setting.env}={path}: is not a folder", hint=hint)
    except FileNotFoundError:
        pass
    except OSError as e:
        raise UsageError(f"{setting.env}={path}: {e.strerror}", hint=hint) from None
    return path


def jobs() -> int:
    """Return the number of concurrent compile jobs: allowed CPUs, within the CPU quota."""
    allowed, quota = len(os.sched_getaffinity(0)), cgroup.cpus()
    return allowed if quota is None else max(1, min(allowed, math.ceil(quota)))
