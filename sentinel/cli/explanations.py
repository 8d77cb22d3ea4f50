# SPDX-License-Identifier: Apache-2.0
"""`sentinel explain`: what profiles and plans have, and how a run executed its plans."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sentinel.cli import inputs, output
from sentinel.cli.plans import plan_table, summary, usage_errors
from testbed.common.errors import UsageError

if TYPE_CHECKING:
    from sentinel.planner.formats.plan import Plan
    from sentinel.planner.formats.profile import Profile

_FILE = click.Path(path_type=Path)
_MOST_OF_A_CELL, _MOST_OF_A_RUN = 50, 5  # moves that the text lists


@click.command(
    epilog="""\b
Examples:
  sentinel explain profile.json.gz                                  sizes, lifetimes, accesses
  sentinel explain profile.plan.json                                the plan and its candidates
  sentinel explain profile.plan.json --profile profile.json.gz --plots plots
  sentinel explain runs/p                                           its plans, and how they ran
  sentinel explain runs/p "lstm b8, sentinel-opt, 20%" --html step.html
"""
)
@click.argument("file", metavar="PROFILE|PLAN|RUN", type=_FILE)
@click.argument("cell", required=False)
@click.option("--repeat", type=click.IntRange(0, 999), help="A repeat of the RUN (default: the first).")
@click.option("--html", type=_FILE, help="Draw the planned and measured steps of the RUN in this file.")
@click.option("--profile", "profile_file", type=_FILE, help="Profile of the PLAN, for more tables and plots.")
@click.option("--plots", type=_FILE, metavar="FOLDER", help="Write plots as PNG and SVG.")
@output.json_option
def explain(
    file: Path,
    cell: str | None,
    repeat: int | None,
    html: Path | None,
    profile_file: Path | None,
    plots: Path | None,
    as_json: bool,
) -> None:
    """Show tables and plots of a profile or a plan, or how a run executed its plans.

    For the folder of a RUN, each cell with a plan, or CELL alone, is set against its measured step with the
    median time: the planned figures, and the moves that were late or not executed, with the reason. CELL is
    an id, its beginning, or a label.
    """
    if os.path.isdir(file):  # noqa: PTH112 -- False for names that the system refuses
        if profile_file is not None or plots is not None:
            raise UsageError("--profile and --plots are for a PROFILE or a PLAN", hint=f"{file} is a folder")
        _explain_run(file, cell, repeat, html, as_json=as_json)
    elif cell is not None or repeat is not None or html is not None:
        raise UsageError("CELL, --repeat and --html need a RUN", hint=f"{file} is not the folder of a run")
    else:
        _explain_file(file, profile_file, plots, as_json=as_json)


def _explain_run(
    folder: Path, cell: str | None, repeat: int | None, html: Path | None, *, as_json: bool
) -> None:
    from results import explain as explanations
    from results import explain_page, explain_report
    from testbed.common import places
    from testbed.common.progress import note

    if html is not None:
        places.check_file(html, "--html")
    run = inputs.read_run(folder)
    found, warnings = explanations.explain(run, cell, repeat)
    inputs.warn(warnings)
    if as_json:
        output.show_json(explain_report.to_dict(found, warnings))
    elif found:
        most = _MOST_OF_A_CELL if cell is not None else _MOST_OF_A_RUN
        click.echo("\n\n".join(explain_report.text(explanation, most=most) for explanation in found))
    if html is not None:
        explain_page.write(found, html, title=str(folder))
        note(f"timeline in {html}")


def _explain_file(file: Path, profile_file: Path | None, plots: Path | None, *, as_json: bool) -> None:
    from sentinel.planner.check import check
    from sentinel.planner.formats import files
    from sentinel.planner.formats.plan import Plan
    from testbed.common import places
    from testbed.common.files import check_input

    check_input(file)
    if profile_file is not None:
        check_input(profile_file)
    if plots is not None:
        places.check_folder(plots, "--plots")
    with usage_errors():
        document = files.read_profile_or_plan(file)
        if isinstance(document, Plan):
            plan = document
            profile = files.read_profile(profile_file) if profile_file is not None else None
        else:
            plan, profile = None, document
            if profile_file is not None:
                raise UsageError("--profile needs a PLAN", hint=f"{file} is a profile")
        if plan is not None and profile is not None and (broken := check(profile, plan)):
            raise UsageError(
                f"{file}: {broken[0]}",
                hint=f"was the plan made from {profile_file}? It breaks {len(broken)} rules",
            )
    if as_json:
        output.show_json(_json(profile, plan))
    else:
        _show(profile, plan)
    if plots is not None:
        _plot(profile, plan, plots)


def _json(profile: Profile | None, plan: Plan | None) -> dict[str, Any]:
    from sentinel.planner.explain import characterise

    return {
        **({"profile": characterise(profile)} if profile is not None else {}),
        **({"plan": summary(plan)} if plan is not None else {}),
    }


def _show(profile: Profile | None, plan: Plan | None) -> None:
    if profile is not None:
        _show_profile(profile)
    if profile is not None and plan is not None:
        click.echo()
    if plan is not None:
        output.show(plan_table(plan))
        click.echo()
        output.show(_candidate_table(plan))


def _show_profile(profile: Profile) -> None:
    from results.units import duration, percent
    from sentinel.planner.explain import characterise

    step = characterise(profile)
    lines = [
        ("step", f"{duration(step['step_ns'])} ({step['clock']} clock), all tensors in slow memory"),
        ("operations", f"{step['ops']} in {step['layers']} layers"),
        ("tensors", f"{step['tensors']}; {output.size(step['allocated_bytes'])} allocated in the step"),
        ("peak", output.size(step["peak_bytes"])),
        ("page accesses", f"{step['accesses']} (counts: {step['counts']})"),
        *(
            (f"hottest {percent(row['of_bytes'])}", f"{percent(row['of_accesses'])} of accesses")
            for row in step["hottest"]
        ),
        *(("warning", warning) for warning in step["warnings"]),
    ]
    output.show(output.rows(("profile", ""), lines))
    click.echo()
    rows = [
        (
            row["lifetime"],
            row["size"],
            str(row["tensors"]),
            percent(row["of_tensors"]),
            output.size(row["bytes"]),
            percent(row["of_accesses"]),
        )
        for row in step["classes"]
    ]
    output.show(output.rows(("lifetime", "size", "tensors", "% of tensors", "bytes", "% of accesses"), rows))


def _candidate_table(plan: Plan) -> Any:
    from results.units import digits, duration

    step_ns = plan.predicted["step_ns"]
    rows = [
        (
            candidate["rule"],
            str(candidate["interval_layers"]),
            duration(candidate["step_ns"]),
            digits(candidate["step_ns"] / step_ns),
            duration(candidate["exposed_ns"]),
            f"{candidate['moves']}, {output.size(candidate['moved_bytes'])}",
            output.size(candidate["needed_bytes"]) + ("" if candidate["fits"] else " (exceeds budget)"),
        )
        for candidate in plan.predicted.get("candidates", ())
    ]
    head = ("candidate", "layers", "step", "vs plan", "exposed", "migrations", "Tensor(MIL)")
    return output.rows(head, rows)


def _plot(profile: Profile | None, plan: Plan | None, folder: Path) -> None:
    from sentinel.cli import plan_plots
    from testbed.common.progress import note

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with usage_errors():
            names = plan_plots.write(profile, plan, folder)
    except OSError as e:
        raise UsageError(f"{folder}: cannot be written: {e.strerror}") from None
    note(f"wrote plots to {folder}: {', '.join(names)}")
