# SPDX-License-Identifier: Apache-2.0
"""Policies, one file each. Each file defines `POLICY`.

Packages from outside add policies through the entry point group GROUP.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Mapping

from experiments import plugins
from experiments.policies.interface import GuestSetup, Needs, PlanContext, Policy, ReplayContext

__all__ = [
    "GROUP",
    "GuestSetup",
    "Needs",
    "PlanContext",
    "Policy",
    "ReplayContext",
    "get",
    "names",
    "registry",
]

GROUP = "sentinel.policies"


@functools.cache
def registry() -> Mapping[str, Policy]:
    """All policies by name, in alphabetical order. Raises `UsageError` for a plug-in that cannot be used."""
    policies: dict[str, Policy] = {}
    for module in pkgutil.iter_modules(__path__):
        if module.name != "interface":
            policy = importlib.import_module(f"{__name__}.{module.name}").POLICY
            policies[policy.name] = policy
    for name, plugin in plugins.load(GROUP).items():
        if not isinstance(plugin, Policy) or plugin.name != name:
            raise plugins.error(GROUP, name, f"must be a Policy with the name {name!r}")
        if name in policies:
            raise plugins.error(GROUP, name, "the name is taken")
        policies[name] = plugin
    return dict(sorted(policies.items()))


def names() -> tuple[str, ...]:
    """The names of all policies."""
    return tuple(registry())


def get(name: str) -> Policy:
    """The policy of that name, which must exist."""
    return registry()[name]
