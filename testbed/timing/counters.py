# SPDX-License-Identifier: Apache-2.0
"""Read the timing model's counters: `counters.jsonl`, one line for each marker (docs/timing.md)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from testbed.common.errors import InfrastructureError

REGION_BEGIN, REGION_END, STEP_BEGIN, STEP_END = 1, 2, 3, 4


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of the file, up to one that broke off (the machine ended, or the disk was full)."""
    with path.open() as file:
        for line in file:
            try:
                yield json.loads(line)
            except ValueError:
                return


def check(path: Path) -> None:
    """Raise `InfrastructureError` unless the counters end with the end of a region."""
    last = None
    if path.exists():
        for record in read(path):
            last = record
    if last is None or last["marker"] != REGION_END:
        raise InfrastructureError(
            "the timing model's counters are incomplete",
            hint="check that the disk of the state folder is not full",
            log=path.with_name("qemu.log"),
        )


def steps(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the counts of each training step, summed over vCPUs; `ns` is vCPU 0's."""
    before: dict[str, Any] | None = None
    for record in read(path):
        if record["marker"] == STEP_BEGIN:
            before = record
        elif record["marker"] == STEP_END and before is not None:
            yield _difference(before, record)
            before = None


def _difference(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    total: dict[str, Any] = {}
    for old, new in zip(before["vcpus"], after["vcpus"], strict=True):
        for name, value in new.items():
            if name == "vcpu":
                continue
            if isinstance(value, list):
                sums = total.setdefault(name, [0] * len(value))
                total[name] = [s + b - a for s, a, b in zip(sums, old[name], value, strict=True)]
            else:
                total[name] = total.get(name, 0) + value - old[name]
    total["ns"] = after["vcpus"][0]["ns"] - before["vcpus"][0]["ns"]
    return total
