# SPDX-License-Identifier: Apache-2.0
"""The backend of a suite: where its cells run."""

from __future__ import annotations

from experiments.backend import Backend, VirtualMachines
from experiments.replay_backend import Replayer
from experiments.suite import Suite
from experiments.target_backend import RealMachine


def backend_of(suite: Suite, *, location: str | None = None, uri: str | None = None) -> Backend:
    """Return the backend for a suite's `target` and `mode`; see `VirtualMachines` for the other arguments."""
    if suite.target is not None:
        return RealMachine(suite.target)
    machines = VirtualMachines(location=location, uri=uri)
    return Replayer(machines) if suite.mode == "replay" else machines
