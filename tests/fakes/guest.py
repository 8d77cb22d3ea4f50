# SPDX-License-Identifier: Apache-2.0
"""The guest's modules on the host, under the names that they have in the guest."""

from __future__ import annotations

import importlib
import sys
from typing import Any

from experiments import guest_code
from experiments.frameworks import DEFAULT

_FOLDER = DEFAULT.guest_code()["guest"].parent
GUEST = _FOLDER / "guest"


def load(name: str) -> Any:
    """Import a module of the guest, such as `guest.train` or `timing_client`, with new state."""
    for module in [m for m in sys.modules if m.split(".")[0] in ("guest", "timing_client")]:
        del sys.modules[module]
    return also(name)


def also(name: str) -> Any:
    """Import a further module that shares its state with the module that was loaded last."""
    paths = [str(_FOLDER), str(guest_code.TIMING_CLIENT)]
    sys.path[:0] = paths
    try:
        return importlib.import_module(name)
    finally:
        del sys.path[: len(paths)]
