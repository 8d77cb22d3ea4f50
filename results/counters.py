# SPDX-License-Identifier: Apache-2.0
"""Counts of a repeat that hardly vary between repeats: LLC misses, bytes by node, migrations, page faults.

Misses and bytes come from the timing model, which writes a line to counters.jsonl at the begin and at the end
of each step; migrated bytes come from the runtime. Records without them, such as those under KVM, have the
kernel's counters only. The kernel does not count the pages that the runtime moves within frames of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from results.migration import migration
from results.records import Step, is_count
from results.runs import Repeat

_BEGIN, _END = 3, 4  # markers; see docs/timing.md
_VMSTAT = {"page_faults": "pgfault", "migrated_pages": "pgmigrate_success"}


@dataclass(frozen=True)
class Counter:
    """A count per measured step, of which more is worse.

    A change counts if it exceeds both `relative` (a share) and `absolute`, measured from the range of the
    repeats that it is compared with.
    """

    name: str
    meaning: str
    relative: float
    absolute: float


# Bounds from repeats of the suite `ci`; see docs/statistics.md and benchmarks/repeat_counters.py
COUNTERS = (
    Counter("misses", "LLC misses of all vCPUs", 0.02, 1000),
    Counter("node1_misses", "those that node 1 served", 0.02, 1000),
    Counter("bytes", "bytes read from and written to both nodes", 0.02, 64 * 1000),
    Counter("node1_bytes", "those of node 1", 0.02, 64 * 1000),
    Counter("migrated_pages", "pages that the kernel migrated", 0.01, 1),
    Counter("promoted_bytes", "bytes that the runtime moved to node 0", 0.01, 4096),
    Counter("demoted_bytes", "bytes that it moved to node 1", 0.01, 4096),
    Counter("page_faults", "page faults of the whole guest", 0.02, 16),
)


def per_step(repeat: Repeat) -> dict[str, float]:
    """Return the mean of each recorded counter per measured step; empty without measured steps."""
    measured = [n for n, step in enumerate(repeat.steps) if not step.warmup]
    if not measured:
        return {}
    means = {}
    if any(step.vmstat for step in repeat.steps):  # a step has those that grew; the first one always has some
        means = _kernel([repeat.steps[n] for n in measured])
    moved = migration([repeat])
    if moved is not None:
        means |= {"promoted_bytes": moved.promoted, "demoted_bytes": moved.demoted}
    growth = list(_growths(repeat))
    if len(growth) == len(repeat.steps):
        chosen = [growth[n] for n in measured]
        means |= {name: sum(step[name] for step in chosen) / len(chosen) for name in chosen[0]}
    return means


def _kernel(steps: list[Step]) -> dict[str, float]:
    return {
        name: sum(step.vmstat.get(field, 0) for step in steps) / len(steps) for name, field in _VMSTAT.items()
    }


def _growths(repeat: Repeat) -> Iterator[dict[str, int]]:
    """Yield the growth of the timing model's counters in each step; nothing more after a damaged line."""
    before = None
    try:
        with (repeat.path / "counters.jsonl").open(errors="replace") as lines:
            for line in lines:
                record = json.loads(line)
                if record["marker"] == _BEGIN:
                    before = _totals(record)
                elif record["marker"] == _END and before is not None:
                    after = _totals(record)
                    yield {name: after[name] - before[name] for name in after}
                    before = None
    except (OSError, ValueError, KeyError, TypeError, IndexError, RecursionError):
        return


def _totals(record: dict[str, Any]) -> dict[str, int]:
    """Return the counters of all vCPUs together."""
    cpus = record["vcpus"]
    misses, read, written = (
        [sum(_count(cpu[name][node]) for cpu in cpus) for node in (0, 1)]
        for name in ("misses", "read", "written")
    )
    moved = [a + b for a, b in zip(read, written, strict=True)]
    return {
        "misses": sum(misses),
        "node0_misses": misses[0],
        "node1_misses": misses[1],
        "bytes": sum(moved),
        "node0_bytes": moved[0],
        "node1_bytes": moved[1],
    }


def _count(value: Any) -> int:
    if not is_count(value):
        raise ValueError(f"{value!r} is not a count")
    return value
