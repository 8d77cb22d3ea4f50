# SPDX-License-Identifier: Apache-2.0
"""The HTML page of a run: one file that loads nothing from anywhere.

Its content security policy lets the browser execute the page's own script, and nothing else that a name in
the records might contain.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from results import accuracy, columns, notes, summary
from results.accuracy import Accuracy
from results.plans import Planned
from results.plots import colours
from results.rows import Row
from results.runs import Run
from results.tables import BREAK, INNER_BREAK
from results.units import duration, percent, printable
from testbed.common import files
from testbed.common.disk import explained_disk_errors
from testbed.common.errors import UsageError

_MAX_STEPS = 24  # plots of planned steps; more would make the page large
_MAX_ITEMS = 100  # warnings, failures, values


@dataclass(frozen=True)
class Item:
    """A cell of a table: pieces of text that do not wrap, and a key to sort by."""

    pieces: list[str]
    key: columns.Key


@dataclass(frozen=True)
class PlannedStep:
    """A cell with a plan: its planned and measured figures side by side, and its predicted steps."""

    row: Row
    figures: list[tuple[str, str, str]]
    panels: list[Any]


def write(run: Run, path: Path | str) -> Path:
    """Write the page and return its path. Raises `UsageError` if the file cannot be written."""
    from results.plots import accuracy as accuracy_plots  # imports matplotlib, which takes a second
    from results.plots import bars, headline

    data = summary.build(run)
    known = [row for row in data.rows if row.known]
    shown = columns.columns(known)
    tensors = bars.tensors(data.rows)
    accuracies = accuracy.by_profile((title, planned) for row in data.rows for title, planned in _plans(row))
    text = render(
        "report.html.j2",
        data=data,
        columns=shown,
        lines=[
            (colours.css_name(row.policy_name), [Item(pieces(c.text(row)), c.key(row)) for c in shown])
            for row in known
        ],
        pending=[row.id for row in data.rows if not row.known],
        headline=headline.headline(data.rows),
        tensors=tensors,
        residency=[] if tensors else bars.residency(data.rows),
        times=bars.step_times(data.rows),
        planned=_planned_steps(data.rows),
        accuracies=[_accuracy(name, found) for name, found in accuracies],
        accuracy_panels=accuracy_plots.accuracies(accuracies),
        max_steps=_MAX_STEPS,
        no_performance=notes.NO_PERFORMANCE,
        resolved=json.dumps(run.info.resolved, indent=2, sort_keys=True, ensure_ascii=False),
    )
    write_text(Path(path), text)
    return Path(path)


def render(template: str, **values: Any) -> str:
    """Return the page of a template in `results/templates`, with the script and colours of all pages."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("results", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = _script()
    return environment.get_template(template).render(
        css_colours=colours.css_colours(),
        css_policies=colours.css_policies(),
        css_name=colours.css_name,
        max_items=_MAX_ITEMS,
        script=Markup(script),  # noqa: S704 -- a file of this package
        script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        **values,
    )


def write_text(target: Path, page: str) -> None:
    """Write a page, atomically. Raises `UsageError` if it cannot be written."""
    if target.is_dir():
        raise UsageError(f"{target}: is a folder", hint=f"give a file name, such as {target / 'report.html'}")
    try:
        with explained_disk_errors(target):
            files.write_atomic(target, page)
    except OSError as e:
        raise UsageError(f"{target}: cannot be written: {e.strerror}") from None


def _script() -> str:
    """Return the page's script, in comments that make it valid both in HTML and in XML."""
    source = Path(__file__).with_name("templates") / "report.js"
    return f"//<![CDATA[\n{source.read_text()}//]]>"


def _planned_steps(rows: Sequence[Row]) -> list[PlannedStep]:
    """Return the cells with plans, the first `_MAX_STEPS` plots among them."""
    from results.plots import step

    steps: list[PlannedStep] = []
    count = 0
    for n, row in enumerate(rows):
        panels = []
        for k, (title, planned) in enumerate(_plans(row)):
            panel = None
            if count < _MAX_STEPS:
                panel = step.step(planned, row.policy_name, title=title, name=f"step{n}-{k}")
            if panel is not None:
                panels.append(panel)
                count += 1
        if row.plans:
            steps.append(PlannedStep(row, _planned_and_measured(row), panels))
    return steps


def _plans(row: Row) -> list[tuple[str, Planned]]:
    """Return the plans of a cell, each with the name of its step."""
    several = len(row.plans) > 1
    return [(f"{row.model}{f', step {each.kind}' if several else ''}", each) for each in row.plans]


def _accuracy(name: str, found: Accuracy) -> list[str]:
    """Return a line of the table of accuracies."""
    shares = (found.ratio, found.common, found.hottest)
    ratio, common, hottest = ("-" if math.isnan(share) else percent(share) for share in shares)
    correlation = "-" if math.isnan(found.correlation) else f"{found.correlation:.2f}"
    exact = duration(float(found.exact_ns.sum()))
    return [name, f"{len(found.size)} {found.subject}", exact, ratio, correlation, common, hottest]


def _planned_and_measured(row: Row) -> list[tuple[str, str, str]]:
    """Return what a cell's plan predicts for a step and what the step did; `-` if not known."""
    p, m, s = row.prediction, row.migration, row.summary
    step_ns = s.centre_ns if s else None
    traffic = [planned.traffic for planned in row.plans]
    estimated = traffic[0] if len(traffic) == 1 else None  # how often a step runs each kind is not recorded
    return [
        ("step time", duration(p.step_ns) if p else "-", duration(step_ns) if step_ns else "-"),
        ("promoted", columns.size(p.promoted) if p else "-", columns.size(m.promoted) if m else "-"),
        ("demoted", columns.size(p.demoted) if p else "-", columns.size(m.demoted) if m else "-"),
        (
            "exposed time",
            columns.exposed(p.exposed_ns, p.step_ns).replace(BREAK, " ") if p else "-",
            columns.exposed(m.exposed_ns, step_ns).replace(BREAK, " ") if m else "-",
        ),
        (
            "memory traffic (planned: from the profiler's counts)",
            columns.size(estimated) if estimated is not None else "-",
            columns.size(row.traffic) if row.traffic is not None else "-",
        ),
        ("promotions late at their wait", "-", columns.size(m.late) if m else "-"),
        ("not moved after two attempts", "-", columns.size(m.failed) if m else "-"),
        ("born on node 1 for lack of room", "-", columns.size(m.crowded) if m else "-"),
    ]


def pieces(text: str) -> list[str]:
    """Split text where it may wrap, but not within an interval: pages are wide enough."""
    return text.replace(INNER_BREAK, " ").split(BREAK) if text else []


def _printable(value: Any) -> Any:
    """Remove control characters other than line breaks and tabs, which XML does not allow; keep markup."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return "".join(c for c in value if c in "\n\t" or printable(c) or c == " ")
