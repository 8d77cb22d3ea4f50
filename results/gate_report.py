# SPDX-License-Identifier: Apache-2.0
"""The counters of a gate as a table, as Markdown, as JUnit XML and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree as ET

from rich.text import Text

from results import junit as xml
from results.compare_formats import escaped
from results.gate import CounterChange
from results.tables import Column, Grid, Section
from results.units import digits, without_control

_STYLES = {"more": "red", "fewer": "green", "same": ""}


def table(changes: Sequence[CounterChange], reasons: Sequence[str], warnings: Sequence[str] = ()) -> Grid:
    """Return the table of counters, with the reasons for missing cells and warnings below it."""
    columns = [Column("Cell"), Column("Counter"), *(Column(name, figures=True) for name in ("A", "B"))]
    lines = [
        [
            Text(change.label),
            Text(change.counter.name),
            Text(_range(change)),
            Text(digits(change.value)),
            Text(change.change, _STYLES[change.change]),
        ]
        for change in changes
    ]
    below = [*(f"not comparable: {reason}" for reason in reasons), *(f"warning: {line}" for line in warnings)]
    caption = Text("\n".join(below), "yellow")
    return Grid([*columns, Column("B has")], [Section("", lines)], caption=caption)


def markdown(changes: Sequence[CounterChange], reasons: Sequence[str], warnings: Sequence[str] = ()) -> str:
    """Return the counters that changed, or that none has, with reasons and warnings."""
    changed = [change for change in changes if change.change != "same"]
    lines = [f"{len(changed)} of {len(changes)} counters differ.", ""]
    if changed:
        lines += ["| Cell | Counter | A | B | B has |", "| --- | --- | --- | --- | --- |"]
        lines += [
            f"| {escaped(one.label)} | {escaped(one.counter.name)} | {_range(one)} | {digits(one.value)} "
            f"| {one.change} |"
            for one in changed
        ]
        lines.append("")
    lines += [f"- not comparable: {escaped(reason)}" for reason in reasons]
    return "\n".join([*lines, *(f"- warning: {escaped(line)}" for line in warnings)]) + "\n"


def junit(changes: Sequence[CounterChange], reasons: Sequence[str], *, suite: str) -> str:
    """Return JUnit XML with a test case per counter; more is a failure."""
    root = ET.Element("testsuites")
    failures = sum(change.change == "more" for change in changes)
    element = ET.SubElement(
        root,
        "testsuite",
        name=suite,
        tests=str(len(changes) + len(reasons)),
        failures=str(failures),
        errors="0",
        skipped=str(len(reasons)),
    )
    for change in changes:
        case = xml.case(element, change.label, change.counter.name)
        if change.change == "more":
            message = f"{digits(change.value)} after {_range(change)}"
            ET.SubElement(case, "failure", message=message)
    for reason in reasons:
        case = xml.case(element, "cells", reason)
        ET.SubElement(case, "skipped", message=without_control(reason))
    return xml.document(root)


def to_list(changes: Sequence[CounterChange]) -> list[dict[str, Any]]:
    """Return the counters for JSON."""
    return [
        {
            "label": change.label,
            "counter": change.counter.name,
            "a_low": change.low,
            "a_high": change.high,
            "b": change.value,
            "change": change.change,
        }
        for change in changes
    ]


def _range(change: CounterChange) -> str:
    low, high = digits(change.low), digits(change.high)
    return low if low == high else f"{low} to {high}"
