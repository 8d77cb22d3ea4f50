# SPDX-License-Identifier: Apache-2.0
"""Memory and CPU limits of this process by its control groups, v1 or v2.

/proc/meminfo does not show a container's limits. The limits of all parent groups apply, too; in a container
the outermost visible group is the container's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

_MOUNTED = Path("/sys/fs/cgroup")
_OF_SELF = Path("/proc/self/cgroup")
# The files of each version: limits and usage, and the field of memory.stat with reclaimable bytes
_MEMORY = {
    2: (("memory.max", "memory.high"), "memory.current", "inactive_file"),
    1: (("memory.limit_in_bytes",), "memory.usage_in_bytes", "total_inactive_file"),
}
_UNLIMITED = 1 << 60  # bytes; version 1 uses the largest number of pages


def memory_left(*, mounted: Path = _MOUNTED, of_self: Path = _OF_SELF) -> int | None:
    """Return the bytes that may still be allocated, or None without a limit."""
    left = []
    for version, folder in _groups("memory", mounted, of_self):
        limits, used, reclaimable = _MEMORY[version]
        limit = min((n for n in (_number(folder / name) for name in limits) if n is not None), default=None)
        if limit is None or limit >= _UNLIMITED:
            continue
        taken = (_number(folder / used) or 0) - _stat(folder / "memory.stat", reclaimable)
        left.append(max(0, limit - max(0, taken)))
    return min(left, default=None)


def cpus(*, mounted: Path = _MOUNTED, of_self: Path = _OF_SELF) -> float | None:
    """Return the CPU quota in CPUs, or None without one."""
    shares = []
    for version, folder in _groups("cpu", mounted, of_self):
        if version == 2:
            quota, period = ([*_words(folder / "cpu.max"), "", ""])[:2]
        else:
            quota, period = (" ".join(_words(folder / f"cpu.cfs_{name}_us")) for name in ("quota", "period"))
        if quota.isdecimal() and period.isdecimal() and int(period):
            shares.append(int(quota) / int(period))
    return min(shares, default=None)


def _groups(controller: str, mounted: Path, of_self: Path) -> Iterator[tuple[int, Path]]:
    """Yield (version, folder) of the groups of this process, from the innermost visible one outwards."""
    with contextlib.suppress(OSError):
        for line in of_self.read_text().splitlines():
            number, _, rest = line.partition(":")
            names, _, path = rest.partition(":")
            if number == "0" and not names:
                roots = [(2, mounted), (2, mounted / "unified")]
            elif controller in names.split(","):
                roots = [(1, mounted / names), (1, mounted / controller)]
            else:
                continue
            for version, root in roots:
                inner = root / path.strip("/")
                for folder in (inner, *inner.parents):
                    if folder.is_relative_to(root) and folder.is_dir():
                        yield version, folder


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []


def _number(path: Path) -> int | None:
    words = _words(path)
    return int(words[0]) if len(words) == 1 and words[0].isdecimal() else None


def _stat(path: Path, field: str) -> int:
    words = _words(path)
    values = dict(zip(words[::2], words[1::2], strict=False))
    return int(values.get(field, "0"))
