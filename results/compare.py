# SPDX-License-Identifier: Apache-2.0
"""Two runs side by side: time ratios with their spread, losses, and a verdict where one can be had.

Cells are matched by id, and those left over by all that varies within either run (`labels.Axes`); the keys in
which such a pair differs are told. No verdict on speed is given where times could not mean it: both nodes
alike, different clocks (then there is no ratio either), or different accelerators.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from rich.text import Text

from results import labels, losses
from results.labels import Axes
from results.runs import Cell, Run
from results.stats import CONFIDENCE, Clock, Ratio, Summary, clock_of, ratio, samples, summarise
from results.summary import off_clock, throttled
from results.tables import BREAK, Column, Grid, Section
from results.units import duration, plain

FORMAT = 2

_STYLES = {"faster": "green", "slower": "red"}


@dataclass(frozen=True)
class Pair:
    """A cell of A and its match in B. `ratio` is B's time in units of A's: above 1, B is slower.

    `clock` is that of both; None if they differ, and then there is no ratio. `verdict` is "faster", "slower"
    or "no difference seen" (of B), or begins with "no verdict: ".
    """

    label: str
    setting: str
    model: str
    a: Cell
    b: Cell
    matched: Literal["id", "axes"]
    differs: dict[str, tuple[Any, Any]]
    clock: Clock | None
    before: Summary | None
    after: Summary | None
    ratio: Ratio | None
    losses: losses.Check
    verdict: str


@dataclass(frozen=True)
class Comparison:
    """The matched pairs, and the cells only one run has. `doubts` are of single repeats."""

    a: Run
    b: Run
    axes: Axes
    pairs: list[Pair]
    only_a: list[Cell]
    only_b: list[Cell]
    doubts: list[str]

    def rows(self) -> list[dict[str, Any]]:
        """One mapping per pair, times in nanoseconds, for JSON."""
        return [_row(pair) for pair in self.pairs]

    def to_dict(self) -> dict[str, Any]:
        """All of it, as JSON."""
        return {
            "format": FORMAT,
            "a": str(self.a.path),
            "b": str(self.b.path),
            "rows": self.rows(),
            "matched_by": self.axes.names,
            "only_a": [self._named(cell) for cell in self.only_a],
            "only_b": [self._named(cell) for cell in self.only_b],
            "warnings": self._warnings(),
        }

    def table(self) -> Grid:
        """The comparison for the terminal; losses, differences and unmatched cells stand below."""
        models: dict[str, list[list[Text]]] = {}
        for pair in self.pairs:
            r = pair.ratio
            models.setdefault(pair.model, []).append(
                [
                    Text(pair.setting),
                    Text(duration(pair.before.centre_ns) if pair.before else "-"),
                    Text(duration(pair.after.centre_ns) if pair.after else "-"),
                    Text(f"{r.value:.3f}{BREAK}({r.low:.3f} to {r.high:.3f})" if r else "-"),
                    Text(pair.verdict, style=_STYLES.get(pair.verdict, "")),
                ]
            )
        return Grid(
            [
                Column("Placement"),
                *(Column(title, figures=True) for title in ("A", "B", "B/A")),
                Column("Verdict on B"),
            ],
            [Section(model, lines) for model, lines in models.items()],
            title=Text(f"A: {self.a.path}\nB: {self.b.path}", style="italic"),
            caption=self._below(),
        )

    def _named(self, cell: Cell) -> dict[str, str]:
        return {"cell": cell.id, "label": self.axes.label(cell.resolved)}

    def _warnings(self) -> list[str]:
        return [*self.a.warnings, *self.b.warnings, *self.doubts]

    def _below(self) -> Text:
        text = Text()
        for pair in self.pairs:
            if pair.differs:
                differences = ", ".join(f"{k} {a} -> {b}" for k, (a, b) in pair.differs.items())
                by = "id" if pair.matched == "id" else ", ".join(self.axes.names)
                text.append(f"{pair.label}: matched by {by}; differs in {plain(differences)}\n")
            outcome = pair.losses.outcome
            text.append("losses ").append(outcome, style="bold red" if outcome == "DIFFERENT" else "")
            text.append(f" {pair.label}: {pair.losses.text}\n")
        for name, only in (("A", self.only_a), ("B", self.only_b)):
            for cell in only:
                text.append(f"only in {name}: {self.axes.label(cell.resolved)} ({cell.id})\n", style="yellow")
        for warning in self._warnings():
            text.append(f"warning: {warning}\n", style="yellow")
        clocks = sorted({pair.clock for pair in self.pairs if pair.ratio and pair.clock})
        if clocks:
            text.append(
                f"time per step by the {' or '.join(clocks)} clock, warm-up excluded; above 1: B is slower; "
                f"in parentheses the middle {CONFIDENCE:.0%} of a bootstrap over repeats and steps\n",
                style="dim",
            )
        if any(pair.ratio and pair.ratio.repeats == 1 for pair in self.pairs):
            text.append("where there is one repeat, the spread is that of its steps alone\n", style="dim")
        text.rstrip()
        return text


def compare(a: Run, b: Run) -> Comparison:
    """Match the cells of two runs and hold each pair against each other."""
    axes = Axes.of(*((cell.resolved for cell in run.cells) for run in (a, b)))
    left, right = list(a.cells), list(b.cells)
    pairs = _match(axes, left, right, lambda cell: cell.id, "id")
    pairs += _match(axes, left, right, lambda cell: axes.key(cell.resolved), "axes")
    order = {cell.id: n for n, cell in enumerate(a.cells)}
    pairs.sort(key=lambda pair: order[pair.a.id])
    return Comparison(a, b, axes, pairs, left, right, _doubts(axes, pairs))


def _match(
    axes: Axes,
    left: list[Cell],
    right: list[Cell],
    key: Callable[[Cell], str | None],
    how: Literal["id", "axes"],
) -> list[Pair]:
    """Take out of both lists, and pair, the cells whose key occurs once on each side."""
    pairs = []
    for a in list(left):
        name = key(a)
        candidates = [b for b in right if key(b) == name]
        if name is None or len(candidates) != 1 or sum(key(other) == name for other in left) != 1:
            continue
        left.remove(a)
        right.remove(candidates[0])
        pairs.append(_pair(axes, a, candidates[0], how))
    return pairs


def _doubts(axes: Axes, pairs: list[Pair]) -> list[str]:
    """The repeats whose times could not be used."""
    return [
        f"{side}: {line}"
        for pair in pairs
        for side, cell in (("A", pair.a), ("B", pair.b))
        for line in off_clock(axes, cell, pair.clock or clock_of(cell.repeats))
    ]


def _pair(axes: Axes, a: Cell, b: Cell, how: Literal["id", "axes"]) -> Pair:
    resolved = a.resolved if labels.known(a.resolved) else b.resolved
    both = labels.known(a.resolved) and labels.known(b.resolved)
    flat_a, flat_b = labels.flat(a.resolved), labels.flat(b.resolved)
    keys = labels.differing([a.resolved, b.resolved]) if both else []
    clocks = clock_of(a.repeats), clock_of(b.repeats)
    clock = clocks[0] if clocks[0] == clocks[1] else None
    times_a, times_b = samples(a.repeats, clocks[0]), samples(b.repeats, clocks[1])
    quotient = ratio(times_a, times_b) if clock else None
    return Pair(
        label=axes.label(resolved),
        setting=axes.setting(resolved),
        model=axes.model(resolved),
        a=a,
        b=b,
        matched=how,
        differs={key: (flat_a.get(key), flat_b.get(key)) for key in keys},
        clock=clock,
        before=summarise(times_a) if clock else None,
        after=summarise(times_b) if clock else None,
        ratio=quotient,
        losses=_losses(axes, a, b),
        verdict=_verdict(a, b, quotient),
    )


def _losses(axes: Axes, a: Cell, b: Cell) -> losses.Check:
    title = axes.label(a.resolved)
    if a.repeats and b.repeats and losses.key(a) != losses.key(b):
        return losses.Check(title, "NOTHING TO COMPARE", "model, batch or seed differ")
    sequences = [losses.sequence(axes, a, repeat, side="A: ") for repeat in a.repeats]
    sequences += [losses.sequence(axes, b, repeat, side="B: ") for repeat in b.repeats]
    if not a.repeats or not b.repeats:
        return losses.Check(title, "NOTHING TO COMPARE", "one side has no finished repeat")
    return losses.check(title, sequences)


def _verdict(a: Cell, b: Cell, quotient: Ratio | None) -> str:
    missing = [name for name, cell in (("A", a), ("B", b)) if not samples(cell.repeats, "guest")]
    if missing:
        return f"no verdict: no measured step in {' and '.join(missing)}"
    reasons = [
        f"in {name} both nodes have the same speed"
        for name, cell in (("A", a), ("B", b))
        if not throttled(cell.repeats)
    ]
    if quotient is None:
        clocks = clock_of(a.repeats), clock_of(b.repeats)
        reasons.append(f"the clocks differ (A {clocks[0]}, B {clocks[1]})")
    used = [sorted({repeat.provenance.accelerator for repeat in cell.repeats}) for cell in (a, b)]
    if used[0] != used[1] or len(used[0]) > 1:
        reasons.append(f"the accelerators differ (A {', '.join(used[0])}; B {', '.join(used[1])})")
    if reasons or quotient is None:
        return f"no verdict: {'; '.join(reasons)}"
    if not quotient.excludes_one:
        return "no difference seen"
    return "slower" if quotient.value > 1 else "faster"


def _row(pair: Pair) -> dict[str, Any]:
    r = pair.ratio
    return {
        "a": pair.a.id,
        "b": pair.b.id,
        "label": pair.label,
        "matched": pair.matched,
        "differs": {key: list(values) for key, values in pair.differs.items()},
        "clock": pair.clock,
        "a_ns": pair.before.centre_ns if pair.before else None,
        "b_ns": pair.after.centre_ns if pair.after else None,
        "ratio": r.value if r else None,
        "ratio_low": r.low if r else None,
        "ratio_high": r.high if r else None,
        "repeats": r.repeats if r else 0,
        "losses": pair.losses.outcome,
        "losses_text": pair.losses.text,
        "verdict": pair.verdict,
    }
