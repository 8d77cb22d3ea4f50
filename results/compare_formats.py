# SPDX-License-Identifier: Apache-2.0
"""A comparison as Markdown, as JUnit XML, and as a page of HTML."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from xml.etree import ElementTree as ET

from results import compare_report
from results import junit as xml
from results.compare import Comparison, Pair, headline
from results.tables import BREAK
from results.units import without_control

_FAILED = ("slower",)


def markdown(comparison: Comparison) -> str:
    """Return a section of GitHub-flavoured Markdown, such as for a job's summary."""
    frame = compare_report.frame(comparison.pairs)
    columns = [str(name) for name in frame]
    lines = [f"**{escaped(headline(comparison))}**", ""]
    if comparison.pairs:
        lines += [_row(columns), _row("---" for _ in columns)]
        lines += [_row(escaped(text.replace(BREAK, " ")) for text in line) for line in frame.to_numpy()]
        lines.append("")
    details = [
        f"A: {comparison.a.title}",
        f"B: {comparison.b.title}",
        *compare_report.differences(comparison),
        *compare_report.differing_losses(comparison),
        *compare_report.unmatched(comparison),
        *(f"warning: {warning}" for warning in comparison.warnings),
        *compare_report.notes(comparison),
    ]
    lines += [f"- {escaped(line)}" for line in details]
    return "\n".join(lines) + "\n"


def junit(comparison: Comparison, *, suite: str = "sentinel compare") -> str:
    """Return JUnit XML with a test case per cell.

    A slower cell is a failure. One without a verdict is skipped, and one that only A has is an error.
    """
    root = ET.Element("testsuites")
    element = ET.SubElement(root, "testsuite", name=suite, tests=str(len(comparison.pairs)))
    for pair in comparison.pairs:
        _case(element, pair)
    for cell in comparison.only_a:
        case = xml.case(element, "missing", comparison.axes.label(cell.resolved))
        ET.SubElement(case, "error", message="the cell is only in A")
    for name in ("failure", "error", "skipped"):
        plural = {"failure": "failures", "error": "errors", "skipped": "skipped"}[name]
        element.set(plural, str(len(element.findall(f"testcase/{name}"))))
    element.set("tests", str(len(element.findall("testcase"))))
    ET.SubElement(element, "system-out").text = without_control(headline(comparison))
    return xml.document(root)


def html(comparison: Comparison) -> str:
    """Return a self-contained page."""
    from results import compare_page  # imports matplotlib, which takes a second

    return compare_page.render(
        comparison,
        a=comparison.a.title,
        b=comparison.b.title,
        headline=headline(comparison),
        notes=compare_report.notes(comparison),
        differences=[*compare_report.differences(comparison), *compare_report.unmatched(comparison)],
    )


FORMATS: dict[str, Callable[[Comparison], str]] = {"markdown": markdown, "junit": junit, "html": html}


def _case(parent: ET.Element, pair: Pair) -> None:
    case = xml.case(parent, pair.model, pair.label)
    verdict = pair.verdict
    r = pair.ratio
    figures = f"B/A {r.value:.4f}" if r else "no ratio"
    if r and r.low is not None and r.high is not None:
        figures += f" ({r.low:.4f} to {r.high:.4f})"
    if verdict.word in _FAILED:
        ET.SubElement(case, "failure", message=without_control(f"{verdict}: {figures}"))
    elif verdict.word in ("inconclusive", "not comparable"):
        ET.SubElement(case, "skipped", message=without_control(str(verdict)))
    ET.SubElement(case, "system-out").text = without_control(f"{verdict}\n{figures}")


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def escaped(text: str) -> str:
    """Escape text that could be markup, or end a table's cell."""
    text = " ".join(without_control(text).split())
    for character in "\\`*_{}[]<>|~#":
        text = text.replace(character, f"\\{character}")
    return text
