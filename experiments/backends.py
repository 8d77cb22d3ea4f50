# SPDX-License-Identifier: Apache-2.0
"""The backend of a suite."""

from __future__ import annotations

from experiments.backend import Backend, VirtualMachines
from experiments.replay_backend import Replayer


def backend_of(mode: str, *, location: str | None = None, uri: str | None = None) -> Backend:
    """Return the backend for a suite's `mode`; see `VirtualMachines` for the other arguments."""
    machines = VirtualMachines(location=location, uri=uri)
    return Replayer(machines) if mode == "replay" else machines
