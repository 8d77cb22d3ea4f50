# SPDX-License-Identifier: Apache-2.0
"""`sentinel plan` and `sentinel explain`: from a profile to a plan, and what there is to see in both."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sentinel.cli import output
from testbed.common.errors import UsageError

if TYPE_CHECKING:
    from sentinel.planner.formats.plan import Plan
    from sentinel.planner.formats.profile import Profile
    from sentinel.planner.search import Policy

_FILE = click.Path(path_type=Path)


@click.command(
    epilog="""\b
Examples:
  sentinel plan profile.json.gz --budget 20% --preset optane-6dimm
  sentinel plan profile.json.gz --budget "14 MiB" --preset ./mine.yaml -o plan.json
  sentinel plan profile.json.gz --budget 20% --preset cxl-asic --fast-step-ns 7.6e6 --json
"""
)
@click.argument("profile", type=_FILE)
@click.option("--budget", required=True, help="Fast memory: a size, or a share of the step's peak.")
@click.option("--preset", required=True, metavar="NAME|FILE", help="The memories; see `sentinel preset`.")
@click.option(
    "--fast-step-ns", type=output.Number(1, 1e18), help="A step with everything in fast memory, if known."
)
@click.option("--spill", is_flag=True, help="Below the floor, take short-lived tensors for long-lived ones.")
@click.option(
    "--policy",
    type=click.Choice(("sentinel", "sentinel-opt")),
    default="sentinel-opt",
    show_default=True,
    help="The paper's algorithm, or the one that searches for the shortest step.",
)
@click.option("-o", "--output", "out", type=_FILE, help="The plan (default: beside PROFILE, .plan.json).")
@output.json_option
def plan(
    profile: Path,
    budget: str,
    preset: str,
    fast_step_ns: float | None,
    spill: bool,
    policy: Policy,
    out: Path | None,
    as_json: bool,
) -> None:
    """Make a plan of the step in the file PROFILE: what is where, and what moves when."""
    from experiments import profiles
    from sentinel.planner import budget as budgets
    from sentinel.planner import check, search
    from sentinel.planner.formats import files
    from sentinel.planner.memory import classify
    from testbed.common import places
    from testbed.common.files import check_input
    from testbed.common.progress import note
    from testbed.timing import preset as presets

    figures = profiles.figures_of(presets.load(preset))
    check_input(profile)
    out = out or profile.with_name(profile.name.removesuffix(".gz").removesuffix(".json") + ".plan.json")
    places.check_file(out, "--output")
    with _explained():
        loaded = files.read_profile(profile)
        made = search.make(
            loaded,
            budgets.parse(budget, classify.peak(loaded)),
            figures,
            fast_step_ns=fast_step_ns,
            spill=spill,
            policy=policy,
            source=files.digest(profile),
        )
        files.write_plan(out, check.assured(loaded, made))
    if as_json:
        output.show_json(_summary(made))
    else:
        output.show(_table_of(made))
    note(f"plan in {out}")


@click.command(
    epilog="""\b
Examples:
  sentinel explain profile.json.gz                                  sizes, lifetimes, accesses
  sentinel explain profile.plan.json                                why this plan
  sentinel explain profile.plan.json --profile profile.json.gz --plots plots
  sentinel explain profile.json.gz --json
"""
)
@click.argument("file", metavar="PROFILE|PLAN", type=_FILE)
@click.option("--profile", "of", type=_FILE, help="The profile that a PLAN was made of: more can be told.")
@click.option("--plots", type=_FILE, metavar="FOLDER", help="Write plots there, as PNG and SVG.")
@output.json_option
def explain(file: Path, of: Path | None, plots: Path | None, as_json: bool) -> None:
    """Explain a profile or a plan: tables and plots."""
    from sentinel.planner import check
    from sentinel.planner.formats import files
    from sentinel.planner.formats.plan import Plan
    from testbed.common import places
    from testbed.common.files import check_input

    check_input(file)
    if of is not None:
        check_input(of)
    if plots is not None:
        places.check_folder(plots, "--plots")
    with _explained():
        first = files.read_either(file)
        made = first if isinstance(first, Plan) else None
        if made is None and of is not None:
            raise UsageError("--profile belongs to a PLAN", hint=f"{file} is a profile itself")
        profile = files.read_profile(of) if of is not None else first if made is None else None
        assert not isinstance(profile, Plan)  # noqa: S101 (for the type checker)
        if made is not None and profile is not None:
            broken = check.check(profile, made)
            if broken:
                raise UsageError(
                    f"{file}: {broken[0]}",
                    hint=f"is {of} the profile it was made of? {len(broken)} rules are broken",
                )
    if as_json:
        output.show_json(_everything(profile, made))
    else:
        _show(profile, made)
    if plots is not None:
        _plot(profile, made, plots)


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    from sentinel.planner.errors import BudgetError, PlannerError

    try:
        yield
    except BudgetError as e:
        raise UsageError(
            str(e), hint=f"--budget {e.floor} is the smallest that will do; or --spill"
        ) from None
    except PlannerError as e:
        raise UsageError(str(e)) from None


def _everything(profile: Profile | None, made: Plan | None) -> dict[str, Any]:
    from sentinel.planner import explain as numbers

    return {
        **({"profile": numbers.characterise(profile)} if profile is not None else {}),
        **({"plan": _summary(made)} if made is not None else {}),
    }


def _summary(made: Plan) -> dict[str, Any]:
    nodes = [group.node for group in made.groups]
    return {
        "budget": made.budget,
        "reserved": made.reserved,
        "arena": made.arena,
        "interval_layers": made.interval_layers,
        "intervals": len(made.intervals),
        "groups": len(nodes),
        "born_on_node_0": nodes.count(0),
        "promotions": sum(move.to == 0 for move in made.moves),
        "demotions": sum(move.to == 1 for move in made.moves),
        "predicted": made.predicted,
        "made": made.made,
    }


def _show(profile: Profile | None, made: Plan | None) -> None:
    from results.units import digits, duration, percent
    from sentinel.planner import explain as numbers

    if profile is not None:
        step = numbers.characterise(profile)
        lines = [
            ("step", f"{duration(step['step_ns'])} ({step['clock']} clock), everything in slow memory"),
            ("operations", f"{step['ops']} in {step['layers']} layers"),
            ("tensors", f"{step['tensors']}, {output.size(step['allocated_bytes'])} allocated in the step"),
            ("peak", output.size(step["peak_bytes"])),
            ("accesses", f"{step['accesses']} of pages, counted by {step['counts']}"),
            *(
                (
                    f"hottest {percent(hot['of_bytes'])}",
                    f"of the bytes get {percent(hot['of_accesses'])} of accesses",
                )
                for hot in step["hottest"]
            ),
            *(("warning", warning) for warning in step["warnings"]),
        ]
        output.show(output.rows(("profile", ""), lines))
        click.echo()
        columns = ("lifetime", "size", "tensors", "of tensors", "bytes", "of accesses")
        output.show(
            output.rows(
                columns,
                [
                    (
                        row["lifetime"],
                        row["size"],
                        str(row["tensors"]),
                        percent(row["of_tensors"]),
                        output.size(row["bytes"]),
                        percent(row["of_accesses"]),
                    )
                    for row in step["classes"]
                ],
            )
        )
    if made is None:
        return
    if profile is not None:
        click.echo()
    output.show(_table_of(made))
    click.echo()
    best = made.predicted["step_ns"]
    tried = [
        (
            one["rule"],
            str(one["interval_layers"]),
            duration(one["step_ns"]),
            digits(one["step_ns"] / best),
            duration(one["exposed_ns"]),
            f"{one['moves']}, {output.size(one['moved_bytes'])}",
            output.size(one["needed_bytes"]) + ("" if one["fits"] else ", too much"),
        )
        for one in made.predicted.get("candidates", ())
    ]
    head = ("candidate", "layers", "step", "to best", "exposed", "moves", "needed at once")
    output.show(output.rows(head, tried))


def _table_of(made: Plan) -> Any:
    """The plan in a few lines."""
    from results.units import duration, percent

    predicted, summary = made.predicted, _summary(made)
    step = predicted["step_ns"]
    held = predicted.get("pool_bytes", made.reserved)
    fast, slow = predicted.get("fast_ns", 0), predicted.get("slow_ns", 0)
    lines = [
        ("budget", f"{output.size(made.budget)}, {output.size(held)} of it for short-lived tensors"),
        ("rule", str(predicted.get("rule", "-"))),
        ("intervals", f"{summary['intervals']}, of {made.interval_layers} layers"),
        ("why", str(predicted.get("why", "-"))),
        ("predicted step", f"{duration(step)}; all fast {duration(fast)}, all slow {duration(slow)}"),
        ("of all-fast speed", percent(fast / step) if step else "-"),
        ("exposed", duration(predicted["exposed_ns"])),
        (
            "moves",
            f"{summary['promotions']} promotions, {summary['demotions']} demotions, "
            f"{output.size(predicted['moved_bytes'])} in a step",
        ),
        ("groups", f"{summary['groups']}, {summary['born_on_node_0']} of them born in fast memory"),
    ]
    return output.rows(("plan", ""), lines)


def _plot(profile: Profile | None, made: Plan | None, folder: Path) -> None:
    from sentinel.cli import plan_plots
    from testbed.common.progress import note

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _explained():
            names = plan_plots.write(profile, made, folder)
    except OSError as e:
        raise UsageError(f"{folder}: cannot be written: {e.strerror}") from None
    note(f"plots in {folder}: {', '.join(names)}")
