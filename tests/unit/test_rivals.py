# SPDX-License-Identifier: Apache-2.0
"""Planners of other systems, on steps whose best plan is known."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from sentinel.planner.check import check
from sentinel.planner.formats import profile_json
from sentinel.planner.memory import classify
from sentinel.planner.problem import prepare
from sentinel.planner.timing.cost import estimate_costs
from sentinel.rivals import autotm
from tests.fakes import networks, profiles
from tests.fakes.profiles import OPTANE

PAGE = 4096


def test_autotm_finds_the_best_set_of_tensors() -> None:
    """Two tensors that live at different times save more than the hottest, which lives as long as both."""
    mib = 1 << 20
    hot = {"size": 8 * mib, "birth": 0, "death": 5, "uses": [[0, 0, 1], [1, 1, 0], [4, 1, 0]]}
    first = {"size": 8 * mib, "birth": 0, "death": 2, "uses": [[0, 0, 1]], "k": 1}
    second = {"size": 8 * mib, "birth": 3, "death": 5, "uses": [[3, 0, 1]]}
    step = profiles.small([0, 1, 2, 3, 4, 5], [5_000_000] * 6, [hot, first, second])
    saved_ns = np.bincount(step.uses.tensor, weights=estimate_costs(step, OPTANE, None).saved_ns)
    assert max(saved_ns[1:]) < saved_ns[0] < saved_ns[1] + saved_ns[2]
    plan = autotm.make_plan(step, 8 * mib, OPTANE)
    assert not check(step, plan)
    assert [tensor.node for tensor in plan.tensors] == [1, 0, 0]
    assert not plan.moves
    assert plan.predicted["solve_gap"] <= autotm.GAP
    assert plan.made["policy"] == "autotm"


@pytest.mark.parametrize("seed", range(6))
def test_autotm_is_optimal_by_brute_force(seed: int) -> None:
    step = profile_json.parse(profiles.random_value(seed))
    saved_ns = np.bincount(
        step.uses.tensor, weights=estimate_costs(step, OPTANE, None).saved_ns, minlength=len(step.tensors)
    )
    budget = classify.peak(step) // 2 // PAGE * PAGE
    t, n = step.tensors, len(step.ops)
    eligible = np.flatnonzero((classify.classify(step) != classify.OUTSIDE) & (saved_ns > 0))[:12]
    best = 0.0
    for count in range(len(eligible) + 1):
        for chosen in combinations(eligible.tolist(), count):
            live = np.zeros(n + 1)
            for i in chosen:
                live[max(0, t.birth[i])] += t.resident_bytes[i]
                live[t.death[i]] -= t.resident_bytes[i]
            if np.cumsum(live).max() <= budget:
                best = max(best, float(saved_ns[list(chosen)].sum()))
    problem = prepare(step, budget, OPTANE, pool_share=0.0)
    solution = autotm.solve(problem, budget, 10)
    assert float(saved_ns[solution.fast].sum()) >= best * (1 - 2 * autotm.GAP)


def test_autotm_plans_networks_within_the_budget() -> None:
    step = networks.resnet(blocks=2)
    for share in (0.1, 0.3):
        plan = autotm.make_plan(step, int(share * classify.peak(step)), OPTANE)
        assert not check(step, plan)
        assert plan.predicted["fast_ns"] <= plan.predicted["step_ns"] < plan.predicted["slow_ns"]
