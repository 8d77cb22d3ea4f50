# SPDX-License-Identifier: Apache-2.0
"""TensorFlow 1.13.1 on python2.7."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.frameworks.interface import Framework
from sentinel.runtime import build as runtime
from testbed.common.cache import Cache
from testbed.common.errors import BuildError

_GUEST = Path(__file__).parent.parent.parent / "sentinel" / "guest"


class TensorFlow(Framework):
    """The stock wheel, extended by the Sentinel runtime."""

    name = "tensorflow"
    version = "1.13.1"
    models_package = "sentinel.guest.models"
    runtime_name = runtime.NAME

    def build_runtime(self, *, cache: Cache) -> Path:
        """Build libsentinel.so against the wheel's headers."""
        return runtime.build(cache=cache)

    def guest_code(self) -> Mapping[str, Path]:
        """The package `guest`."""
        return {"guest": _GUEST}

    def train_command(self, folder: str) -> list[str]:
        """Run guest.train."""
        return ["python2.7", "-B", "-m", "guest.train", folder]

    def script_command(
        self, folder: str, script: str, arguments: Sequence[str], step_ops: Sequence[str]
    ) -> list[str]:
        """Run guest.wrap, with unbuffered output."""
        options = ["--job", folder, *(f"--step-op={name}" for name in step_ops)]
        return ["python2.7", "-u", "-B", "-m", "guest.wrap", *options, script, *arguments]

    def speed_command(self) -> list[str]:
        """Run guest.speed."""
        return ["python2.7", "-B", "-m", "guest.speed"]

    def check_image(self, manifest: Mapping[str, Any]) -> None:
        """Look for the wheel among the image's Python packages."""
        wheel = f"{self.name}-{self.version}-"
        if not any(name.startswith(wheel) for name in manifest.get("python", ())):
            raise BuildError(f"the guest image does not hold {self.name} {self.version}")
