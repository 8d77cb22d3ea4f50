# SPDX-License-Identifier: Apache-2.0
"""Figures of a profile for tables and plots (paper, section III)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .formats.profile import Profile
from .memory.classify import CLASSES, classify, live_bytes, peak
from .schedule.intervals import layer_starts

if TYPE_CHECKING:
    from .formats.fields import Ints

SIZES = (("below a page", 0), ("to 64 KiB", 4096), ("to 1 MiB", 1 << 16), ("1 MiB and more", 1 << 20))
HOTTEST = (0.05, 0.1, 0.2, 0.5)  # shares of the bytes


def characterise(profile: Profile) -> dict[str, Any]:
    """Return sizes, lifetimes and the distribution of accesses."""
    t = profile.tensors
    return {
        "ops": len(profile.ops),
        "layers": len(layer_starts(profile)),
        "tensors": len(t),
        "step_ns": profile.step_ns,
        "peak_bytes": peak(profile),
        "allocated_bytes": int(t.size[t.birth >= 0].sum()),
        "accesses": int(t.accesses.sum()),
        "counts": profile.counts,
        "clock": profile.clock,
        "classes": _by_class_and_size(profile),
        "hottest": _hottest(profile),
        "warnings": list(profile.warnings),
    }


def live_bytes_by_class(profile: Profile) -> dict[str, Ints]:
    """Return the bytes that live at each position, by class of lifetime."""
    resident_bytes, classes = profile.tensors.resident_bytes, classify(profile)
    return {
        name: live_bytes(profile, np.where(classes == i, resident_bytes, 0)) for i, name in enumerate(CLASSES)
    }


def _by_class_and_size(profile: Profile) -> list[dict[str, Any]]:
    """Return for each lifetime and range of sizes the number, size and share of accesses of its tensors."""
    t, classes = profile.tensors, classify(profile)
    accesses = max(1, int(t.accesses.sum()))
    bounds = [max(minimum, profile.page_bytes) if minimum else 0 for _, minimum in SIZES] + [1 << 62]
    rows = []
    for number, lifetime in enumerate(CLASSES):
        for (size, _), minimum, maximum in zip(SIZES, bounds, bounds[1:]):
            selected = (classes == number) & (t.size >= minimum) & (t.size < maximum)
            if selected.any():
                rows.append(
                    {
                        "lifetime": lifetime,
                        "size": size,
                        "tensors": int(selected.sum()),
                        "of_tensors": int(selected.sum()) / len(t),
                        "bytes": int(t.resident_bytes[selected].sum()),
                        "of_accesses": int(t.accesses[selected].sum()) / accesses,
                    }
                )
    return rows


def _hottest(profile: Profile) -> list[dict[str, float]]:
    """Return the share of accesses that the hottest tensors get, most accesses per page first."""
    t = profile.tensors
    order = np.argsort(-t.accesses / np.maximum(1, t.touched), kind="stable")
    size, accesses = np.cumsum(t.resident_bytes[order]), np.cumsum(t.accesses[order])
    if not len(t) or not size[-1] or not accesses[-1]:
        return []
    rows = []
    for share in HOTTEST:
        count = int(np.searchsorted(size, share * size[-1], side="right"))
        accesses_share = float(accesses[count - 1] / accesses[-1]) if count else 0.0
        rows.append({"of_bytes": share, "of_accesses": accesses_share})
    return rows
