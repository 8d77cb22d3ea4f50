# SPDX-License-Identifier: Apache-2.0
"""`sentinel compare` and `sentinel gate`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from results.comparability import ACCEPTABLE
from sentinel.cli import options, output, runs
from sentinel.cli.baselines import store_option, store_path
from testbed.common import files
from testbed.common.errors import ExitCode

if TYPE_CHECKING:
    from results.sides import Side

_PATH = click.Path(path_type=Path)
_CODES = {
    "same": ExitCode.OK,
    "regression": ExitCode.REGRESSION,
    "improvement": ExitCode.IMPROVEMENT,
    "inconclusive": ExitCode.INCONCLUSIVE,
    "not comparable": ExitCode.NOT_COMPARABLE,
}
_F = TypeVar("_F", bound=Callable[..., Any])


def _judging(function: _F) -> _F:
    """Add the options that decide verdicts."""
    for option in (
        click.option(
            "--across",
            type=click.Choice(ACCEPTABLE),
            multiple=True,
            help="Compare although this differs; may be repeated.",
        ),
        options.min_effect,
    ):
        function = option(function)
    return function


@click.command(
    epilog="""\b
Examples:
  sentinel compare runs/before runs/after
  sentinel compare runs/a1,runs/a2 runs/b1,runs/b2     several runs a side
  sentinel compare main runs/after --format markdown   with the baseline `main`
"""
)
@click.argument("a")
@click.argument("b")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "markdown", "json", "junit", "html"]),
    default="table",
    show_default=True,
    help="Format of the output.",
)
@_judging
@store_option
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
def compare(
    a: str, b: str, form: str, min_effect: float, across: tuple[str, ...], store: Path | None, as_json: bool
) -> None:
    """Compare B with A: the ratio of step times of each cell, with its interval and a verdict.

    A and B are folders of runs, several of them joined by commas, or names of baselines.
    """
    from results import compare_formats, compare_report, repeatability
    from results import store as stores
    from results.compare import compare as compare_sides

    folder = store_path(store)
    comparison = compare_sides(
        stores.side(folder, a),
        stores.side(folder, b),
        min_effect=min_effect,
        across=across,
        spreads=repeatability.load(folder),
    )
    if as_json or form == "json":
        output.show_json(compare_report.to_dict(comparison))
    elif form == "table":
        output.show(compare_report.table(comparison))
    else:
        click.echo(compare_formats.FORMATS[form](comparison), nl=False)


@click.command(
    epilog="""\b
Examples:
  sentinel gate experiments/suites/ci.yaml --baseline main
  sentinel gate --run runs/ci --baseline main --summary summary.md --junit gate.xml
  sentinel gate --run runs/ci --baseline main --counters --accept improvement
"""
)
@click.argument("suite", type=_PATH, required=False)
@click.option("--baseline", required=True, help="Baseline, or folder of a run, to compare with.")
@click.option("--run", "folder", type=_PATH, help="Judge this run instead of running SUITE.")
@click.option("--out", type=_PATH, help="Folder for the records of SUITE; an existing run is resumed.")
@click.option("--counters", is_flag=True, help="Judge counters that hardly vary, instead of step times.")
@click.option(
    "--accept",
    type=click.Choice(["regression", "improvement", "inconclusive", "not comparable"]),
    multiple=True,
    help="Exit with 0 for this outcome, too; may be repeated.",
)
@click.option("--summary", type=_PATH, help="Append the result as Markdown to this file.")
@click.option("--junit", type=_PATH, help="Write the result as JUnit XML to this file.")
@_judging
@store_option
@options.source_location
@options.uri
@output.json_option
def gate(
    suite: Path | None,
    baseline: str,
    folder: Path | None,
    out: Path | None,
    counters: bool,
    accept: tuple[str, ...],
    summary: Path | None,
    junit: Path | None,
    min_effect: float,
    across: tuple[str, ...],
    store: Path | None,
    location: str | None,
    uri: str | None,
    as_json: bool,
) -> int:
    """Run SUITE, compare it with a baseline, and exit with a code for what changed."""
    from results import store as stores
    from testbed.common import places
    from testbed.common.errors import UsageError

    if (suite is None) == (folder is None):
        raise UsageError("give either a suite or --run", hint="sentinel gate SUITE --baseline NAME")
    for path, name in ((summary, "--summary"), (junit, "--junit")):
        if path is not None:
            places.check_file(path, name)
    root = store_path(store)
    before = stores.side(root, baseline)  # before an hour of measurements
    code = ExitCode.OK
    if suite is not None:
        folder, outcome = runs.measure(suite, out, location=location, uri=uri)
        code = outcome.code
    judged = _judge(before, stores.side(root, str(folder)), root, counters, min_effect, across)
    if summary is not None:
        with summary.open("a") as f:
            f.write(judged.markdown)
    if junit is not None:
        files.write_atomic(junit, judged.junit)
    if as_json:
        output.show_json(judged.record)
    else:
        for table in judged.tables:
            output.show(table)
        click.echo(f"gate: {judged.outcome}")
    if code != ExitCode.OK or judged.outcome in accept:
        return code
    return _CODES[judged.outcome]


class _Judged(NamedTuple):
    """The outcome of a gate in all formats."""

    outcome: str
    tables: list[Any]
    markdown: str
    junit: str
    record: dict[str, Any]


def _judge(
    before: Side, after: Side, store: Path, counters: bool, min_effect: float, across: tuple[str, ...]
) -> _Judged:
    from results import compare_formats, compare_report, gate_report, repeatability
    from results import gate as gates
    from results.compare import compare as compare_sides

    comparison = compare_sides(
        before, after, min_effect=min_effect, across=across, spreads=repeatability.load(store)
    )
    record = compare_report.to_dict(comparison)
    if not counters:
        outcome = gates.of_times(comparison)
        return _Judged(
            outcome,
            [compare_report.table(comparison)],
            f"## Gate: {outcome}\n\n{compare_formats.markdown(comparison)}\n",
            compare_formats.junit(comparison, suite="sentinel gate"),
            {"outcome": outcome, **record},
        )
    outcome, changes, reasons = gates.of_counters(comparison)
    return _Judged(
        outcome,
        [gate_report.table(changes, reasons, comparison.warnings)],
        f"## Gate: {outcome}\n\n{gate_report.markdown(changes, reasons, comparison.warnings)}\n",
        gate_report.junit(changes, reasons, suite="sentinel gate"),
        {"outcome": outcome, "counters": gate_report.to_list(changes), "reasons": reasons, **record},
    )
