# SPDX-License-Identifier: Apache-2.0
"""Checks of a suite against what it names: its machine, its policies, and the mode."""

from __future__ import annotations

from collections.abc import Sequence

from experiments import policies
from experiments.combinations import Combination, Error
from experiments.suite import Included, Suite
from testbed.machine import Machine


def check(suite: Suite, machine: Machine, combinations: Sequence[Combination], error: Error) -> None:
    """Check all combinations of the suite. Raises what `error` makes of the first mistake."""
    if suite.target is None:
        _check_machine(suite, machine, combinations, error)
    elif suite.mode == "replay":
        raise error(("target",), "replays need the timing model of a virtual machine")
    _check_online(suite, error)
    for one in combinations:
        _check_policy(suite, one, error)
        if suite.mode == "replay" and one["threads"] > 1:
            place = one.place("threads")
            raise error(
                ("mode",) if place == ("threads",) else place, "only steps of one thread can be replayed"
            )
    if suite.mode == "replay":
        _check_replay(suite, error)
    models = list(suite.all_models())
    for one in combinations:
        _, model = models[one["models"]]
        if one["steps"] is None and "script" not in model:
            problem = f"{model['name']} needs a number: only scripts end by themselves"
            raise error(one.place("steps"), problem)


def _check_machine(suite: Suite, machine: Machine, combinations: Sequence[Combination], error: Error) -> None:
    if len(machine.nodes) < 2:
        raise error(("machine",), "a suite needs a machine with at least two nodes")
    if suite.preset is not None and len(machine.nodes) != 2:
        raise error(("preset",), "the timing model supports machines with two nodes only")
    for one in combinations:
        if one["threads"] > machine.vcpus:
            raise error(one.place("threads"), f"the machine has {machine.vcpus} CPUs")


def _check_online(suite: Suite, error: Error) -> None:
    for _, model in suite.all_models() if suite.online else ():
        if "script" not in model:
            raise error(("online",), f"only scripts plan within the training, and {model['name']} is a model")
    parts: list[Suite | Included] = [suite, *suite.include]
    if suite.online and not any(policies.get(name).online for part in parts for name in part.placements):
        able = ", ".join(name for name, policy in policies.registry().items() if policy.online)
        raise error(("online",), f"none of the `placements` can plan within the training; these can: {able}")


def _check_policy(suite: Suite, one: Combination, error: Error) -> None:
    """Check that the policy of a combination has what it needs."""
    name, budget, place = one["placements"], one["fast_memory"], one.place("placements")
    needs = policies.get(name).needs
    if budget is not None and not one["warmup"]:
        problem = "must be at least 1 with a budget, which applies after the warm-up"
        raise error(one.place("warmup"), problem)
    if needs.budget == "required" and budget is None:
        raise error(place, f"{name} needs `fast_memory`, such as [20%, 40%]")
    if policies.get(name).replay is not None and suite.mode != "replay":
        raise error(place, f"{name} exists in replays only: set `mode: replay`, or use `sentinel replay`")
    if (needs.preset or needs.profile) and suite.preset is None:
        raise error(place, f"{name} needs a `preset`, such as optane-6dimm")
    if budget is not None and suite.preset is None:
        *parents, last = one.place("fast_memory")
        where = tuple(parents) if isinstance(last, int) else (*parents, last)
        raise error(where, "needs a `preset`, such as optane-6dimm")


def _check_replay(suite: Suite, error: Error) -> None:
    """Replays need the model, and a step that can be recorded."""
    if suite.preset is None or not suite.runtime:
        raise error(("mode",), "replays need a `preset`, and `fast_memory` or a policy with a plan")
    for place, model in suite.all_models():
        if "script" in model:
            raise error(place, "a script cannot be replayed: its steps may be of several kinds")
