# SPDX-License-Identifier: Apache-2.0
"""Variables in the plans of several kinds of steps.

Variables live from step to step, but one plan at a time uses fast memory. When a step of another kind begins,
the variables that its plan has in fast memory are promoted, and all others demoted. Kinds that alternate pay
this in every step. Such plans are made again, with one set of variables in fast memory for all of them, and
kept if that is faster. The paper has one kind.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from .errors import BudgetError
from .formats.figures import Figures
from .formats.plan import Plan
from .formats.profile import Profile
from .memory.classify import VARIABLES, classify
from .timing.cost import estimate_costs

K = TypeVar("K")  # names of kinds
_RELEVANT = 0.01  # changes of kinds below this share of the steps' time are left as they are


class Kind(NamedTuple):
    """A kind of step: its profile, the measured time of its step in fast memory if known, and its plan."""

    profile: Profile
    fast_step_ns: float | None
    plan: Plan


def replan(
    kinds: Mapping[K, Kind], figures: Figures, make_plans: Callable[[frozenset[str]], dict[K, Plan]]
) -> dict[K, Plan]:
    """Return the plans of all kinds, or those of `make_plans` with the same variables in fast memory.

    `make_plans` plans all kinds with the given variables in fast memory and all others in slow memory. The
    plans with the shorter predicted time win; each kind is assumed to run once in turn.
    """
    plans = {name: kind.plan for name, kind in kinds.items()}
    variables = shared_variables(list(kinds.values()), figures)
    if variables is None:
        return plans
    try:
        joint = make_plans(variables)
    except BudgetError:  # they leave no space for the largest tensor of a kind
        return plans
    page_bytes = next(iter(kinds.values())).profile.page_bytes
    return min((plans, joint), key=lambda each: total_ns(list(each.values()), page_bytes, figures))


def shared_variables(kinds: Sequence[Kind], figures: Figures) -> frozenset[str] | None:
    """Return variables for the fast memory of all kinds; None if changes between the plans cost little.

    Variables that save most ns per byte come first, until they take as much as in the plan that has most. A
    variable that some kind does not use must leave fast memory for it: that is subtracted.
    """
    plans = [kind.plan for kind in kinds]
    page_bytes = kinds[0].profile.page_bytes if kinds else 0
    steps_ns = sum(plan.predicted["step_ns"] for plan in plans)
    if len(kinds) < 2 or _change_ns(plans, page_bytes, figures) < _RELEVANT * steps_ns:
        return None
    capacity = max(sum(_fast_variables(plan, page_bytes).values()) for plan in plans)
    saved_ns: dict[str, float] = defaultdict(float)
    users: dict[str, int] = defaultdict(int)
    size: dict[str, int] = {}
    for kind in kinds:
        for name, saved, bytes_ in _variables(kind, figures):
            saved_ns[name] += saved
            users[name] += 1
            size[name] = max(size.get(name, 0), bytes_)
    for name in saved_ns:
        if users[name] < len(kinds):
            saved_ns[name] -= _move_ns(size[name], page_bytes, figures, (0, 1))
    chosen = []
    for name in sorted(saved_ns, key=lambda name: (-saved_ns[name] / size[name], name)):
        if saved_ns[name] > 0 and size[name] <= capacity:
            chosen.append(name)
            capacity -= size[name]
    return frozenset(chosen)


def total_ns(plans: Sequence[Plan], page_bytes: int, figures: Figures) -> float:
    """Return the predicted ns of one step of each kind, and of the changes between them."""
    return sum(float(plan.predicted["step_ns"]) for plan in plans) + _change_ns(plans, page_bytes, figures)


def _change_ns(plans: Sequence[Plan], page_bytes: int, figures: Figures) -> float:
    """Return the ns to migrate variables if each plan follows the one before, and the first one the last."""
    total = 0.0
    fast = [_fast_variables(plan, page_bytes) for plan in plans]
    for before, after in zip([*fast[-1:], *fast[:-1]], fast):
        for to, names, size in ((0, after.keys() - before, after), (1, before.keys() - after, before)):
            total += sum(_move_ns(size[name], page_bytes, figures, (to,)) for name in sorted(names))
    return total


def _fast_variables(plan: Plan, page_bytes: int) -> dict[str, int]:
    """Return the bytes of the variables that are in fast memory when a step begins, by name."""
    return {
        tensor.name: _whole_pages(tensor.size, page_bytes)
        for tensor in plan.tensors
        if tensor.name is not None and tensor.node == 0
    }


def _variables(kind: Kind, figures: Figures) -> list[tuple[str, float, int]]:
    """Return the name of each variable, the ns that it saves in fast memory, and its bytes."""
    profile = kind.profile
    costs = estimate_costs(profile, figures, kind.fast_step_ns)
    saved_ns = np.bincount(profile.uses.tensor, weights=costs.saved_ns, minlength=len(profile.tensors))
    variables = np.flatnonzero(classify(profile) == VARIABLES)
    names, sizes = profile.tensors.name, profile.tensors.size
    return [
        (str(names[i]), float(saved_ns[i]), _whole_pages(int(sizes[i]), profile.page_bytes))
        for i in variables.tolist()
    ]


def _move_ns(size: int, page_bytes: int, figures: Figures, nodes: tuple[int, ...]) -> float:
    return size / page_bytes * sum(figures.migration_ns(to, page_bytes) for to in nodes)


def _whole_pages(size: int, page_bytes: int) -> int:
    return max(1, -(-size // page_bytes)) * page_bytes
