# SPDX-License-Identifier: Apache-2.0
"""`sentinel plan`: make plans of profiles."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sentinel.cli import options, output
from sentinel.planner import policy as policies
from testbed.common.errors import UsageError

if TYPE_CHECKING:
    from sentinel.planner.formats.plan import Plan

_FILE = click.Path(path_type=Path)


@click.command(
    epilog="""\b
Examples:
  sentinel plan profile.json.gz --budget 20% --preset optane-6dimm
  sentinel plan profile.json.gz --budget "14 MiB" --preset ./mine.yaml -o plan.json
  sentinel plan profile.json.gz --budget 20% --preset cxl-asic --policy sentinel --spill
"""
)
@click.argument("profile", type=_FILE)
@click.option("--budget", required=True, help="Fast memory: a size, or a share of the peak.")
@click.option("--preset", required=True, metavar="NAME|FILE", help="Memory system; see `sentinel preset`.")
@options.policy
@options.mechanism
@options.migration_cores
@click.option(
    "--fast-step-ns",
    type=output.Number(1, 1e18),
    help="Measured duration of a step with all tensors in fast memory.",
)
@click.option(
    "--spill",
    is_flag=True,
    help="Treat large short-lived tensors as long-lived where that helps; works below the floor.",
)
@click.option("-o", "--output", "out", type=_FILE, help="Plan file (default: PROFILE with .plan.json).")
@output.json_option
def plan(
    profile: Path,
    budget: str,
    preset: str,
    policy: policies.Policy,
    mechanism: policies.Mechanism,
    migration_cores: int,
    fast_step_ns: float | None,
    spill: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    """Plan placements and migrations for the step recorded in the file PROFILE."""
    from experiments import profiles
    from sentinel.bound import BOUND_SECONDS, lower_bound
    from sentinel.planner import budget as budgets
    from sentinel.planner.check import ensure_sound
    from sentinel.planner.formats import files
    from sentinel.planner.memory import classify
    from sentinel.planner.search import make_plan
    from testbed.common import places
    from testbed.common.files import check_input
    from testbed.common.progress import note
    from testbed.timing import preset as presets

    figures = profiles.figures_of(presets.load(preset), helpers=migration_cores)
    check_input(profile)
    out = out or profile.with_name(profile.name.removesuffix(".gz").removesuffix(".json") + ".plan.json")
    places.check_file(out, "--output")
    with usage_errors():
        step = files.read_profile(profile)
        size = budgets.parse(budget, classify.peak(step))
        if policy == "sentinel":
            mechanism = policies.MOVE_PAGES
        proven = lower_bound(
            step, size, figures, fast_step_ns, mechanism=mechanism, time_limit_s=BOUND_SECONDS
        )
        new_plan = make_plan(
            step,
            size,
            figures,
            policy=policy,
            fast_step_ns=fast_step_ns,
            spill=spill,
            source=files.digest(profile),
            mechanism=mechanism,
            relaxed=proven.relaxed,
        )
        new_plan = proven.recorded_in(new_plan)
        files.write_plan(out, ensure_sound(step, new_plan))
    if as_json:
        output.show_json(summary(new_plan))
    else:
        output.show(plan_table(new_plan))
    note(f"wrote the plan to {out}")


@contextlib.contextmanager
def usage_errors() -> Iterator[None]:
    """Convert the planner's errors to usage errors."""
    from sentinel.planner.errors import BudgetError, PlannerError

    try:
        yield
    except BudgetError as e:
        raise UsageError(str(e), hint=f"use --budget {e.floor} or more, or --spill") from None
    except PlannerError as e:
        raise UsageError(str(e)) from None


def summary(plan: Plan) -> dict[str, Any]:
    nodes = [group.node for group in plan.groups]
    return {
        "budget": plan.budget,
        "reserved": plan.reserved,
        "arena": plan.arena,
        "interval_layers": plan.interval_layers,
        "intervals": len(plan.intervals),
        "groups": len(nodes),
        "born_on_node_0": nodes.count(0),
        "promotions": sum(move.to == 0 for move in plan.moves),
        "demotions": sum(move.to == 1 for move in plan.moves),
        "predicted": plan.predicted,
        "made": plan.made,
    }


def plan_table(plan: Plan) -> Any:
    from results.units import duration, percent

    predicted, counts = plan.predicted, summary(plan)
    step_ns = predicted["step_ns"]
    pool_bytes = predicted.get("pool_bytes", plan.reserved)
    fast_ns, slow_ns = predicted.get("fast_ns", 0), predicted.get("slow_ns", 0)
    lines = [
        ("policy", str(plan.made.get("policy", "-"))),
        ("budget", f"{output.size(plan.budget)}, of which {output.size(pool_bytes)} reserved pool"),
        ("rule", str(predicted.get("rule", "-"))),
        ("intervals", f"{counts['intervals']} of {plan.interval_layers} layers"),
        ("why", str(predicted.get("why", "-"))),
        (
            "predicted step",
            f"{duration(step_ns)}; all fast {duration(fast_ns)}, all slow {duration(slow_ns)}",
        ),
        ("% of all-fast speed", percent(fast_ns / step_ns) if step_ns else "-"),
        *_bound_lines(predicted),
        ("exposed time", duration(predicted["exposed_ns"])),
        (
            "migrations",
            f"{counts['promotions']} promotions, {counts['demotions']} demotions; "
            f"{output.size(predicted['moved_bytes'])} per step",
        ),
        ("groups", f"{counts['groups']}, of which {counts['born_on_node_0']} born in fast memory"),
    ]
    return output.rows(("plan", ""), lines)


def _bound_lines(predicted: dict[str, Any]) -> list[tuple[str, str]]:
    from results.units import duration, percent

    if "bound_ns" not in predicted:
        return []
    reached = predicted["bound_ns"] / predicted["step_ns"] if predicted["step_ns"] else 1.0
    return [("bound", f"{duration(predicted['bound_ns'])}; the plan has {percent(reached)} of its speed")]
