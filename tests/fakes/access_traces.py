# SPDX-License-Identifier: Apache-2.0
"""Traces of recorded steps, made by hand."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np

from sentinel.planner.formats import profile_json
from sentinel.replay import trace
from sentinel.replay.trace import LINES, PAGE

READ, WRITE, EVENT, TIME = range(4)
POOL = 0x7F0000000000  # address of the runtime's pool
HEAP = 0x1000000
PAGES = 512  # of each tensor: 2 MiB, twice the cache


class Recording:
    """Makes the files of a recorded step with two operations, `a` and `b`.

    Tensor `t` is born in `a`, written and read there, read in `b`, and dies. `b` reads the variable `w`.
    """

    def __init__(self) -> None:
        self.words: list[int] = []
        self.variable, self.tensor = POOL, POOL + PAGES * PAGE

    def add(
        self, kind: int, address: int = 0, *, node: int = 0, instructions: int = 0, source: int = 0
    ) -> None:
        line = address // 64 & 2**42 - 1
        self.words.append(line | node << 42 | instructions << 43 | source << 52 | kind << 62)

    def stream(self, kind: int, start: int, node: int = 1) -> None:
        for line in range(PAGES * LINES):
            self.add(kind, start + 64 * line, node=node)

    def step(self) -> None:
        self.add(TIME, 1000 * 64)
        self.add(READ, HEAP)
        self.add(EVENT)  # a
        self.add(EVENT)  # t is born
        self.stream(WRITE, self.tensor)
        self.stream(READ, self.tensor)
        self.add(EVENT)  # b
        self.stream(READ, self.variable)
        self.stream(READ, self.tensor)
        self.add(EVENT)  # t dies

    def profile(self) -> dict[str, Any]:
        names = ["a", "b"]
        size = PAGES * PAGE
        return {
            "format": "sentinel-profile",
            "version": 1,
            "graph": profile_json.digest(names),
            "page": PAGE,
            "counts": "ops",
            "clock": "model",
            "threads": {"inter_op": 1, "intra_op": 1},
            "step_ns": 400_000,
            "profiled_step_ns": 400_000,
            "ops": {
                "name": names,
                "type": ["A", "B"],
                "layer": [0, 1],
                "occurrence": [0, 0],
                "begin_ns": [0, 200_000],
                "end_ns": [200_000, 400_000],
            },
            "tensors": [
                {"op": 0, "k": 0, "size": size, "birth": 0, "death": 2, "thread": 0, "kind": "tensor"}
                | {"reads": 2 * PAGES, "writes": PAGES, "touched": size, "uses": [[0, 1, 1], [1, 1, 0]]},
                {"op": -1, "k": 0, "size": size, "birth": -1, "death": 2, "thread": 0, "kind": "variable"}
                | {"reads": PAGES, "writes": 0, "touched": size, "uses": [[1, 1, 0]], "name": "w"},
            ],
            "trace": {
                "ops": {"name": names, "occurrence": [0, 0], "event": [11, 13]},
                "tensors": [
                    {"op": 0, "k": 0, "size": size, "born": 12, "died": 14, "address": self.tensor},
                    {"op": -1, "k": 0, "size": size, "born": 0, "died": 0, "address": self.variable}
                    | {"name": "w"},
                ],
                "resident": [[POOL, 2 * size]],
            },
        }

    def write(self, folder: Path) -> Path:
        raw = folder / "raw.gz"
        raw.write_bytes(gzip.compress(np.array(self.words, dtype="<u8").tobytes()))
        path = folder / "step.npz"
        trace.write(path, trace.from_recording(raw, {"kind": self.profile()}, {"name": "two-ops"}))
        return path
