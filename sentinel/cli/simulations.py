# SPDX-License-Identifier: Apache-2.0
"""`sentinel simulate`: every policy on a profiled step, predicted without a machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sentinel.cli import options, output
from sentinel.cli.plans import usage_errors
from testbed.common.errors import UsageError

if TYPE_CHECKING:
    from experiments.profiles import Profiles
    from experiments.simulation import Prediction, Simulation
    from sentinel.planner.formats.figures import Figures
    from sentinel.planner.policy import Mechanism

_FILE = click.Path(path_type=Path)


@click.command(
    epilog="""\b
Examples:
  sentinel simulate profile.json.gz
  sentinel simulate resnet.json.gz mobilenet.json.gz --policy sentinel-opt,first-touch --fast-memory 20%
  sentinel simulate profile.json.gz --preset cxl-asic --cache "32 MiB" --format markdown
  sentinel simulate profile.json.gz --mechanism frames --migration-cores 4
  sentinel simulate profile.json.gz --fast-memory 20% --plan profile.plan.json
"""
)
@click.argument("profile_files", metavar="PROFILE...", type=_FILE, nargs=-1, required=True)
@click.option(
    "--policy",
    "policy_names",
    metavar="all|NAME,...",
    default=options.ALL,
    show_default=True,
    help="See `sentinel policy list`.",
)
@click.option(
    "--fast-memory",
    metavar="LIST",
    default="10%,20%,40%,60%",
    show_default=True,
    help="Budgets: sizes, or shares of the peak, with commas.",
)
@click.option(
    "--preset",
    metavar="NAME|FILE",
    default="optane-6dimm",
    show_default=True,
    help="Memory system; see `sentinel preset`.",
)
@click.option("--cache", metavar="SIZE", help="Last-level cache, such as '32 MiB' (default: the preset's).")
@options.mechanism
@options.migration_cores
@click.option("--plan", "plan_file", type=_FILE, help="Predict this plan, too; for one PROFILE.")
@click.option(
    "--fast-step-ns",
    type=output.Number(1, 1e18),
    help="Measured duration of a step with all tensors in fast memory; for one PROFILE.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "markdown", "json"]),
    default="table",
    show_default=True,
    help="Format of the output.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
def simulate(
    profile_files: tuple[Path, ...],
    policy_names: str,
    fast_memory: str,
    preset: str,
    cache: str | None,
    mechanism: Mechanism,
    migration_cores: int,
    plan_file: Path | None,
    fast_step_ns: float | None,
    form: str,
    as_json: bool,
) -> None:
    """Predict the step of each PROFILE under each policy and budget, beside the proven bound.

    PROFILE is a file, or a folder with one for each kind of step. Nothing is measured: every result is marked
    as simulated.
    """
    from experiments import simulation
    from testbed.common.progress import step

    figures = _figures(preset, cache, migration_cores)
    policies = options.chosen_policies(policy_names)
    if policy_names == options.ALL:
        policies = [policy for policy in policies if policy.replay is None]
    shares = options.budgets(fast_memory)
    if len(profile_files) > 1 and (plan_file is not None or fast_step_ns is not None):
        option = "--plan" if plan_file is not None else "--fast-step-ns"
        raise UsageError(f"{option} is for one PROFILE, not for {len(profile_files)}")
    loaded = [(str(path), _load(path, fast_step_ns)) for path in profile_files]
    simulations = []
    for name, steps in loaded:
        with step(f"Simulating {name}") as shown, usage_errors():
            result = simulation.run(
                name,
                steps,
                policies,
                shares,
                figures,
                mechanism=mechanism,
                on_cell=lambda cell: shown.update(None, cell),
            )
            simulations.append(_with_plan(result, steps, plan_file, figures))
    if as_json or form == "json":
        output.show_json(simulation.document(simulations, figures, preset))
    elif form == "markdown":
        click.echo("\n".join(_markdown(each) for each in simulations), nl=False)
    else:
        for number, each in enumerate(simulations):
            if number:
                click.echo()
            output.show(output.rows(_COLUMNS, map(_line, each.predictions), caption=_caption(each)))


def _figures(preset: str, cache: str | None, migration_cores: int) -> Figures:
    from dataclasses import replace

    from experiments import profiles
    from testbed.common.sizes import parse_size
    from testbed.timing import preset as presets

    figures = profiles.figures_of(presets.load(preset), helpers=migration_cores)
    if cache is None:
        return figures
    try:
        return replace(figures, cache_bytes=parse_size(cache))
    except ValueError as e:
        raise UsageError(f"--cache: {e}") from None


def _load(path: Path, fast_step_ns: float | None) -> Profiles:
    from experiments import simulation
    from testbed.common.files import check_input

    if not path.is_dir():
        check_input(path)
    with usage_errors():
        return simulation.load(path, fast_step_ns)


def _with_plan(result: Simulation, steps: Profiles, plan_file: Path | None, figures: Figures) -> Simulation:
    from experiments import simulation
    from sentinel.planner.formats import files
    from testbed.common.files import check_input

    if plan_file is None:
        return result
    check_input(plan_file)
    if len(steps.kinds) > 1:
        raise UsageError(f"--plan is for one kind of step, and {result.name} has {len(steps.kinds)}")
    (profiled,) = steps.kinds.values()
    return simulation.with_plan(result, profiled, files.read_plan(plan_file), str(plan_file), figures)


_COLUMNS = ("result", "policy", "budget", "step", "x fast-only", "speed", "moved", "exposed", "bound", "gap")


def _line(row: Prediction) -> tuple[str, ...]:
    from results.units import digits, duration, percent

    size = "" if row.budget is None else output.size(row.budget)
    budget = f"{row.share}, {size}" if row.share.endswith("%") else size
    bound = "" if row.bound_ns is None else duration(row.bound_ns)
    if row.step_ns is None or row.relative_time is None:
        return (row.result, row.policy, budget, row.problem or "-", "", "", "", "", bound, "")
    return (
        row.result,
        row.policy,
        budget,
        duration(row.step_ns),
        digits(row.relative_time),
        digits(1 / row.relative_time),
        output.size(row.promoted_bytes + row.demoted_bytes),
        duration(row.exposed_ns),
        bound,
        "" if row.gap is None else percent(row.gap),
    )


def _caption(each: Simulation) -> str:
    from results.units import digits, duration

    times = f"fast memory only: {duration(each.fast_ns)}, slow: {duration(each.slow_ns)}"
    ratio = f" ({digits(each.slow_ns / each.fast_ns)} times)" if each.fast_ns else ""
    native = each.native
    computing = (
        f"; computing times of {native.processor} ({digits(native.core_speed)} GFLOP/s a core), "
        f"scaled to {digits(native.socket_speed)} GFLOP/s"
        if native
        else ""
    )
    peak = f"peak {output.size(each.peak)}"
    return f"{each.name}: simulated, not measured; {peak}; {times}{ratio}{computing}"


def _markdown(each: Simulation) -> str:
    from results.compare_formats import escaped

    lines = [_COLUMNS, ("---",) * len(_COLUMNS), *(tuple(map(escaped, _line(r))) for r in each.predictions)]
    return "\n".join([f"**{escaped(_caption(each))}**", "", *(f"| {' | '.join(x)} |" for x in lines), ""])
