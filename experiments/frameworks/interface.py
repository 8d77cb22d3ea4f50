# SPDX-License-Identifier: Apache-2.0
"""What a framework provides."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from testbed.common.cache import Cache


class Framework(ABC):
    """A deep-learning framework in the guest.

    `name` and `version` are for messages and records.
    """

    name: str
    version: str

    @property
    @abstractmethod
    def models_package(self) -> str:
        """The Python package with one module for each model; importable on the host."""

    @property
    @abstractmethod
    def runtime_name(self) -> str:
        """The file name of the runtime library in the guest."""

    @abstractmethod
    def build_runtime(self, *, cache: Cache) -> Path:
        """Build the runtime library on the host if it is not cached. Raises `BuildError`."""

    @abstractmethod
    def guest_code(self) -> Mapping[str, Path]:
        """The files and folders that the guest needs, by their name in /opt/sentinel."""

    @abstractmethod
    def train_command(self, folder: str) -> list[str]:
        """The command that trains a model and meets the host in `folder`.

        sentinel/guest/job.py describes the protocol.
        """

    @abstractmethod
    def script_command(
        self, folder: str, script: str, arguments: Sequence[str], step_ops: Sequence[str]
    ) -> list[str]:
        """The command that runs a user's script and meets the host in `folder`.

        Runs of `step_ops` are its training steps; without any, the guest finds them.
        """

    @abstractmethod
    def speed_command(self) -> list[str]:
        """The command that prints the processor's speed: float32 operations per ns of one core."""

    @abstractmethod
    def check_image(self, manifest: Mapping[str, Any]) -> None:
        """Raise `BuildError` if the guest image with this manifest lacks the framework."""
