# SPDX-License-Identifier: Apache-2.0
"""`sentinel bound`: the shortest step that any schedule could have."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sentinel.cli import options, output
from sentinel.cli.plans import usage_errors
from sentinel.planner import policy as policies
from testbed.common.errors import UsageError

if TYPE_CHECKING:
    from sentinel.bound import Bound
    from sentinel.planner.formats.figures import Figures
    from sentinel.planner.formats.plan import Plan
    from sentinel.planner.formats.profile import Profile
    from testbed.timing.preset import Preset

TRACE_SUFFIX = ".npz"
_FILE = click.Path(path_type=Path)


@click.command(
    epilog="""\b
Examples:
  sentinel bound profile.json.gz --fast-memory 10,20,40,60% --preset optane-6dimm
  sentinel bound profile.json.gz --fast-memory "14 MiB" --preset cxl-asic --json
  sentinel bound profile.json.gz --plan profile.plan.json
  sentinel bound traces/lstm-ptb-b3.npz --fast-memory 20% --preset optane-6dimm
"""
)
@click.argument("profile", metavar="PROFILE|TRACE", type=_FILE)
@click.option("--fast-memory", metavar="LIST", help="Budgets: sizes, or shares of the peak, with commas.")
@click.option("--preset", metavar="NAME|FILE", help="Memory system; see `sentinel preset`.")
@options.mechanism
@options.migration_cores
@click.option("--plan", "plan_file", type=_FILE, help="Compare this plan, with its budget and figures.")
@click.option(
    "--fast-step-ns",
    type=output.Number(1, 1e18),
    help="Measured duration of a step with all tensors in fast memory.",
)
@click.option("--time-limit", type=output.Number(0.1, 86_400), metavar="SECONDS", help="For each budget.")
@output.json_option
def bound(
    profile: Path,
    fast_memory: str | None,
    preset: str | None,
    mechanism: policies.Mechanism,
    migration_cores: int,
    plan_file: Path | None,
    fast_step_ns: float | None,
    time_limit: float | None,
    as_json: bool,
) -> None:
    """Prove how short the recorded step of a PROFILE or TRACE can be at best.

    No placement and no migration schedule has a shorter step in the planner's cost model. A trace gives the
    exact costs of its operations.
    """
    from experiments import profiles
    from sentinel.bound import lower_bound
    from sentinel.planner.formats import files
    from sentinel.planner.memory import classify
    from testbed.common.files import check_input
    from testbed.timing import preset as presets

    if (plan_file is None) == (fast_memory is None or preset is None):
        raise UsageError(
            "needs --fast-memory and --preset, or --plan", hint="a plan has its own budget and figures"
        )
    check_input(profile)
    with usage_errors():
        if profile.suffix == TRACE_SUFFIX:
            if preset is None or plan_file is not None:
                raise UsageError("a trace needs --fast-memory and --preset: its costs are those of a preset")
            step, fast_step_ns = _traced(profile, presets.load(preset))
        else:
            step = files.read_profile(profile)
        figures: Figures
        if plan_file is not None:
            check_input(plan_file)
            plan = files.read_plan(plan_file)
            figures, budgets = _figures_of(step, plan), [plan.budget]
            fast_step_ns = plan.made.get("fast_step_ns")
            mechanism = plan.made.get("mechanism", mechanism)
        else:
            assert preset is not None and fast_memory is not None  # noqa: S101 -- checked above
            figures, budgets = (
                profiles.figures_of(presets.load(preset), helpers=migration_cores),
                budgets_of(fast_memory, classify.peak(step)),
            )
        bounds = [
            lower_bound(step, size, figures, fast_step_ns, mechanism=mechanism, time_limit_s=time_limit)
            for size in budgets
        ]
    step_ns = plan.predicted["step_ns"] if plan_file is not None else None
    rows = [_row(size, each, step_ns) for size, each in zip(budgets, bounds, strict=True)]
    if as_json:
        output.show_json(rows)
    else:
        _show(rows)


def _traced(path: Path, preset: Preset) -> tuple[Profile, float]:
    """The profile of a trace with exact costs, and the time of its step in fast memory in ns."""
    from experiments.replays import Replays
    from sentinel.replay import trace

    costs = Replays(trace.read(path), path, preset).costs
    return costs.profile, costs.fast.step_ns


def _figures_of(step: Profile, plan: Plan) -> Figures:
    from sentinel.planner.check import check
    from sentinel.planner.formats import figures

    if broken := check(step, plan):
        raise UsageError(f"the plan is not one of this profile: {broken[0]}")
    return figures.parse(plan.made.get("figures"))


def budgets_of(text: str, peak: int) -> list[int]:
    """The budgets in bytes."""
    from sentinel.planner import budget

    return [budget.parse(item, peak) for item in options.budgets(text)]


def _row(size: int, bound: Bound, step_ns: int | None) -> dict[str, Any]:
    plan = {} if step_ns is None else {"plan_step_ns": step_ns, "gap": bound.gap(step_ns)}
    return {
        "budget": size,
        "step_ns": round(bound.step_ns),
        "fast_ns": round(bound.fast_ns),
        "slow_ns": round(bound.slow_ns),
        "fraction": bound.fraction,
        "promoted_bytes": round(bound.promoted_bytes),
        "demoted_bytes": round(bound.demoted_bytes),
        **plan,
    }


def _show(rows: list[dict[str, Any]]) -> None:
    from results.units import duration, percent

    planned = "gap" in rows[0]
    header = ("budget", "at best", "of fast-only", "promoted", "demoted")
    table = [
        (
            output.size(row["budget"]),
            duration(row["step_ns"]),
            percent(row["fraction"]),
            output.size(row["promoted_bytes"]),
            output.size(row["demoted_bytes"]),
            *((duration(row["plan_step_ns"]), percent(row["gap"])) if planned else ()),
        )
        for row in rows
    ]
    output.show(output.rows((*header, "plan", "gap") if planned else header, table))
    click.echo(f"fast memory only: {duration(rows[0]['fast_ns'])}, slow: {duration(rows[0]['slow_ns'])}")
