# SPDX-License-Identifier: Apache-2.0
"""Runs of a small suite on a backend that starts no machine."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from experiments import matrix, runner
from experiments.resuming import Which
from experiments.runner import Outcome
from results.runs import Run
from tests.fakes.backend import FakeBackend

SUITE = """\
name: smoke
models:
  - { name: cnn }
  - { name: resnet20 }
placements: [fast-only, slow-only]
steps: 2
warmup: 1
repeats: 3
order_seed: null
kernel: "4.9"
"""


class Lab:
    """Runs suites in one folder on a fake backend."""

    def __init__(self, folder: Path, backend_folder: Path | None = None) -> None:
        self.folder = folder
        self.out = folder / "run"
        folder.mkdir(exist_ok=True)
        self.backend = FakeBackend(backend_folder or folder)

    def run(
        self,
        text: str = SUITE,
        on_output: Callable[[bytes], None] | None = None,
        only: Collection[str] = (),
        command_of: Callable[[matrix.Cell], str] | None = None,
        which: Which = "missing",
    ) -> Outcome:
        path = self.folder / "suite.yaml"
        path.write_text(text)
        command = "sentinel run suite.yaml"
        cells = matrix.load(path)
        return runner.run(
            cells,
            self.out,
            command=command,
            command_of=command_of,
            only=only,
            which=which,
            backend=self.backend,
            on_output=on_output,
        )

    def stored(self) -> Run:
        run = Run.load(self.out)
        assert run.warnings == []
        return run

    def nodes(self) -> list[int]:
        """The node of each training so far."""
        return [order["memory"]["nodes"][0] for order in self.backend.orders]
