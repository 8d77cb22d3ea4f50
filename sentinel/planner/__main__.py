# SPDX-License-Identifier: Apache-2.0
"""The planner's program: `python3 -m sentinel.planner PROFILE... --budget 20% --figures FILE -o PLAN`.

With a folder as output it plans the profiles of several kinds of steps, each into a file of the profile's
name, and prints a line of JSON: the budget and the peak in bytes, and the errors by the name of the profile.
A share is that of the largest peak. If no plan is possible it prints one line to standard error and exits
with status 2.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
from collections.abc import Mapping
from pathlib import Path

from . import budget, joint, policy
from .check import ensure_sound
from .errors import PlannerError
from .formats import files
from .formats.figures import Figures
from .formats.plan import Plan
from .formats.profile import Profile
from .memory.classify import peak
from .search import make_plan


def main(arguments: list[str] | None = None) -> int:
    """Write the plans. Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="sentinel.planner", description="Make a plan for the step in PROFILE."
    )
    parser.add_argument("profiles", type=Path, metavar="PROFILE", nargs="+")
    parser.add_argument("--budget", required=True, help="fast memory: a size, or a share of the peak")
    parser.add_argument("--figures", type=Path, required=True, metavar="FILE", help="figures of the machine")
    parser.add_argument("--policy", choices=policy.POLICIES, default=policy.DEFAULT, help=policy.HELP)
    parser.add_argument(
        "--mechanism",
        choices=policy.MECHANISMS,
        default=policy.MOVE_PAGES,
        help="how groups of sentinel-opt migrate",
    )
    parser.add_argument(
        "--fast-step-ns", type=float, metavar="NS", help="measured step with all tensors in fast memory"
    )
    parser.add_argument(
        "--spill", action="store_true", help="treat large short-lived tensors as long-lived where that helps"
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="PLAN", help="the plan, or a folder for plans"
    )
    options = parser.parse_args(arguments)
    if len(options.profiles) > 1 and not options.output.is_dir():
        parser.error("several profiles need an existing folder for their plans")
    try:
        figures = files.read_figures(options.figures)
        profiles = {path: files.read_profile(path) for path in options.profiles}
        largest_peak = max(peak(profile) for profile in profiles.values())
        size = budget.parse(options.budget, largest_peak)
        plans, errors = _plan(profiles, size, figures, options)
        if not options.output.is_dir():
            for error in errors.values():
                raise error
            files.write_plan(options.output, plans[options.profiles[0]])
            return 0
        for path, plan in plans.items():
            files.write_plan(options.output / path.name, plan)
    except PlannerError as e:
        print(f"planner: {e}", file=sys.stderr)
        return 2
    texts = {path.name.split(".")[0]: str(error) for path, error in errors.items()}
    print(json.dumps({"budget": size, "peak": largest_peak, "errors": texts}))
    return 0


def _plan(
    profiles: Mapping[Path, Profile], size: int, figures: Figures, options: argparse.Namespace
) -> tuple[dict[Path, Plan], dict[Path, PlannerError]]:
    """Return the plans of the profiles, or why there is none."""

    def make(path: Path, resident: frozenset[str] | None = None) -> Plan:
        plan = make_plan(
            profiles[path],
            size,
            figures,
            policy=options.policy,
            fast_step_ns=options.fast_step_ns,
            spill=options.spill,
            resident=resident,
            source=files.digest(path),
            mechanism=options.mechanism,
        )
        return ensure_sound(profiles[path], plan)

    plans: dict[Path, Plan] = {}
    errors: dict[Path, PlannerError] = {}
    for path in profiles:
        try:
            plans[path] = make(path)
        except PlannerError as e:
            errors[path] = e
    if options.policy == "sentinel-opt" and plans:
        kinds = {path: joint.Kind(profiles[path], options.fast_step_ns, plan) for path, plan in plans.items()}
        plans = joint.replan(kinds, figures, lambda resident: {path: make(path, resident) for path in kinds})
    return plans, errors


if __name__ == "__main__":
    gc.disable()  # the planner makes no cycles, and looking for them takes a fifth of its time
    sys.exit(main())
