# SPDX-License-Identifier: Apache-2.0
"""Plug-ins: objects that installed packages register as Python entry points."""

from __future__ import annotations

from importlib import metadata
from typing import Any

from testbed.common.errors import UsageError


def load(group: str) -> dict[str, Any]:
    """Import the objects of an entry point group, by name. Raises `UsageError` if one cannot be imported."""
    objects: dict[str, Any] = {}
    for entry_point in metadata.entry_points(group=group):
        try:
            objects[entry_point.name] = entry_point.load()
        except Exception as e:
            raise error(group, entry_point.name, f"cannot be imported from {entry_point.value}: {e}") from e
    return objects


def error(group: str, name: str, problem: str) -> UsageError:
    """The error to raise for a plug-in that cannot be used."""
    return UsageError(f"plug-in {name!r} ({group}): {problem}", hint="fix or uninstall the package")
