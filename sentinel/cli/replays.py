# SPDX-License-Identifier: Apache-2.0
"""`sentinel record` and `sentinel replay`: trace a step once, and ask what any policy makes of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sentinel.cli import options, output
from sentinel.cli.plans import usage_errors

if TYPE_CHECKING:
    from experiments.replays import Replays, Row
    from results.executed import Executed
    from sentinel.planner.policy import Mechanism

_PATH = click.Path(path_type=Path)
_MOST = 50  # moves that --explain lists


@click.command(
    epilog="""\b
Examples:
  sentinel record experiments/suites/ci.yaml -o traces      one file for each model of the suite
"""
)
@click.argument("suite", type=_PATH)
@click.option("-o", "--output", "out", type=_PATH, default="traces", help="Folder for the traces.")
@options.source_location
@options.uri
def record(suite: Path, out: Path, location: str | None, uri: str | None) -> None:
    """Record all memory accesses of a step of each model in the file SUITE.

    Only the emulator can record, so the suite needs a preset.
    """
    from experiments import matrix, session
    from experiments.backend import VirtualMachines
    from testbed.common import places
    from testbed.common.errors import UsageError
    from testbed.common.progress import note

    planned = matrix.load(suite)
    preset = planned.preset
    if preset is None or not planned.suite.runtime:
        raise UsageError(
            f"{suite}: only a suite with a preset and a policy that needs the runtime can be recorded"
        )
    places.check_roots(cache=True, state=True)
    places.check_folder(out, "--output")
    backend = VirtualMachines(location=location, uri=uri)
    artifacts = backend.prepare(planned)
    out.mkdir(parents=True, exist_ok=True)
    for cell in {repr(c.model or c.script): c for c in planned.cells}.values():
        work = session.work_of(planned, cell)
        waiting = backend.barrier_snapshot(artifacts.boot, work)
        trace = backend.access_trace(waiting, preset, work=work.name)
        target = out / f"{_file_name(planned, cell)}.npz"
        shutil.copyfile(trace, target)
        note(f"{target}: {output.size(target.stat().st_size)}")


def _file_name(planned: Any, cell: Any) -> str:
    label = planned.axes.model(cell.resolved)
    return "".join(c if c.isalnum() or c in "-." else "-" for c in label)


@click.command(
    epilog="""\b
Examples:
  sentinel replay traces/lstm-b8.npz --preset optane-6dimm --fast-memory 10,20,40%
  sentinel replay traces/lstm-b8.npz --preset cxl-asic --fast-memory 20% --policy sentinel-opt
  sentinel replay traces/lstm-b8.npz --preset optane-6dimm --plan plan.json --explain
"""
)
@click.argument("trace", type=_PATH)
@click.option("--preset", required=True, metavar="NAME|FILE", help="Memory system; see `sentinel preset`.")
@click.option("--fast-memory", metavar="LIST", help="Budgets: sizes, or shares of the peak, with commas.")
@click.option("--policy", "names", default=options.ALL, show_default=True, help="Policies, with commas.")
@click.option("--plan", "plan_file", type=_PATH, help="Replay this plan instead, with its own budget.")
@click.option("--explain", is_flag=True, help="Set the moves of the --plan against their execution.")
@options.migration_cores
@options.mechanism
@click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Seed of sampled misses."
)
@output.json_option
def replay(
    trace: Path,
    preset: str,
    fast_memory: str | None,
    names: str,
    plan_file: Path | None,
    explain: bool,
    migration_cores: int,
    mechanism: Mechanism,
    seed: int,
    as_json: bool,
) -> None:
    """Replay the step recorded in the file TRACE under policies and budgets.

    The timing model runs on the recorded accesses; no machine is needed. Plans are made from the costs that
    the trace has.
    """
    from experiments import replays
    from results import explain_report
    from sentinel.cli.bounds import budgets_of
    from sentinel.planner.formats import files
    from sentinel.replay import trace as traces
    from testbed.common.errors import UsageError
    from testbed.common.files import check_input
    from testbed.common.progress import step
    from testbed.timing import preset as presets

    if explain and plan_file is None:
        raise UsageError("--explain needs a --plan")
    player = replays.Replays(
        traces.read(trace), trace, presets.load(preset), migration_cores=migration_cores, seed=seed
    )
    with usage_errors():
        if plan_file is not None:
            check_input(plan_file)
            rows = [player.run_plan(plan_file.name, files.read_plan(plan_file))]
        else:
            budgets = budgets_of(fast_memory, player.peak) if fast_memory else []
            with step(f"Replaying {player.trace.name}") as progress:

                def on_policy(name: str) -> None:
                    progress.update(None, name)

                rows = list(_rows(player, names, budgets, mechanism=mechanism, on_policy=on_policy))
    shown = [_to_dict(row, player) for row in rows]
    explained = _explained(rows[0], player) if explain else None
    if as_json:
        made = {"measured": "replayed", "trace": str(trace), "preset": preset, "seed": seed}
        output.show_json(
            {
                **made,
                "rows": shown,
                **({"explained": explain_report.executed_dict(explained)} if explained else {}),
            }
        )
    else:
        _show(shown, trace, preset)
        if explained is not None:
            click.echo("\n" + "\n".join(explain_report.body(explained, [], most=_MOST)))


def _rows(
    player: Replays,
    names: str,
    budgets: list[int],
    *,
    mechanism: Mechanism,
    on_policy: Callable[[str], None],
) -> Iterator[Row]:
    """Each policy with each budget; those that a budget does not affect once.

    Of `all` policies, those are left out that cannot be replayed, or need a budget that is not given.
    """
    for policy in options.chosen_policies(names):
        affected = bool(policy.plan or policy.guest.limit or policy.replay)
        if names == options.ALL and not (budgets if affected else player.can_place(policy)):
            continue
        on_policy(policy.name)
        each: list[int | None] = [*budgets] if affected and budgets else [None]
        for budget in each:
            yield player.run(policy, budget, mechanism=mechanism)


def _explained(row: Row, player: Replays) -> Executed:
    """Set a replayed plan against its prediction from the trace's costs."""
    from results import executed
    from results.records import Step
    from sentinel.planner.errors import PlannerError
    from sentinel.planner.simulate import simulate

    assert row.plan is not None  # noqa: S101 -- a replayed plan
    ns = max(1, round(row.replayed.step_ns))
    before, after = (
        Step(step=number, warmup=False, guest_ns=ns, runtime=runtime)
        for number, runtime in enumerate(row.statistics())
    )
    try:
        simulation = simulate(player.costs.profile, row.plan)
    except PlannerError:
        simulation = None  # the plan does not have the figures that it was made with
    return executed.execute(row.plan, simulation, before, after, ns=row.replayed.step_ns)


def _to_dict(row: Row, player: Replays) -> dict[str, Any]:
    replayed, page = row.replayed, 4096
    predicted = row.plan.predicted if row.plan is not None else {}
    return {
        "policy": row.policy,
        "budget": row.budget,
        "step_ns": replayed.step_ns,
        "fraction": player.fast.step_ns / replayed.step_ns,
        "predicted_ns": predicted.get("step_ns"),
        "exposed_ns": replayed.exposed_ns,
        "promoted_bytes": replayed.pages["promoted"] * page,
        "demoted_bytes": replayed.pages["demoted"] * page,
        "misses": replayed.misses,
        "pool_pages": replayed.pool_pages,
        "pages": replayed.pages,
        "remaps": replayed.remaps,
        "counters": replayed.counters,
    }


def _show(rows: list[dict[str, Any]], trace: Path, preset: str) -> None:
    from results.units import duration, percent

    table = [
        (
            row["policy"],
            "-" if row["budget"] is None else output.size(row["budget"]),
            duration(row["step_ns"]),
            percent(row["fraction"]),
            "-" if row["predicted_ns"] is None else duration(row["predicted_ns"]),
            duration(row["exposed_ns"]),
            output.size(row["promoted_bytes"]),
            output.size(row["demoted_bytes"]),
        )
        for row in rows
    ]
    header = ("policy", "budget", "step", "of fast-only", "predicted", "exposed", "promoted", "demoted")
    output.show(output.rows(header, table))
    click.echo(f"replayed from {trace} with {preset}, not measured")
