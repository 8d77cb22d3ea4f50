# SPDX-License-Identifier: Apache-2.0
"""Which workers run the repeats of a run, if the process of the run does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from experiments.backend import Backend
from experiments.slurm_job import Job


@dataclass(frozen=True)
class Workers:
    """The processes of the cluster at the address `scheduler`, or else `jobs` of this host or of SLURM.

    With `slurm` each worker is a job as described there. `backend` makes a worker's backend; it is sent to
    the workers (a function of a module, or a partial).
    """

    backend: Callable[[], Backend]
    jobs: int = 1
    scheduler: str | None = None
    slurm: Job | None = None
