# SPDX-License-Identifier: Apache-2.0
"""How well the profiler's counts tell what fast memory saves.

From the counts of accesses the planner estimates what each use of a tensor saves in fast memory. Two sources
know it better, and profiles keep what they know: a replayed trace tells what each tensor saves, and a step in
fast memory beside the one in slow memory what each operation saves.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas

from results.plans import Planned
from sentinel.planner.errors import PlannerError
from sentinel.planner.formats import figures
from sentinel.planner.formats.profile import Profile
from sentinel.planner.timing.cost import estimate_costs

if TYPE_CHECKING:
    from sentinel.planner.formats.fields import Floats

HOTTEST = 0.2  # of the bytes


@dataclass(frozen=True)
class Accuracy:
    """What tensors or operations (`subject`) save in fast memory, estimated and exact, in ns.

    `size` is in bytes for tensors; operations count alike.
    """

    subject: Literal["tensors", "operations"]
    size: Floats
    estimated_ns: Floats
    exact_ns: Floats

    @property
    def ratio(self) -> float:
        """All estimated savings by all exact ones; NaN if nothing is saved."""
        exact = float(self.exact_ns.sum())
        return float(self.estimated_ns.sum()) / exact if exact > 0 else math.nan

    @property
    def correlation(self) -> float:
        """The rank correlation of savings per byte; NaN if one side does not vary."""
        return rank_correlation(self.estimated_ns / self.size, self.exact_ns / self.size)

    @property
    def common(self) -> float:
        """The share of the exact savings that the estimates, scaled to its sum, give to the same subject."""
        total, ratio = float(self.exact_ns.sum()), self.ratio
        if not ratio > 0:
            return math.nan
        return float(np.minimum(self.estimated_ns / ratio, self.exact_ns).sum()) / total

    @property
    def hottest(self) -> float:
        """The share of the hottest fifth, by exact savings per byte, that is hottest by estimates, too."""
        return overlap(self.estimated_ns / self.size, self.exact_ns / self.size, self.size)


def accuracy(planned: Planned) -> Accuracy | None:
    """Compare the counts of a plan's profile with what the profile knows better, or None if it does not."""
    if planned.profile is None:
        return None
    try:
        machine = figures.parse(planned.plan.made.get("figures"))
        return compare(planned.profile, machine)
    except PlannerError:
        return None


def compare(profile: Profile, machine: figures.Figures) -> Accuracy | None:
    """Compare a profile's counts with its exact savings, if it has them. Raises the planner's errors."""
    uses, ops = profile.uses, profile.ops
    counted = replace(profile, uses=replace(uses, saved_ns=None), ops=replace(ops, fast_ns=None))
    costs = estimate_costs(counted, machine)
    if uses.saved_ns is not None:
        count = len(profile.tensors)
        estimated, exact = (
            np.bincount(uses.tensor, weights=np.maximum(ns, 0.0), minlength=count).astype(np.float64)
            for ns in (costs.saved_ns, uses.saved_ns)
        )
        size = profile.tensors.resident_bytes.astype(np.float64)
        shown = (size >= profile.page_bytes) & ((estimated > 0) | (exact > 0))
        return Accuracy("tensors", size[shown], estimated[shown], exact[shown])
    if ops.fast_ns is None:
        return None
    measured: Floats = np.maximum(ops.slot_ns - ops.fast_ns, 0).astype(np.float64)
    shown = (ops.fast_ns >= 0) & ((costs.op_saved_ns > 0) | (measured > 0))
    estimated_ns = np.maximum(costs.op_saved_ns, 0.0)
    return Accuracy("operations", np.ones(int(shown.sum())), estimated_ns[shown], measured[shown])


def by_profile(named: Iterable[tuple[str, Planned]]) -> list[tuple[str, Accuracy]]:
    """Return the accuracy of each profile, under the first of its names."""
    first: dict[str, tuple[str, Planned]] = {}
    for name, planned in named:
        first.setdefault(str(planned.plan.made.get("profile")), (name, planned))
    found = [(name, accuracy(planned)) for name, planned in first.values()]
    return [(name, each) for name, each in found if each is not None and len(each.size)]


def rank_correlation(one: Floats, other: Floats) -> float:
    """Return Spearman's rank correlation; NaN if one side does not vary."""
    ranks = pandas.DataFrame({"one": one, "other": other}).rank()
    if ranks.nunique().min() < 2:
        return math.nan
    return float(ranks["one"].corr(ranks["other"]))


def overlap(one: Floats, other: Floats, size: Floats) -> float:
    """Return how much the hottest fifth of all bytes by `one` and by `other` have in common, as a share."""
    limit = HOTTEST * size.sum()

    def hot(heat: Floats) -> Floats:
        order = np.argsort(-heat, kind="stable")
        before = np.cumsum(size[order]) - size[order]
        taken = np.zeros(len(size))
        taken[order] = np.clip(limit - before, 0, size[order])
        return taken

    return float(np.minimum(hot(one), hot(other)).sum() / limit) if limit else math.nan
