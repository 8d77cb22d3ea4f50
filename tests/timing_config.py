# SPDX-License-Identifier: Apache-2.0
"""A configuration for the timing plugin, with round figures."""

from __future__ import annotations

import struct
from pathlib import Path

LATENCY = (100.0, 305.0)
CLOCK_SIZE = 1 << 20
DILATION = 8 + 8 * 64  # where it is in the clock page; `needed`, `behind` and `generation` follow


def write(folder: Path, *, split: int, end: int, **changes: object) -> Path:
    """Write it, with an empty clock page and log beside it; returns its path.

    `split` and `end` are the first physical addresses of node 1 and beyond it. Options have `__` for a dot.
    """
    values: dict[str, object] = {
        "split": split,
        "end": end,
        "cache.size": 65536,
        "cache.ways": 16,
        "cache.line": 64,
        "write_buffer": 500,
        "instruction": 0,
        "parallelism": 1,
        "page": 1500,
        "remap": 3000,
        "remap_page": 20,
        "shootdown": 700,
        "cores": 24,
        "window": 20000,
        "log": folder / "counters.jsonl",
        "clock": folder / "clock",
    }
    for node in (0, 1):
        for what in ("read", "write"):
            values |= {f"node{node}.{what}_latency": LATENCY[node], f"node{node}.{what}_bandwidth": 64}
    values |= {name.replace("__", "."): value for name, value in changes.items()}
    (folder / "clock").write_bytes(bytes(CLOCK_SIZE))
    (folder / "counters.jsonl").touch()
    path = folder / "timing.conf"
    path.write_text("".join(f"{name} {value}\n" for name, value in values.items()))
    return path


def ask_for_dilation(folder: Path, dilation: float) -> None:
    """As a guest does before a region."""
    with (folder / "clock").open("r+b") as file:
        file.seek(DILATION)
        file.write(struct.pack("<d", dilation))
