# SPDX-License-Identifier: Apache-2.0
"""A backend of workers that starts no machine, and does what files in its folder say.

kill     the next training kills its worker
full     the next training finds its disk full
wait     trainings wait until the file is gone
fail-N   every training on node N fails
refuse   trainings end with an error that all would have
"""

from __future__ import annotations

import errno
import os
import signal
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.backend import Callbacks
from testbed.common.errors import UsageError, WorkloadError
from tests.fakes.backend import FakeBackend


class WorkerBackend(FakeBackend):
    """A fake backend in a worker's process."""

    def __init__(self, folder: Path) -> None:
        super().__init__(Path(tempfile.mkdtemp()))
        self._switches = folder

    def train(
        self,
        waiting: Any,
        preset: Any,
        order: dict[str, Any],
        *,
        inputs: Mapping[str, Path],
        callbacks: Callbacks,
    ) -> None:
        (self._switches / f"worker-{os.getpid()}").touch()
        if self._switched("kill"):
            os.kill(os.getpid(), signal.SIGKILL)
        if self._switched("full"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        while (self._switches / "wait").exists():
            time.sleep(0.05)
        if (self._switches / "refuse").exists():
            raise UsageError("no such thing")
        if (self._switches / f"fail-{order['memory']['nodes'][0]}").exists():
            raise WorkloadError("exit 1")
        super().train(waiting, preset, order, inputs=inputs, callbacks=callbacks)

    def _switched(self, name: str) -> bool:
        """Whether this process is the one that does what a file says."""
        try:
            (self._switches / name).unlink()
        except FileNotFoundError:
            return False
        return True
