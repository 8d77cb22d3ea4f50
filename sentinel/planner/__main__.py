# SPDX-License-Identifier: Apache-2.0
"""The planner's program in the guest.

    python3 -m sentinel.planner PROFILE --budget 20% --figures FILE -o PLAN

If no plan is possible it prints one line to standard error and exits with status 2.
"""

from __future__ import annotations

import argparse
import gc
import sys
from pathlib import Path

from . import budget, policy
from .check import ensure_sound
from .errors import PlannerError
from .formats import files
from .memory.classify import peak
from .search import make_plan


def main(arguments: list[str] | None = None) -> int:
    """Write a plan. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="planner", description="Make a plan for the step in PROFILE.")
    parser.add_argument("profile", type=Path, metavar="PROFILE")
    parser.add_argument("--budget", required=True, help="fast memory: a size, or a share of the peak")
    parser.add_argument("--figures", type=Path, required=True, metavar="FILE", help="figures of the machine")
    parser.add_argument("--policy", choices=policy.POLICIES, default=policy.DEFAULT, help=policy.HELP)
    parser.add_argument(
        "--fast-step-ns", type=float, metavar="NS", help="measured step with all tensors in fast memory"
    )
    parser.add_argument(
        "--spill", action="store_true", help="treat large short-lived tensors as long-lived where that helps"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="PLAN")
    options = parser.parse_args(arguments)
    try:
        profile = files.read_profile(options.profile)
        plan = make_plan(
            profile,
            budget.parse(options.budget, peak(profile)),
            files.read_figures(options.figures),
            policy=options.policy,
            fast_step_ns=options.fast_step_ns,
            spill=options.spill,
            source=files.digest(options.profile),
        )
        files.write_plan(options.output, ensure_sound(profile, plan))
    except PlannerError as e:
        print(f"planner: {e}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    gc.disable()  # the planner makes no cycles, and looking for them takes a fifth of its time
    sys.exit(main())
