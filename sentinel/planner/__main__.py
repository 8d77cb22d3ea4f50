# SPDX-License-Identifier: Apache-2.0
"""In the guest: `python3 -m planner PROFILE --budget 20% --figures FILE -o PLAN`.

Exit status 2 and one line on standard error if there can be no plan.
"""

from __future__ import annotations

import argparse
import gc
import sys
from pathlib import Path

from . import budget
from .check import assured
from .errors import PlannerError
from .formats import files
from .memory.classify import peak
from .search import POLICIES, make


def main(arguments: list[str] | None = None) -> int:
    """Make a plan; returns the exit status."""
    parser = argparse.ArgumentParser(prog="planner", description="Make a plan of a profile.")
    parser.add_argument("profile", type=Path, metavar="PROFILE")
    parser.add_argument("--budget", required=True, help="fast memory: a size, or a share of the step's peak")
    parser.add_argument("--figures", type=Path, required=True, metavar="FILE", help="of the machine")
    parser.add_argument("--fast-step-ns", type=float, help="a step with everything in fast memory, if known")
    parser.add_argument("--spill", action="store_true", help="below the floor, plan short-lived tensors too")
    parser.add_argument(
        "--policy",
        choices=POLICIES,
        default="sentinel-opt",
        help="the paper's algorithm, or the one that searches for the shortest step (default)",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="PLAN")
    options = parser.parse_args(arguments)
    try:
        profile = files.read_profile(options.profile)
        plan = make(
            profile,
            budget.parse(options.budget, peak(profile)),
            files.read_figures(options.figures),
            fast_step_ns=options.fast_step_ns,
            spill=options.spill,
            policy=options.policy,
            source=files.digest(options.profile),
        )
        files.write_plan(options.output, assured(profile, plan))
    except PlannerError as e:
        print(f"planner: {e}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    gc.disable()  # its many lists have no cycles, and looking for some would take a fifth of its time
    sys.exit(main())
